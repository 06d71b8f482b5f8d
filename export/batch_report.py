"""What became of each build of a batch: kept beside the build, told on the terminal, and summed up in two reports.

    DIR/NAME/result.json   one build: its outcome, and the key that tells whether it is still the one asked for
    DIR/report.json        all builds, with versions and hardware; rewritten after each, so that it is never behind
    DIR/report.md          the same for people

Files are written beside their place and renamed, so a reader, or the next run after a crash, finds them whole.
"""

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Protocol

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.table import Table as RuledTable

from export.verify import ParityReport
from maskstream.errors import ArtifactError
from maskstream.tables import Table, print_table

FORMAT = "maskstream-batch"
REPORT, RESULT = "report.json", "result.json"
PENDING, PASSED, BUILT, NEEDS_GPU, FAILED = "pending", "passed", "built", "needs a GPU", "failed"
FINISHED = (PASSED, BUILT)  # built: made, but its engine does not run here, so nothing could be compared

_COLUMNS = ("build", "status", "MB", "seconds", "relative", "cosine", "IoU mean", "IoU least")
_STATUSES = (PASSED, BUILT, NEEDS_GPU, FAILED, PENDING)
_STYLES = {PASSED: "green", BUILT: "yellow", NEEDS_GPU: "yellow", FAILED: "red", PENDING: "dim"}
_LINE_SECONDS = 10.0
_ROWS_BELOW = 3  # builds to come that the terminal shows


@dataclass(frozen=True)
class Result:
    """The outcome of one build. Sizes in bytes; `artifact` is a folder, relative to the batch's."""

    name: str
    settings: dict[str, Any]
    status: str = PENDING
    artifact: str = ""
    artifact_version: str = ""
    precision: str = ""  # what its engine says it computes in
    bytes: int | None = None
    seconds: float | None = None
    parity: dict[str, Any] | None = None
    error: str = ""  # of a failed build; of one that was not compared, or not made here, why
    kept: bool = field(default=False, compare=False)  # from an earlier run of the same command

    def row(self) -> tuple[str, ...]:
        """Cells in the order of the columns; a dash where there is nothing to tell."""
        figures = ["-"] * 4
        if self.parity is not None:
            iou = self.parity["mask_iou"]
            figures = [f"{self.parity['relative_error']:.1e}", f"{self.parity['cosine']:.6f}"]
            figures += [f"{iou['mean']:.4f}", f"{iou['least']:.4f}"]
        size = "-" if self.bytes is None else f"{self.bytes / 1e6:.1f}"
        seconds = "-" if self.seconds is None else f"{self.seconds:.1f}"
        return (self.name, f"{self.status} (kept)" if self.kept else self.status, size, seconds, *figures)


def parity_figures(report: ParityReport) -> dict[str, Any]:
    """The worst figures of all outputs, then those of each output."""
    rows = report.worst()
    worst = {"relative_error": max(row.relative_error for row in rows), "cosine": min(row.cosine for row in rows)}
    return {**worst, **report.summary()}


@dataclass
class BatchReport:
    """All builds of a batch in `folder`; `about` says of which checkpoint, where and with what they were made."""

    folder: Path
    about: dict[str, Any]
    results: list[Result]

    def count(self, *statuses: str) -> int:
        """How many builds have one of these statuses."""
        return sum(result.status in statuses for result in self.results)

    @property
    def failed(self) -> bool:
        """Whether any build failed."""
        return self.count(FAILED) > 0

    def write(self) -> None:
        """Both files, whole or not at all."""
        counts = {status.replace(" ", "_").lower(): self.count(status) for status in _STATUSES}
        builds = [asdict(result) for result in self.results]
        write_json(self.folder / REPORT, {"format": FORMAT, **counts, "builds": builds, **self.about})
        _write_whole(self.folder / "report.md", self.markdown())

    def print(self) -> None:
        """The table, and under it what went wrong."""
        print_table(Table(_COLUMNS, [result.row() for result in self.results], text_columns=2))
        for result in self.results:
            if result.error:
                print(f"{result.name}: {result.error}")
        print(f"{self.folder}: {self.summary()}")

    def summary(self) -> str:
        """How many of each status, e.g. "3 passed, 1 failed"."""
        told = [f"{self.count(status)} {status}" for status in _STATUSES if self.count(status)]
        return ", ".join(told)

    def markdown(self) -> str:
        """The same as a page."""
        about = self.about
        lines = ["# Batch export", ""]
        lines += [f"Model {about['model']}, checkpoint {about['checkpoint']['file']} ({_short(about)}).", ""]
        lines += [_markdown_row(_COLUMNS), _markdown_row(["---", "---", *["---:"] * 6])]
        lines += [_markdown_row(result.row()) for result in self.results]
        lines += [
            "",
            "relative, cosine: the worst of any output, against torch. IoU: of masks along a clip, with torch's.",
        ]
        failed = [result for result in self.results if result.error]
        if failed:
            lines += ["", "## What went wrong, or was left out", ""]
            lines += [f"- **{result.name}**: {' '.join(result.error.split())}" for result in failed]
        return "\n".join([*lines, ""])


def read_report(folder: Path) -> list[Result]:
    """The builds of a batch. Raises ArtifactError for a file that is no such report."""
    file = folder / REPORT
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise KeyError("format")
        return [_result(record) for record in content["builds"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{file}: not the report of a batch export ({error!r})") from error


def write_result(folder: Path, key: dict[str, Any], result: Result) -> None:
    """Keep the outcome of a build in its folder."""
    write_json(folder / RESULT, {"key": key, **asdict(result)})


def kept_result(folder: Path, key: dict[str, Any]) -> Result | None:
    """The finished build in `folder`, if it was made under the same key; else it is to be made."""
    try:
        record = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        same = record["key"] == key and record["status"] in FINISHED
        return replace(_result(record), kept=True) if same else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_json(file: Path, content: dict[str, Any]) -> None:
    """JSON, whole or not at all."""
    _write_whole(file, json.dumps(content, indent=1, allow_nan=False) + "\n")


class View(Protocol):
    """Who watches a batch."""

    def begin(self, place: int, steps: int) -> None:
        """Build number `place` of the report starts; it has so many steps."""
        ...

    def step(self) -> None:
        """One of its steps is done."""
        ...

    def end(self) -> None:
        """Its result is in the report."""
        ...


@contextmanager
def watched(report: BatchReport) -> Iterator[View]:
    """A table that follows the builds on a terminal, plain lines elsewhere; on stderr."""
    if not sys.stderr.isatty():
        yield Lines(report)
        return
    console = Console(stderr=True)
    shown = LiveTable(report, console.height)
    with Live(get_renderable=shown.render, console=console, refresh_per_second=2, transient=True):
        yield shown


class Lines:
    """A line for each build when it is done, and one every few seconds while it is not."""

    def __init__(self, report: BatchReport) -> None:
        self._report = report
        self._place = self._steps = self._done = 0
        self._told = time.monotonic()

    def begin(self, place: int, steps: int) -> None:
        """See `View.begin`."""
        self._place, self._steps, self._done = place, steps, 0

    def step(self) -> None:
        """See `View.step`."""
        self._done += 1
        if time.monotonic() - self._told >= _LINE_SECONDS:
            self._tell(f"{self._done}/{self._steps} steps")

    def end(self) -> None:
        """See `View.end`."""
        result = self._report.results[self._place]
        error = f": {result.error}" if result.error else ""
        self._tell(f"{result.row()[1]}{error}, {result.seconds or 0.0:.1f} s")

    def _tell(self, what: str) -> None:
        self._told = time.monotonic()
        results = self._report.results
        line = f"[{self._place + 1}/{len(results)}] {results[self._place].name}: {what}"
        print(line, file=sys.stderr, flush=True)


class LiveTable:
    """The same table as at the end, as it fills: what was done last, what runs, what comes next."""

    def __init__(self, report: BatchReport, height: int) -> None:
        self._report, self._rows = report, max(_ROWS_BELOW + 2, height - 6)
        self._place = self._steps = self._done = 0
        self._since = time.monotonic()

    def begin(self, place: int, steps: int) -> None:
        """See `View.begin`."""
        self._place, self._steps, self._done, self._since = place, steps, 0, time.monotonic()

    def step(self) -> None:
        """See `View.step`."""
        self._done += 1

    def end(self) -> None:
        """See `View.end`."""
        self._steps = 0

    def render(self) -> RuledTable:
        """As much of the table as the terminal holds."""
        results = self._report.results
        shown = RuledTable(box=SIMPLE_HEAD, caption=self._report.summary(), caption_justify="left")
        for place, column in enumerate(_COLUMNS):
            shown.add_column(column, justify="right" if place > 1 else "left", no_wrap=True)
        last = min(len(results), max(self._rows, self._place + 1 + _ROWS_BELOW))
        for place in range(max(0, last - self._rows), last):
            result = results[place]
            runs = place == self._place and result.status == PENDING and self._steps > 0
            style = "bold" if runs else _STYLES[result.status]
            shown.add_row(*(self._running_row(result) if runs else result.row()), style=style)
        return shown

    def _running_row(self, result: Result) -> Sequence[str]:
        seconds = f"{time.monotonic() - self._since:.0f}"
        return (result.name, f"{self._done}/{self._steps} steps", "-", seconds, *["-"] * 4)


def _result(record: dict[str, Any]) -> Result:
    return Result(**{entry.name: record[entry.name] for entry in fields(Result)})


def _short(about: dict[str, Any]) -> str:
    return str(about["checkpoint"]["sha256"])[:12]


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _write_whole(file: Path, text: str) -> None:
    partial = file.with_name(f"{file.name}.partial")
    with partial.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(file)

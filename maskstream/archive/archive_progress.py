"""How far a run over an archive is: videos, frames, frames a second, and how long it will take.

Lengths of videos are not known before they are opened, but their bytes are; the bar and its estimate go by these. A
terminal gets a bar, a log a line every ten seconds, both on stderr.
"""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from maskstream.archive.jobs import FAILED, Beat, Job
from maskstream.archive.manifest import Record

_LINE_SECONDS = 10.0


def shown(name: str) -> str:
    """A name as any terminal can print it; a file's may hold bytes that are no text."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in name)


class ArchiveProgress:
    """Counts beats and records. `sizes` has the bytes of each video that is to be followed."""

    def __init__(self, sizes: Mapping[str, int], bar: Progress | None, quiet: bool) -> None:
        self._sizes = {name: max(1, size) for name, size in sizes.items()}
        self._total = sum(self._sizes.values())
        self._bar, self._quiet = bar, quiet
        self._task: TaskID | None = bar.add_task("track-many", total=self._total, said="") if bar else None
        self._under_way: dict[str, Beat] = {}
        self._videos = self._failed = self._frames = self._bytes = 0
        self._started = self._told = time.monotonic()

    def tell(self, line: str) -> None:
        """A line for people, above the bar or in the log. Nothing when it is to be quiet."""
        if self._quiet:
            return
        if self._bar is not None:
            self._bar.console.print(shown(line), markup=False, highlight=False, soft_wrap=True)
        else:
            print(shown(line), file=sys.stderr, flush=True)

    def on_beat(self, job: Job, beat: Beat) -> None:
        """A video has come so far."""
        self._under_way[job.video] = beat
        self._show()

    def on_record(self, record: Record) -> None:
        """A video has come to its end."""
        self._under_way.pop(record.video, None)
        self._videos += 1
        self._frames += record.frames
        self._bytes += self._sizes.get(record.video, 1)
        if record.state == FAILED:
            self._failed += 1
            self.tell(f"{record.video}: failed, {record.reason}: {record.error}")
        self._show()

    def line(self) -> str:
        """Where it stands, in words."""
        frames = self._frames + sum(beat.frames for beat in self._under_way.values())
        elapsed = max(1e-9, time.monotonic() - self._started)
        failed = f", {self._failed} failed" if self._failed else ""
        return f"{self._videos}/{len(self._sizes)} videos, {frames} frames, {frames / elapsed:.1f} frames/s{failed}"

    def _done_bytes(self) -> float:
        parts = (
            self._sizes[name] * min(1.0, beat.frames / beat.claimed)
            for name, beat in self._under_way.items()
            if beat.claimed
        )
        return self._bytes + sum(parts)

    def _show(self) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self._done_bytes(), said=self.line())
        elif time.monotonic() - self._told >= _LINE_SECONDS:
            self._told = time.monotonic()
            self.tell(f"track-many: {self.line()}{self._left()}")

    def _left(self) -> str:
        done = self._done_bytes() / max(1, self._total)
        seconds = (time.monotonic() - self._started) * (1 - done) / done if done > 0 else 0.0
        return f", about {seconds / 60:.0f} min left" if seconds >= 60 else ""


@contextmanager
def archive_progress(sizes: Mapping[str, int], quiet: bool) -> Iterator[ArchiveProgress]:
    """Show progress for as long as the `with` lasts."""
    if quiet or not sys.stderr.isatty():
        yield ArchiveProgress(sizes, None, quiet)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[said]}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        yield ArchiveProgress(sizes, bar, quiet)

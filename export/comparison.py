"""One row for each engine and precision of a checkpoint: size, times, errors against torch, masks, J&F on a dataset.

Rows are kept as they are measured, DATASET sequence by sequence, each under the key of what it was measured on: the
content of the artifact, the size, the machine's libraries. The same command goes on where it was stopped, and measures
again what has changed. Times are those of the tracker's own stages, so a row is what a user gets.
"""

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from export.batch_report import write_json
from export.following import Answer, follow, overlaps
from export.verify import ClipCheck, case_of, compare, drawn_clip
from maskstream.artifact import Artifact
from maskstream.commands.evaluate_report import build_report
from maskstream.dataset import AnnotatedSequence
from maskstream.engines import load_networks
from maskstream.evaluation import evaluate_sequence
from maskstream.moving_shapes import render
from maskstream.networks import Networks
from maskstream.tables import Table, print_table
from maskstream.tracker import Prompt, Tracker, TrackerSettings

STAGES = ("encode_frame", "encode_mask", "segment")
COLUMNS = ("engine", "precision", "MB", *(f"{stage} ms" for stage in STAGES), "step ms", "of torch")
COLUMNS += ("relative", "IoU mean", "IoU least", "J&F", "J", "F")
WARM_UP_FRAMES = 8  # the bank fills and engines settle


@dataclass(frozen=True)
class Bench:
    """What every row is measured on: frame size (height, width) in pixels, timed frames."""

    size: tuple[int, int] = (480, 854)
    frames: int = 20


@dataclass
class Row:
    """One engine and precision; times in milliseconds, medians; J&F in 0..100 by sequence."""

    engine: str
    precision: str  # of the artifact
    running: str = ""  # what the engine says it computes in
    bytes: int = 0  # of the three graphs; for torch, of the checkpoint
    ms: dict[str, float] = field(default_factory=dict)
    relative_error: float = 0.0
    worst_output: str = ""
    mask_iou: dict[str, float] = field(default_factory=dict)
    sequences: dict[str, dict[str, Any]] = field(default_factory=dict)
    error: str = ""  # why there are no figures

    @property
    def name(self) -> str:
        """Names its file."""
        return f"{self.engine}-{self.precision}"

    def scores(self, names: Sequence[str]) -> dict[str, float] | None:
        """jf, j, f as means over the objects of these sequences; None before all are measured."""
        found = [self.sequences[name] for name in names if name in self.sequences]
        objects = [one for sequence in found for one in sequence["objects"].values()]
        if len(found) < len(names) or not objects:
            return None
        return {key: round(sum(one[key] for one in objects) / len(objects), 2) for key in ("jf", "j", "f")}


class Comparison:
    """All rows, in the folder `out`; torch, which the others are held to, is the first of `rows`."""

    def __init__(self, artifacts: dict[str, Path], engines: Sequence[str], bench: Bench, out: Path) -> None:
        """`artifacts` by precision, all of one checkpoint; fp32 among them."""
        self._artifacts = {precision: Artifact.load(folder) for precision, folder in artifacts.items()}
        self._bench, self._rows_folder = bench, out / "rows"
        self._rows_folder.mkdir(parents=True, exist_ok=True)
        pairs = [("torch", "fp32"), *((engine, precision) for precision in artifacts for engine in engines)]
        self.rows = [Row(engine, precision) for engine, precision in dict.fromkeys(pairs)]

    def measure(
        self, place: int, sequences: Sequence[AnnotatedSequence], key: dict[str, Any], done: Callable[[], None]
    ) -> None:
        """Fill a row: what is kept under the same key is not measured again. Raises what its engine raises."""
        row = self.rows[place]
        artifact = self._artifacts[row.precision]
        key = {**key, "artifact": artifact.version, **asdict(self._bench), "size": list(self._bench.size)}
        row = self.rows[place] = _kept(self._file(row), key) or row
        missing = [sequence for sequence in sequences if sequence.name not in row.sequences]
        if row.ms and not missing:
            done()
            return
        networks = self._open(row)
        if not row.ms:
            self._measure(row, artifact, networks)
            write_json(self._file(row), {"key": key, **asdict(row)})
        done()
        for sequence in missing:
            result = build_report({sequence.name: evaluate_sequence(networks, sequence)}, False)
            row.sequences[sequence.name] = result["sequences"][sequence.name]
            write_json(self._file(row), {"key": key, **asdict(row)})
            done()

    def _open(self, row: Row) -> Networks:
        return self._reference if row.engine == "torch" else load_networks(self._folder(row), row.engine)

    def _measure(self, row: Row, artifact: Artifact, networks: Networks) -> None:
        row.running = networks.precision
        files = [artifact.checkpoint] if row.engine == "torch" else list(artifact.graphs.values())
        row.bytes = sum(file.stat().st_size for file in files)
        row.ms = stage_ms(networks, self._bench)
        worst = max(
            compare(self._reference, networks, case_of(networks.spec, self._bench.size, 1, 1)),
            key=lambda found: found.relative_error,
        )
        row.relative_error, row.worst_output = worst.relative_error, worst.output
        prompts, expected = self._expected
        frames, _ = drawn_clip(ClipCheck(self._bench.size))
        iou = overlaps(expected, follow(networks, frames, prompts), [prompt.object_id for prompt in prompts])
        row.mask_iou = {"mean": float(iou.mean()), "least": float(iou.min())}

    def _file(self, row: Row) -> Path:
        return self._rows_folder / f"{row.name}.json"

    def _folder(self, row: Row) -> Path:
        return self._artifacts[row.precision].folder

    @cached_property
    def _reference(self) -> Networks:
        return load_networks(self._artifacts["fp32"].folder, "torch")

    @cached_property
    def _expected(self) -> tuple[list[Prompt], list[Answer]]:
        frames, prompts = drawn_clip(ClipCheck(self._bench.size))
        return prompts, follow(self._reference, frames, prompts)


def stage_ms(networks: Networks, bench: Bench) -> dict[str, float]:
    """Median milliseconds of each graph and of a whole step, one object, over the drawn clip."""
    clip = render(WARM_UP_FRAMES + bench.frames, bench.size, num_objects=1)
    tracker = Tracker(networks, TrackerSettings(short_side=min(bench.size)))
    seconds: dict[str, list[float]] = {name: [] for name in (*STAGES, "step")}
    for index, frame in enumerate(clip.frames):
        answer = tracker.step(frame, [Prompt(1, clip.id_maps[0] == 1)] if index == 0 else [])
        if index >= WARM_UP_FRAMES:
            for name in STAGES:
                seconds[name].append(answer.stage_seconds[name])
            seconds["step"].append(sum(answer.stage_seconds.values()))
    tracker.close()
    return {name: round(1e3 * statistics.median(found), 2) for name, found in seconds.items()}


def cells(rows: Sequence[Row], sequences: Sequence[str]) -> list[tuple[str, ...]]:
    """The rows of the table, in the order of `COLUMNS`; a dash where nothing was measured."""
    torch_ms = next((row.ms["step"] for row in rows if row.engine == "torch" and row.ms), None)
    return [_cells(row, sequences, torch_ms) for row in rows]


def print_rows(rows: Sequence[Row], sequences: Sequence[str]) -> None:
    """The table, and under it why a row is empty."""
    print_table(Table(COLUMNS, cells(rows, sequences), text_columns=2))
    for row in rows:
        if row.error:
            print(f"{row.name}: {row.error}")


def as_markdown(rows: Sequence[Row], sequences: Sequence[str]) -> str:
    """The same as a page's table."""
    lines = [COLUMNS, ("---", "---", *["---:"] * (len(COLUMNS) - 2)), *cells(rows, sequences)]
    errors = [f"\n{row.name}: {' '.join(row.error.split())}" for row in rows if row.error]
    return "\n".join([*(f"| {' | '.join(line)} |" for line in lines), *errors, ""])


def _cells(row: Row, sequences: Sequence[str], torch_ms: float | None) -> tuple[str, ...]:
    precision = row.precision if row.running in ("", row.precision) else f"{row.precision} ({row.running})"
    if not row.ms:
        return (row.engine, precision, *["-"] * (len(COLUMNS) - 2))
    times = [f"{row.ms[name]:.1f}" for name in (*STAGES, "step")]
    ratio = f"{torch_ms / row.ms['step']:.2f}x" if torch_ms else "-"
    errors = [f"{row.relative_error:.1e}", f"{row.mask_iou['mean']:.4f}", f"{row.mask_iou['least']:.4f}"]
    scores = row.scores(sequences) if sequences else None
    judged = [f"{scores[key]:.2f}" for key in ("jf", "j", "f")] if scores else ["-"] * 3
    return (row.engine, precision, f"{row.bytes / 1e6:.1f}", *times, ratio, *errors, *judged)


def _kept(file: Path, key: dict[str, Any]) -> Row | None:
    """The row in `file` if it was measured under this key."""
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        return Row(**record) if record.pop("key") == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None

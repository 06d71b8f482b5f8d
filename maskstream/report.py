"""What commands print and write: percentiles of stage times, plain-text tables, JSON with its provenance.

A table is text, the same on a terminal and in a log; the JSON file holds what was printed and where it comes from.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from maskstream.provenance import provenance

STAGES = ("queue", "decode", "resize", "encode_frame", "segment", "encode_mask", "finish", "encode", "total")
STDOUT = Path("-")  # what --json and its like write to standard output
_PERCENTILES = (50, 95, 99)


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """p50_ms, p95_ms and p99_ms of durations in seconds. Raises ValueError when there are none."""
    if not len(seconds):
        raise ValueError("no duration to take percentiles of")
    values = np.percentile(np.asarray(seconds, dtype=np.float64) * 1e3, _PERCENTILES)
    return {f"p{rank}_ms": round(float(value), 3) for rank, value in zip(_PERCENTILES, values, strict=True)}


class StageTimes:
    """Durations of the stages of many frames."""

    def __init__(self) -> None:
        self._seconds: dict[str, list[float]] = {}

    def add(self, stage_seconds: Mapping[str, float]) -> None:
        """Count one frame's stages."""
        for stage, seconds in stage_seconds.items():
            self._seconds.setdefault(stage, []).append(seconds)

    def percentiles(self) -> dict[str, dict[str, float]]:
        """By stage, in the order a frame goes through them; stages not known here come last."""
        known = [stage for stage in STAGES if stage in self._seconds]
        others = [stage for stage in self._seconds if stage not in STAGES]
        return {stage: percentiles(self._seconds[stage]) for stage in (*known, *others)}


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns lined up, the first to the left and the others to the right; None is shown as a dash."""
    cells = [[*headers], *([_cell(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [_line(row, widths) for row in cells]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def stage_table(stages: Mapping[str, Mapping[str, float]]) -> str:
    """The latency table of a run."""
    return table(["stage", "p50 ms", "p95 ms", "p99 ms"], [[stage, *times.values()] for stage, times in stages.items()])


def score_table(scores: Mapping[str, Any]) -> str:
    """Scores of a sequence (as `scores.sequence_as_percent` gives them) by object, and their mean."""
    rows = [[f"object {i}", *(values[key] for key in ("jf", "j", "f"))] for i, values in scores["objects"].items()]
    return table(["", "J&F", "J", "F"], [*rows, ["mean", scores["jf"], scores["j"], scores["f"]]])


def write_report(path: Path, printed: Mapping[str, Any]) -> None:
    """Write `printed` with versions, hardware and git revision as JSON; the folder is made if need be.

    STDOUT is standard output. Raises ValueError for what JSON cannot hold.
    """
    text = json.dumps({**printed, **provenance()}, indent=2, allow_nan=False) + "\n"
    if path == STDOUT:
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    texts = [text.rjust(width) for text, width in zip(row, widths, strict=True)]
    return "  ".join([row[0].ljust(widths[0]), *texts[1:]]).rstrip()

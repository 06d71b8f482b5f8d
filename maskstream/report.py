"""What commands print and write: percentiles of stage times, tables of them, JSON with its provenance.

The JSON file holds what was printed and where it comes from.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from maskstream.provenance import provenance
from maskstream.tables import Table

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


def stage_table(stages: Mapping[str, Mapping[str, float]]) -> Table:
    """The latency table of a run."""
    return Table(["stage", "p50 ms", "p95 ms", "p99 ms"], [[stage, *times.values()] for stage, times in stages.items()])


def score_table(scores: Mapping[str, Any]) -> Table:
    """Scores of a sequence (as `scores.sequence_as_percent` gives them) by object, and their mean."""
    rows = [[f"object {i}", *(values[key] for key in ("jf", "j", "f"))] for i, values in scores["objects"].items()]
    return Table(["", "J&F", "J", "F"], [*rows, ["mean", scores["jf"], scores["j"], scores["f"]]])


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

"""Figures of a load: percentiles over all frames (few enough to keep), fairness, a slope with its confidence."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from maskstream.load.frame_record import ANSWERED, DROPPED, LOST, NOT_SENT, REFUSED, FrameRecord, StreamRecord
from maskstream.report import STAGES

RANKS = (50, 90, 95, 99, 99.9)
MIB = 2**20
_HOUR_SECONDS = 3600.0
_CONFIDENCE = 1.96  # standard errors either side, for 95%
_FEWEST_SAMPLES = 8  # for a slope


def percentiles(seconds: Sequence[float]) -> dict[str, float] | None:
    """p50_ms to p99.9_ms and max_ms of durations in seconds; None when there are none."""
    if not len(seconds):
        return None
    values = np.asarray(seconds, dtype=np.float64) * 1e3
    ranks = zip(RANKS, np.percentile(values, RANKS), strict=True)
    return {f"p{rank}_ms": round(float(value), 3) for rank, value in ranks} | {"max_ms": round(float(values.max()), 3)}


def stage_percentiles(frames: Iterable[FrameRecord]) -> dict[str, dict[str, float]]:
    """The server's own times of answered frames, by stage."""
    rows = [frame.stages for frame in frames if frame.stages]
    columns = zip(*rows, strict=True)
    named = {stage: percentiles(column) for stage, column in zip(STAGES, columns, strict=False)}
    return {stage: values for stage, values in named.items() if values}


def jain_index(amounts: Sequence[float]) -> float:
    """1 when all got the same, 1/n when one got all."""
    total = sum(amounts)
    return 1.0 if total == 0 else total**2 / (len(amounts) * sum(amount**2 for amount in amounts))


def batch_sizes(frames: Iterable[FrameRecord]) -> dict[str, Any]:
    """Mean over frames, and frames by the size of the batch that they went through in."""
    counted = Counter(frame.batch_size for frame in frames if frame.batch_size)
    total = counted.total()
    mean = sum(size * frames for size, frames in counted.items()) / total if total else 0.0
    return {"mean": round(mean, 3), "frames": {str(size): counted[size] for size in sorted(counted)}}


@dataclass(frozen=True)
class Slope:
    """A straight line through samples over time, and how far off its slope may be (95%)."""

    per_hour: float
    confidence: float


def slope(samples: Sequence[tuple[float, float]]) -> Slope | None:
    """Least squares over (seconds, value). None with too few samples.

    Memory moves in steps, and a sample is much like the one before it: n samples with autocorrelation r of their
    residuals tell as much as n (1 - r) / (1 + r) independent ones, and the confidence says so.
    """
    if len(samples) < _FEWEST_SAMPLES:
        return None
    times, values = np.asarray(samples, dtype=np.float64).T
    times = times - times.mean()
    spread = float((times**2).sum())
    rise = float((times * values).sum()) / spread
    residuals = values - values.mean() - rise * times
    variance = float((residuals**2).sum())
    if variance == 0:
        return Slope(rise * _HOUR_SECONDS, 0.0)
    correlation = float(np.clip((residuals[1:] * residuals[:-1]).sum() / variance, 0.0, 0.99))
    effective = max(3.0, len(samples) * (1 - correlation) / (1 + correlation))
    error = (variance / (spread * (effective - 2))) ** 0.5
    return Slope(rise * _HOUR_SECONDS, _CONFIDENCE * error * _HOUR_SECONDS)


def memory_figures(samples: Sequence[tuple[float, float]]) -> dict[str, Any] | None:
    """Resident memory in MiB and MiB an hour; None without samples."""
    if not samples:
        return None
    line = slope(samples)
    return {
        "start_mib": round(samples[0][1] / MIB, 2),
        "end_mib": round(samples[-1][1] / MIB, 2),
        "peak_mib": round(max(value for _, value in samples) / MIB, 2),
        "slope_mib_per_hour": None if line is None else round(line.per_hour / MIB, 3),
        "slope_confidence_mib_per_hour": None if line is None else round(line.confidence / MIB, 3),
        "samples": len(samples),
    }


def frame_counts(records: Iterable[StreamRecord]) -> dict[str, Any]:
    """Each offered frame once, by what became of it; dropped, refused, unsent and lost ones by reason."""
    counted: dict[str, Counter[str]] = {outcome: Counter() for outcome in (ANSWERED, DROPPED, REFUSED, NOT_SENT, LOST)}
    for record in records:
        for outcome, reasons in counted.items():
            reasons.update(record.reasons(outcome))
    return totals(counted)


def totals(counted: dict[str, Counter[str]]) -> dict[str, Any]:
    """As `frame_counts` gives them."""
    numbers = {outcome: reasons.total() for outcome, reasons in counted.items()}
    return {
        "offered": sum(numbers.values()),
        "sent": sum(numbers.values()) - numbers[NOT_SENT],
        ANSWERED: numbers[ANSWERED],
        DROPPED: dict(counted[DROPPED]),
        REFUSED: dict(counted[REFUSED]),
        NOT_SENT: dict(counted[NOT_SENT]),
        LOST: numbers[LOST],
    }

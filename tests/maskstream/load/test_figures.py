"""Figures against hand-computed cases."""

import numpy as np
import pytest

from maskstream.load import figures
from maskstream.load.frame_record import ANSWERED, DROPPED, LOST, NOT_SENT, REFUSED, FrameRecord, StreamRecord


def test_percentiles_are_exact() -> None:
    found = figures.percentiles([each / 1e3 for each in range(1, 1002)])
    assert found == {"p50_ms": 501.0, "p90_ms": 901.0, "p95_ms": 951.0, "p99_ms": 991.0, "p99.9_ms": 1000.0} | {
        "max_ms": 1001.0
    }
    assert figures.percentiles([]) is None


def test_fairness() -> None:
    assert figures.jain_index([5, 5, 5, 5]) == 1.0
    assert figures.jain_index([8, 0, 0, 0]) == 0.25
    assert figures.jain_index([3, 1]) == pytest.approx(16 / 20)
    assert figures.jain_index([0, 0]) == 1.0


def test_stages_and_batches_of_answered_frames() -> None:
    frames = [FrameRecord(0.0, stages=tuple(0.001 * (k + i) for k in range(9)), batch_size=1 + i) for i in (0, 1, 1)]
    frames.append(FrameRecord(0.0))  # dropped: it has none
    stages = figures.stage_percentiles(frames)
    assert next(iter(stages)) == "queue"
    assert stages["queue"]["p50_ms"] == 1.0
    assert stages["total"]["max_ms"] == 9.0
    assert figures.batch_sizes(frames) == {"mean": 1.667, "frames": {"1": 1, "2": 2}}


def test_every_frame_is_counted_once() -> None:
    records = []
    for outcomes in ((ANSWERED, DROPPED, DROPPED), (REFUSED, NOT_SENT, LOST)):
        frames = [FrameRecord(0.0, sent=None if outcome == NOT_SENT else 0.0) for outcome in outcomes]
        for frame, outcome in zip(frames, outcomes, strict=True):
            frame.end(outcome, "R")
        records.append(StreamRecord(frames))
    counted = figures.frame_counts(records)
    assert counted == {"offered": 6, "sent": 5, "answered": 1, "dropped": {"R": 2}, "refused": {"R": 1}} | {
        "not_sent": {"R": 1}, "lost": 1
    }  # fmt: skip


def test_slope_of_a_line_is_exact_and_sure() -> None:
    line = figures.slope([(float(t), 100.0 + 2 * t) for t in range(20)])
    assert line is not None
    assert line.per_hour == pytest.approx(7200.0)
    assert line.confidence == pytest.approx(0.0, abs=1e-6)
    assert figures.slope([(0.0, 1.0), (1.0, 2.0)]) is None


def test_confidence_covers_the_truth_and_knows_that_neighbours_are_alike() -> None:
    dice = np.random.default_rng(1)
    covered, widths = {0.0: 0, 0.9: 0}, {0.0: 0.0, 0.9: 0.0}
    for _ in range(200):
        for correlation in covered:
            noise = [0.0]
            for step in dice.standard_normal(240):
                noise.append(correlation * noise[-1] + step)
            line = figures.slope([(10.0 * i, 50 + 0.001 * 10 * i + each) for i, each in enumerate(noise)])
            assert line is not None
            covered[correlation] += abs(line.per_hour - 3.6) <= line.confidence
            widths[correlation] += line.confidence
    assert covered[0.0] >= 180
    assert covered[0.9] >= 170
    assert widths[0.9] > 2 * widths[0.0]


def test_memory_figures() -> None:
    samples = [(600.0 * i, (100 + i) * 2.0**20) for i in range(13)]  # 1 MiB in 10 minutes
    found = figures.memory_figures(samples)
    assert found is not None
    assert (found["start_mib"], found["end_mib"], found["peak_mib"]) == (100.0, 112.0, 112.0)
    assert found["slope_mib_per_hour"] == pytest.approx(6.0)
    assert figures.memory_figures([]) is None

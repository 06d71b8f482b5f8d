"""A soak of seconds, and the figures that a long one is for."""

import json
import os
from dataclasses import replace

import pytest
from fakes import FakeNetworks
from served import Start

from maskstream.load.encoded_clip import encoded_clip
from maskstream.load.endpoint import Endpoint
from maskstream.load.frame_record import ANSWERED, DROPPED, FrameRecord
from maskstream.load.soak import SoakPlan, paired_steps, run_soak, step_times


def frame(step_ms: float, outcome: str = ANSWERED) -> FrameRecord:
    """Its time is all in the stage `segment`; the queue before it does not count."""
    record = FrameRecord(0.0, stages=(9.0, 9.0, 0.0, 0.0, step_ms / 1e3, 0.0, 0.0, 9.0, 99.0))
    record.end(outcome, now=1.0)
    return record


def test_steps_of_both_ends_are_compared() -> None:
    frames = [frame(500.0)] * 20 + [frame(100.0)] * 1000 + [frame(150.0)] * 500 + [frame(104.0)] * 1000
    found = step_times([*frames, frame(7.0, DROPPED)])
    assert found == {"frames": 2500, "window": 1000, "first_p50_ms": 100.0, "last_p50_ms": 104.0} | {
        "last_over_first": 1.04
    }
    assert step_times([frame(1.0)] * 61)["window"] == 20
    assert step_times([frame(1.0)] * 21) is None


def test_two_streams_are_compared_over_the_same_minutes() -> None:
    old = [frame(900.0)] * 20 + [frame(110.0)] * 50
    new = [frame(1.0)] * 20 + [frame(100.0)] * 40
    expected = {"frames": 40, "old_p50_ms": 110.0, "new_p50_ms": 100.0, "old_over_new": 1.1}
    assert paired_steps([*old, frame(7.0, DROPPED)], new) == expected
    assert paired_steps(old[:20], new) is None


def test_a_short_soak_loses_nothing_and_frees_everything(start: Start) -> None:
    server = start(FakeNetworks(delay_seconds=0.002), max_streams=3)
    endpoint = replace(Endpoint(server.server.listen), pid=os.getpid())
    report = run_soak(endpoint, SoakPlan(minutes=0.06, fps=20.0, memory_seconds=0.1), encoded_clip((64, 96), 1))
    assert report["lost"] == 0
    assert report["disagreements"] == []
    assert not report["stopped_early"]
    assert report["lossless"]["answered"] == report["lossless"]["offered"] > 100
    assert report["latest"]["offered"] == 72
    assert report["churn"]["streams"] >= 4
    assert set(report["churn"]["ends"]) <= {"OK", "CANCELLED", "SERVER_FULL"}
    assert report["memory"]["samples"] < len(report["memory_samples"]), "the beginning does not count"
    assert report["memory"]["slope_mib_per_hour"] is not None
    assert report["step"]["window"] > 20
    assert 0.5 < report["beside_a_new_stream"]["old_over_new"] < 2.0
    json.dumps(report, allow_nan=False)


def test_a_soak_ends_when_its_stream_does(start: Start) -> None:
    networks = FakeNetworks()
    # No slot for the churn, which may fail without an end to the soak; and what fails in a batch is tried again alone.
    server = start(networks, max_streams=2, max_batch=1)
    networks.failure = RuntimeError("broken")
    report = run_soak(Endpoint(server.server.listen), SoakPlan(minutes=0.5), encoded_clip((64, 96), 1))
    assert report["stopped_early"]
    assert report["minutes"] < 0.4
    assert "ENGINE_FAILED" in (report["lossless"]["error"], report["latest"]["error"])


def test_what_cannot_begin_raises(start: Start) -> None:
    from maskstream.errors import ServerFull

    with pytest.raises(ServerFull):
        run_soak(Endpoint(start(max_streams=1).server.listen), SoakPlan(minutes=0.01), encoded_clip((64, 96), 1))

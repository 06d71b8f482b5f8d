"""The comparison with the bare tracker, on fakes whose costs are known."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

import pytest
from fakes import FakeNetworks
from served import Start

from maskstream.artifact import default_artifact
from maskstream.engines import load_networks
from maskstream.load.encoded_clip import encoded_clip
from maskstream.load.endpoint import Endpoint
from maskstream.load.overhead import OverheadError, _asking, _round, _undisturbed, bare_tracker, compare
from maskstream.load.tracker_rounds import RoundsRequest, step_seconds

REQUEST = RoundsRequest("nowhere", "onnxruntime", 0, 64, 96, 1, 64)


def test_a_round_compares_frames_per_second_and_latency() -> None:
    found = _round(tracker=[0.1] * 20, served=[0.11] * 20, one_by_one=[0.103] * 20, around=[0.002] * 20)
    assert found["fps_ratio"] == pytest.approx(0.1 / 0.11, abs=1e-4)
    assert found["added_p50_ms"] == pytest.approx(3.0)
    assert found["around_p50_ms"] == pytest.approx(2.0)


def test_what_disturbs_part_of_the_time_does_not_count_in_the_better_quarter() -> None:
    quiet = {"tracker": [0.1] * 16, "served": [0.105] * 16, "one_by_one": [0.102] * 16}
    noisy = {name: [3 * each for each in seconds] for name, seconds in quiet.items()}
    found = _undisturbed([quiet, noisy, noisy, quiet, noisy])
    assert found["fps_ratio"] == pytest.approx(0.1 / 0.105, abs=1e-4)
    assert found["added_ms"] == pytest.approx(2.0)


def test_the_bare_tracker_steps_a_new_stream_each_round() -> None:
    networks = FakeNetworks(delay_seconds=0.003)
    clip = encoded_clip((64, 96), 2)
    seconds = step_seconds(networks, clip, 5, short_side=64)
    assert len(seconds) == 5
    assert min(seconds) > 0.003


def test_a_server_is_compared_with_its_tracker(start: Start) -> None:
    clip = encoded_clip((64, 96), 1)
    server = start(FakeNetworks(delay_seconds=0.01), short_side=64)
    asked = []

    def rounds(frames: int) -> Sequence[float]:
        asked.append(frames)
        return step_seconds(FakeNetworks(delay_seconds=0.01), clip, frames, short_side=64)

    report = compare(Endpoint(server.server.listen), clip, rounds, count=2, part_seconds=0.1)
    assert asked == [20, 20, 20]
    assert len(report["rounds"]) == 2
    assert 0.2 < report["fps_ratio"] < 1.1
    assert report["latency_p50_ms"] > 10.0
    assert 0 < report["around_p50_ms"] < report["latency_p50_ms"] - 10.0
    assert report["added_p50_ms_least"] <= report["added_p50_ms"] <= report["added_p50_ms_most"]
    json.dumps(report, allow_nan=False)


def test_an_unanswered_frame_spoils_the_comparison(start: Start) -> None:
    networks = FakeNetworks()
    server = start(networks)
    networks.failure = RuntimeError("broken")
    with pytest.raises(OverheadError, match="ENGINE_FAILED"):
        compare(Endpoint(server.server.listen), encoded_clip((64, 96), 1), lambda n: [0.01] * n, 1, 0.1)


def test_a_tracker_that_cannot_run_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(OverheadError, match="ended"), bare_tracker(REQUEST, ("onnxruntime", "fp32")):
        pass
    assert "nowhere" in capfd.readouterr().err


def test_the_tracker_runs_what_the_server_runs() -> None:
    artifact = default_artifact()
    request = replace(REQUEST, artifact=str(artifact))
    with bare_tracker(request, ("onnxruntime", load_networks(artifact, "onnxruntime").precision)) as rounds:
        started = time.perf_counter()
        seconds = rounds(3)
        assert len(seconds) == 3
        assert 0 < sum(seconds) < time.perf_counter() - started
        assert len(rounds(1)) == 1
    with pytest.raises(OverheadError, match="the server openvino int4"), bare_tracker(request, ("openvino", "int4")):
        pass


def test_a_tracker_that_dies_between_rounds_is_said() -> None:
    with (
        subprocess.Popen(
            [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process,
        pytest.raises(OverheadError, match="ended"),
    ):
        _asking(process.stdin, process.stdout)(1)

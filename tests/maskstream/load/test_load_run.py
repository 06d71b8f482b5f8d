"""Whole loads on a real server with fake networks, and the report that is made of them."""

import json
from dataclasses import replace
from typing import Any

import pytest
from fakes import FakeNetworks
from served import Running, Start

from maskstream.load.encoded_clip import EncodedClip, encoded_clip
from maskstream.load.endpoint import Endpoint
from maskstream.load.frame_record import ANSWERED, LOST
from maskstream.load.hostile import KINDS
from maskstream.load.load_report import answered_fps, load_report
from maskstream.load.load_run import run_load
from maskstream.load.load_table import load_table, remarks, stages_table
from maskstream.load.plan import Load

SMALL = Load(streams=2, fps=40.0, size=(64, 96), duration_seconds=0.8, warm_up_seconds=0.2)


@pytest.fixture(scope="module")
def clip() -> EncodedClip:
    return encoded_clip((64, 96), 1)


def endpoint_of(server: Running) -> Endpoint:
    return Endpoint(server.server.listen, http=server.server.http)


def test_a_load_within_reach_has_every_frame_answered(running: Running, clip: EncodedClip) -> None:
    report = load_report(run_load(endpoint_of(running), replace(SMALL, delivery="lossless"), clip), capacity_fps=100.0)
    assert report["frames"] == {"offered": 80, "sent": 80, "answered": 80, "lost": 0} | {
        "dropped": {}, "refused": {}, "not_sent": {}
    }  # fmt: skip
    assert (report["offered_fps"], report["load"], report["drop_share"]) == (80.0, 0.8, 0.0)
    assert report["answered_fps"] == pytest.approx(80, rel=0.1)
    assert report["fairness"]["jain"] > 0.99
    assert report["latency"]["p50_ms"] <= report["latency"]["p99_ms"] <= report["latency"]["max_ms"]
    assert report["stages"]["total"]["p50_ms"] <= report["latency"]["p50_ms"]
    periods = report["latency"]["p99_ms"] / 1e3 * 100 / 2
    assert report["age_p99_periods"] == pytest.approx(periods, abs=0.001)
    assert report["health"]["failed"] == 0
    assert report["health"]["checks"] >= 4
    assert report["metrics_agree"] is True
    assert report["disagreements"] == []
    assert report["cpu"]["client_seconds"] > 0
    json.dumps(report, allow_nan=False)


def test_overload_of_live_streams_is_dropped_evenly_and_told(start: Start, clip: EncodedClip) -> None:
    server = start(FakeNetworks(delay_seconds=0.02), max_batch=1)
    report = load_report(run_load(endpoint_of(server), replace(SMALL, streams=3, fps=60.0), clip))
    frames = report["frames"]
    assert frames["lost"] == 0
    assert frames["dropped"]["SUPERSEDED"] > 20
    assert frames["answered"] + sum(frames["dropped"].values()) + sum(frames["not_sent"].values()) == 180
    assert 0.3 < report["drop_share"] < 0.95
    assert report["answered_fps"] < 50
    assert report["fairness"]["jain"] > 0.9
    assert report["metrics_agree"] is True
    assert report["load"] is None


def test_a_closed_loop_shows_what_the_server_can_do(start: Start, clip: EncodedClip) -> None:
    server = start(FakeNetworks(delay_seconds=0.02), max_batch=1)
    outcome = run_load(endpoint_of(server), replace(SMALL, delivery="lossless"), clip, closed_loop=True)
    assert 15 < answered_fps(outcome) < 50, "20 ms a frame and what is around it"
    assert load_report(outcome)["frames"]["lost"] == 0


def test_streams_that_are_refused_are_reported(start: Start, clip: EncodedClip) -> None:
    report = load_report(run_load(endpoint_of(start(max_streams=1)), SMALL, clip))
    assert report["stream_errors"] == {"SERVER_FULL": 1}
    assert report["frames"]["not_sent"]["SERVER_FULL"] == 40
    assert report["frames"]["lost"] == 0
    assert report["fairness"]["least_answered"] == 0
    assert report["fairness"]["jain"] == 0.5


def test_a_server_that_counts_otherwise_is_found_out(running: Running, clip: EncodedClip) -> None:
    outcome = run_load(endpoint_of(running), replace(SMALL, duration_seconds=0.3), clip)
    assert load_report(outcome)["metrics_agree"] is True
    counts = dict(outcome.counts_after)
    counts["maskstream_frames_total", "answered"] -= 1
    few = load_report(replace(outcome, counts_after=counts))
    assert few["metrics_agree"] is False
    assert len(few["disagreements"]) == 1
    outcome.records[0].closed.frames_dropped += 1
    assert any("stream 0" in text for text in load_report(outcome)["disagreements"])
    outcome.records[1].closed = None
    assert any("without Closed" in text for text in load_report(outcome)["disagreements"])


def test_without_metrics_there_is_nothing_to_compare(running: Running, clip: EncodedClip) -> None:
    report = load_report(run_load(Endpoint(running.server.listen), replace(SMALL, duration_seconds=0.2), clip))
    assert report["metrics_agree"] is None
    assert report["memory"] is None
    assert report["cpu"]["server_seconds"] is None
    assert report["disagreements"] == []


def test_hostile_clients_harm_nobody_and_are_not_counted(start: Start, clip: EncodedClip) -> None:
    server = start(max_streams=12)
    load = replace(SMALL, delivery="lossless", fps=20.0, duration_seconds=2.0, hostile=tuple(KINDS))
    report = load_report(run_load(endpoint_of(server), load, clip))
    assert report["frames"]["answered"] == report["frames"]["offered"] == 2 * 44
    assert set(report["hostile"]) == set(KINDS)
    assert all(client["streams"] >= 1 for client in report["hostile"].values())
    assert report["hostile"]["canceller"]["streams"] > 2
    assert report["hostile"]["garbage"]["ends"]
    assert report["health"]["failed"] == 0
    assert report["metrics_agree"] is True, "the server may count more, never less"


def test_tables_and_remarks_show_what_is_in_the_report(running: Running, clip: EncodedClip) -> None:
    outcome = run_load(endpoint_of(running), replace(SMALL, duration_seconds=0.3), clip)
    frame = next(frame for frame in outcome.records[0].frames if frame.outcome == ANSWERED)
    frame.end(LOST)
    report = load_report(outcome, capacity_fps=160.0)
    first_line: list[Any] = str(load_table([report])).splitlines()[2].split()
    assert first_line[:3] == ["0.50x", "2", "80.00"]
    assert first_line[-1] == "1"
    assert len(str(stages_table([report, report])).splitlines()) == 2 + 9
    said = remarks(report)
    assert any(text.startswith("LOST: 1 ") for text in said)
    assert any(text.startswith("MISMATCH: ") for text in said)

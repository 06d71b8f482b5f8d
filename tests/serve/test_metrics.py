"""Metrics on a private registry: what a served stream leaves there, and that labels stay few."""

import time
import urllib.error
import urllib.request

import pytest
from fakes import FakeNetworks
from google.protobuf.timestamp_pb2 import Timestamp
from prometheus_client import CollectorRegistry, generate_latest
from served import TIMEOUT, eventually, prompt, square

from serve.metrics import BUCKETS_SECONDS, STAGES, Metrics

A = square(16, 16)


def get(running, path):
    with urllib.request.urlopen(f"http://{running.server.http}{path}", timeout=5) as response:
        return response.read().decode()


def serve_some(running, num_frames=5):
    stream = running.stream()
    captured = Timestamp()
    captured.FromNanoseconds(time.time_ns() - 50_000_000)
    for _ in range(num_frames):
        stream.frame(prompts=[prompt(1, A)], capture_time=captured)
    stream.half_close()
    stream.rest()


def test_every_stage_of_every_frame_is_observed(running):
    serve_some(running)
    assert set(STAGES) == {
        "queue", "decode", "resize", "encode_frame", "segment", "encode_mask", "finish", "encode", "total"
    }  # fmt: skip
    for stage in STAGES:
        assert running.sample("stage_seconds_count", stage=stage) == 5
        assert running.sample("stage_seconds_sum", stage=stage) > 0
    assert running.sample("frame_seconds_count", policy="lossless") == 5
    assert running.sample("frame_age_seconds_count") == 5
    assert running.sample("frame_age_seconds_sum") > 5 * 0.05
    assert running.sample("frames_total", outcome="answered") == 5
    assert running.sample("streams_total", end_reason="closed") == 1


def test_gauges_tell_what_is_held_now(running):
    assert running.sample("stream_slots") == 8
    assert running.sample("streams_active") == 0
    assert running.sample("memory_bank_limit_bytes") == 2**30
    stream = running.stream()
    stream.frame(prompts=[prompt(1, A), prompt(2, square(32, 64))])
    stream.receive("result")
    assert running.sample("streams_active") == 1
    assert running.sample("objects_active") == 2
    assert running.sample("memory_bank_bytes") > 0
    assert running.sample("warmup_seconds") > 0


def test_evictions_and_skipped_writes_are_counted(running):
    stream = running.stream(max_in_flight=8)
    for _ in range(30):
        stream.frame(prompts=[prompt(1, A)])
    stream.half_close()
    stream.rest()
    assert running.sample("memory_evictions_total", role="permanent") == 28


def test_build_info_names_what_runs(running):
    labels = {"version": "1.2", "model": "fake", "model_version": "abc", "backend": "fake", "precision": "fp32"}
    assert running.sample("build_info", **labels) == 1


def test_the_loop_and_the_engine_are_watched(start):
    running = start(FakeNetworks(delay_seconds=0.005))
    serve_some(running, 20)
    eventually(lambda: running.sample("loop_lag_seconds_count") >= 10)
    eventually(lambda: running.sample("engine_busy_ratio") > 0)


def test_buckets_hold_the_frame_budgets():
    assert {0.0167, 0.0333, 0.0667} <= set(BUCKETS_SECONDS)
    assert sorted(set(BUCKETS_SECONDS)) == list(BUCKETS_SECONDS)


def test_no_label_names_a_stream_or_an_object(running):
    serve_some(running)
    before = len(generate_latest(running.registry).splitlines())
    for _ in range(3):
        serve_some(running)
    assert len(generate_latest(running.registry).splitlines()) == before


def test_two_registries_do_not_meet():
    first, second = CollectorRegistry(), CollectorRegistry()
    Metrics(first).frames.labels("answered").inc()
    Metrics(second)
    assert second.get_sample_value("maskstream_frames_total", {"outcome": "answered"}) is None


def test_http_shows_metrics_and_probes(running):
    assert "maskstream_stream_slots 8.0" in get(running, "/metrics")
    assert get(running, "/livez") == get(running, "/readyz?verbose") == "ok\n"
    with pytest.raises(urllib.error.HTTPError, match="404") as caught:
        get(running, "/")
    caught.value.close()


def test_a_draining_server_is_alive_but_not_ready(running):
    stream = running.stream()
    drained = running.start_drain()
    stream.receive("draining")
    assert get(running, "/livez") == "ok\n"
    with pytest.raises(urllib.error.HTTPError, match="503") as caught:
        get(running, "/readyz")
    caught.value.close()
    stream.half_close()
    drained.result(TIMEOUT)


def test_a_stuck_engine_is_not_alive(start):
    networks = FakeNetworks()
    running = start(networks, stall_seconds=0.05)
    networks.gate.clear()
    while networks.entered.acquire(blocking=False):
        pass
    running.stream().frame(prompts=[prompt(1, A)])
    assert networks.entered.acquire(timeout=TIMEOUT)
    time.sleep(0.1)
    with pytest.raises(urllib.error.HTTPError, match="503") as caught:
        get(running, "/livez")
    caught.value.close()

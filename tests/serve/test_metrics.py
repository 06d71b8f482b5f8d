"""Metrics on a private registry: what a served stream leaves there, and that labels stay few."""

import re
import time
import urllib.error
import urllib.request

import pytest
from fakes import FakeNetworks
from google.protobuf.timestamp_pb2 import Timestamp
from prometheus_client import CollectorRegistry, generate_latest
from served import TIMEOUT, eventually, prompt, square

from maskstream.errors import MaskstreamError
from maskstream.prompt_kinds import AutoPrompt, BoxPrompt, PointPrompt
from serve import errors
from serve.admission import Phase
from serve.messages import MaskPrompt
from serve.metrics import BUCKETS_SECONDS, OTHER, PROMPT_KINDS, STAGES, Identity, Metrics

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
    assert second.get_sample_value("maskstream_frames_total", {"outcome": "answered"}) == 0


@pytest.fixture
def metrics():
    return Metrics(CollectorRegistry())


def value(metrics, name, **labels):
    return metrics.registry.get_sample_value(f"maskstream_{name}", labels)


def test_every_series_is_there_before_the_first_event(metrics):
    # an alert on an increase sees nothing when a series begins with its first event
    for outcome in ("answered", "dropped", "refused"):
        assert value(metrics, "frames_total", outcome=outcome) == 0
    assert value(metrics, "frames_dropped_total", reason="too_old") == 0
    assert value(metrics, "streams_total", end_reason="engine_failed") == 0
    assert value(metrics, "stream_rejected_total", reason="SERVER_FULL") == 0
    assert value(metrics, "requests_refused_total", reason="NO_OBJECTS") == 0
    assert value(metrics, "memory_writes_skipped_total", reason="not_finite") == 0
    assert value(metrics, "stage_seconds_count", stage="segment") == 0
    assert value(metrics, "frame_seconds_count", policy="latest") == 0
    assert value(metrics, "log_records_dropped_total") == 0
    assert value(metrics, "engine_stuck") == 0


@pytest.mark.parametrize("kind", [each for each in vars(errors).values() if isinstance(each, type)])
def test_every_reason_of_the_wire_has_its_series(metrics, kind):
    if not issubclass(kind, MaskstreamError) or kind in (MaskstreamError, errors.StreamEnded):
        return
    name = "stream_rejected_total" if issubclass(kind, errors.StreamEnded) else "requests_refused_total"
    assert value(metrics, name, reason=kind.reason) == 0


def test_a_value_outside_its_set_is_other(metrics):
    # whatever reaches a label, a client cannot make series of its own
    for name in ("made up", "also made up"):
        metrics.frames.labels(name).inc()
    assert value(metrics, "frames_total", outcome=OTHER) == 2
    assert value(metrics, "frames_total", outcome="made up") is None


def test_an_age_that_a_clock_cannot_mean_is_counted_and_not_observed(metrics):
    seconds = dict.fromkeys(STAGES, 0.01)
    for age in (0.05, -0.001, -1e9, 3600.5, 1.7e9, float("nan")):
        metrics.observe_frame(seconds, "latest", age)
    metrics.observe_frame(seconds, "latest", None)
    assert value(metrics, "frame_age_seconds_count") == 1
    assert value(metrics, "frame_age_seconds_sum") == 0.05
    assert value(metrics, "clock_skew_total", clock="ahead") == 2
    assert value(metrics, "clock_skew_total", clock="behind") == 3
    assert value(metrics, "frame_seconds_count", policy="latest") == 7


def test_a_client_whose_clock_is_ahead_is_served_and_counted(running):
    stream = running.stream()
    ahead = Timestamp()
    ahead.FromNanoseconds(time.time_ns() + 10**12)
    stream.frame(prompts=[prompt(1, A)], capture_time=ahead)
    stream.half_close()
    stream.rest()
    assert running.sample("clock_skew_total", clock="ahead") == 1
    assert running.sample("frame_age_seconds_count") == 0


def test_a_counter_that_is_read_never_falls(metrics):
    read = iter([1.0, 5.0, 4.5, 6.0])
    metrics.engine_busy_seconds.set_function(lambda: next(read))
    assert [value(metrics, "engine_busy_seconds_total") for _ in range(4)] == [1, 5, 5, 6]


def test_a_hot_swap_counts_and_leaves_one_build_info(metrics):
    for version in ("a", "a", "b", "a"):
        metrics.set_identity(Identity("1.2", "fake", version, "onnxruntime", "fp32"))
    (family,) = [each for each in metrics.registry.collect() if each.name == "maskstream_build_info"]
    assert [sample.labels["model_version"] for sample in family.samples] == ["a"]
    assert value(metrics, "model_generation") == 2


def test_the_phase_is_one_of_all(metrics):
    now = [Phase.WARMING]
    metrics.bind_phase(lambda: now[0])
    for phase in Phase:
        now[0] = phase
        assert {each: value(metrics, "admission_phase", phase=each) for each in Phase} == {
            each: float(each is phase) for each in Phase
        }


def test_blocks_prompts_and_turns_are_counted(metrics):
    metrics.bind_blocks(lambda: 30, total=100)
    assert [value(metrics, "memory_blocks", state=state) for state in ("used", "free")] == [30, 70]
    boxes = [BoxPrompt(2, (1, 2, 3, 4)), BoxPrompt(3, (1, 2, 3, 4))]
    metrics.add_prompts([MaskPrompt(1, lambda: A), *boxes, PointPrompt(4, ((1, 1),)), AutoPrompt(5)])
    assert [value(metrics, "prompts_total", kind=kind) for kind in PROMPT_KINDS] == [1, 2, 1, 5]
    for size in (1, 3, 33):
        metrics.observe_turn(size, 0.02)
    assert [value(metrics, "batch_size_bucket", le=le) for le in ("1.0", "2.0", "4.0", "32.0", "+Inf")] == [
        1,
        1,
        2,
        2,
        3,
    ]
    assert value(metrics, "engine_turn_seconds_sum") == pytest.approx(0.06)


def test_http_shows_metrics_and_probes(running):
    assert "maskstream_stream_slots 8.0" in get(running, "/metrics")
    assert get(running, "/livez") == get(running, "/readyz?verbose") == "ok\n"


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


DOCUMENTED = re.compile(r"^\| `(maskstream_\w+)` \| (\w+) \| (.*?) ?\| ", re.MULTILINE)
REASONS_ELSEWHERE = ("requests_refused", "streams", "stream_rejected")  # in the table of errors


def test_every_family_is_documented_with_its_type_and_labels(metrics, pytestconfig):
    text = (pytestconfig.rootpath / "docs" / "metrics.md").read_text()
    documented = {name: (kind, labels) for name, kind, labels in DOCUMENTED.findall(text)}
    metrics.set_identity(Identity("1.2", "fake", "abc", "onnxruntime", "fp32"))
    families = {f.name + ("_total" if f.type == "counter" else ""): f for f in metrics.registry.collect()}
    assert set(documented) == set(families)
    for name, family in families.items():
        kind, labels = documented[name]
        assert kind == family.type, name
        names = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert set(re.findall(r"`(\w+)`", labels)) == names, name
        if ":" in labels and name.removeprefix("maskstream_").removesuffix("_total") not in REASONS_ELSEWHERE:
            (label,) = names
            values = {sample.labels[label] for sample in family.samples}
            assert set(labels.partition(": ")[2].split(", ")) == values, name

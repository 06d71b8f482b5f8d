"""Spans of streams and frames, seen by the SDK's own exporter in memory, and what happens without collector or SDK."""

import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as otlp
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as otlp_grpc
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from served import eventually, prompt, square

from serve.metrics import STAGES, Identity
from serve.tracing import NoTracing, TraceSettings, TracingInvalid, build_tracing

IDENTITY = Identity("1.2", "fake", "abc", "onnxruntime", "fp32")
SECONDS = dict.fromkeys(STAGES, 0.002) | {"total": 0.02}
TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def exporter():
    return InMemorySpanExporter()


@pytest.fixture
def traced(exporter):
    """Run a stream; its spans by name."""

    def run(frames=5, reason="closed", metadata=(), every_frames=2):
        tracing = build_tracing(TraceSettings(every_frames=every_frames), IDENTITY, exporter)
        trace = tracing.stream("camera-7", metadata)
        for seq in range(10, 10 + frames):
            trace.frame(seq, SECONDS)
        trace.end(reason)
        trace.end("again")
        tracing.close(5)
        spans = exporter.get_finished_spans()
        return [s for s in spans if s.name == "maskstream.stream"], [s for s in spans if s.name == "maskstream.frame"]

    return run


def test_a_stream_is_a_span_with_its_sampled_frames_below(traced):
    (stream,), frames = traced(frames=5, every_frames=2)
    assert stream.parent is None
    assert stream.attributes["maskstream.session_id"] == "camera-7"
    assert stream.attributes["maskstream.frames"] == 5
    assert stream.attributes["maskstream.end_reason"] == "closed"
    assert stream.status.status_code is StatusCode.UNSET
    assert [frame.attributes["maskstream.seq"] for frame in frames] == [10, 12, 14]
    for frame in frames:
        assert frame.parent.span_id == stream.context.span_id
        assert frame.end_time - frame.start_time == 20_000_000
        assert frame.attributes["maskstream.segment_seconds"] == 0.002
    assert stream.resource.attributes["service.version"] == "1.2"


def test_the_callers_trace_goes_on(traced):
    metadata = (("user-agent", "x"), ("traceparent", f"00-{TRACE}-b7ad6b7169203331-01"), ("trace-bin", b"\x00"))
    (stream,), frames = traced(metadata=metadata)
    assert {f"{span.context.trace_id:032x}" for span in (stream, *frames)} == {TRACE}
    assert f"{stream.parent.span_id:016x}" == "b7ad6b7169203331"


def test_a_caller_that_is_not_sampled_is_not_traced(traced):
    assert traced(metadata=(("traceparent", f"00-{TRACE}-b7ad6b7169203331-00"),)) == ([], [])


@pytest.mark.parametrize("header", ["", "00-0-0-01", "zz" * 5000, f"ff-{TRACE}-b7ad6b7169203331-01", b"\xff\xfe"])
def test_a_traceparent_that_is_none_begins_a_trace(traced, header):
    (stream,), _ = traced(metadata=(("traceparent", header),))
    assert stream.parent is None


@pytest.mark.parametrize(
    ("reason", "status"),
    [("client_gone", StatusCode.UNSET), ("engine_failed", StatusCode.ERROR), ("internal", StatusCode.ERROR)],
)
def test_a_stream_that_ends_badly_is_an_error(traced, reason, status):
    (stream,), _ = traced(reason=reason)
    assert stream.status.status_code is status


def test_a_long_session_id_is_cut(exporter):
    tracing = build_tracing(TraceSettings(), IDENTITY, exporter)
    tracing.stream("x" * 10**6, ()).end("closed")
    tracing.close(5)
    assert len(exporter.get_finished_spans()[0].attributes["maskstream.session_id"]) == 256


def test_a_collector_that_never_answers_costs_neither_frames_nor_the_end():
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, says nothing
        settings = TraceSettings(f"http://127.0.0.1:{silent.getsockname()[1]}", every_frames=1)
        tracing = build_tracing(settings, IDENTITY)
        trace = tracing.stream("camera-7", ())
        began = time.perf_counter()
        for seq in range(3000):
            trace.frame(seq, SECONDS)
        trace.end("closed")
        assert time.perf_counter() - began < 5
        began = time.perf_counter()
        tracing.close(0.5)
        assert time.perf_counter() - began < 3
    assert not [thread.name for thread in threading.enumerate() if thread.name == "traces"], "nothing goes on trying"


def test_without_an_endpoint_nothing_is_traced_and_nothing_imported():
    program = """
import sys
from serve.metrics import Identity
from serve.tracing import TraceSettings, build_tracing
trace = build_tracing(TraceSettings(), Identity(*"abcde")).stream("s", ())
trace.frame(1, {"total": 1.0}); trace.end("closed")
print(any(name.startswith("opentelemetry") for name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, timeout=60, check=True)
    assert done.stdout == "False\n"
    assert isinstance(build_tracing(TraceSettings(), IDENTITY), NoTracing)


def test_traces_that_cannot_be_had_are_refused_with_what_to_do(monkeypatch):
    for settings, message in (
        (TraceSettings("collector:4317"), "expected http://HOST:PORT"),
        (TraceSettings("http://collector:4317", every_frames=0), "expected 1 or more"),
    ):
        with pytest.raises(TracingInvalid, match=message):
            build_tracing(settings, IDENTITY)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(TracingInvalid, match=r"pip install 'maskstream\[otel\]'"):
        build_tracing(TraceSettings("http://127.0.0.1:4317"), IDENTITY)


class Collector(otlp_grpc.TraceServiceServicer):
    """Takes spans as a collector does."""

    def __init__(self):
        self.names = []

    def Export(self, request, context):  # noqa: N802 - gRPC's name
        self.names += [s.name for r in request.resource_spans for scope in r.scope_spans for s in scope.spans]
        return otlp.ExportTraceServiceResponse()


def test_a_server_sends_its_traces_before_it_goes(start):
    collector, process = Collector(), grpc.server(ThreadPoolExecutor(1))
    otlp_grpc.add_TraceServiceServicer_to_server(collector, process)
    port = process.add_insecure_port("127.0.0.1:0")
    process.start()
    running = start(tracing=TraceSettings(f"http://127.0.0.1:{port}", every_frames=2))
    stream = running.stream()
    for _ in range(5):
        stream.frame(prompts=[prompt(1, square(16, 16))])
    stream.half_close()
    stream.rest()
    eventually(lambda: running.sample("streams_active") == 0)
    running.close()
    running.running = False
    process.stop(0)
    assert sorted(collector.names) == ["maskstream.frame"] * 3 + ["maskstream.stream"]

"""OpenTelemetry traces: a span a stream, and under it a span for every so-manieth frame. Off unless asked for.

The packages are an extra, `[otel]`, and are imported here and only when traces are wanted; without them `NoTracing`
takes their place. What is sent waits in the SDK's bounded queue: a collector that is slow or gone costs spans, not
frames. A caller's W3C `traceparent` in the call's metadata makes the stream part of its trace, and decides with it
whether the stream is traced at all.
"""

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from maskstream.errors import MaskstreamError

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span, Tracer

    from serve.metrics import Identity

Metadata = Iterable[tuple[str, str | bytes]]

CARRIED = ("traceparent", "tracestate")
GOOD_ENDS = ("closed", "client_gone", "idle_timeout", "draining")
LONGEST_ATTRIBUTE = 256  # characters; a client chooses its session id
MOST_WAITING = 2048  # spans that wait for the collector
STOP_SECONDS = 1.0  # for a call to the collector to notice that it is cut off


class TracingInvalid(MaskstreamError):
    """Traces are asked for and cannot be made."""

    reason = "TRACING_INVALID"


@dataclass(frozen=True)
class TraceSettings:
    """Where traces go and how many frames are in them."""

    endpoint: str = ""  # of an OTLP collector over gRPC, http://HOST:PORT or https://HOST:PORT; empty: no traces
    every_frames: int = 100  # of a stream, of which one gets a span


class StreamTrace(Protocol):
    """The trace of one stream. Cheap enough for the event loop; nothing here waits or raises."""

    def frame(self, seq: int, seconds: dict[str, float]) -> None:
        """A frame was answered just now; `seconds` by stage, `total` among them."""
        ...

    def end(self, reason: str) -> None:
        """The stream ended: `closed`, `client_gone`, or the reason of its status in lower case."""
        ...


class Tracing(Protocol):
    """Makes the traces of streams."""

    def stream(self, session_id: str, metadata: Metadata) -> StreamTrace:
        """A stream begins; `metadata` is that of its call."""
        ...

    def close(self, seconds: float) -> None:
        """Send what is still here, for so long at most. Not from the event loop."""
        ...


class NoTracing:
    """No traces, neither of the server nor of a stream."""

    def stream(self, session_id: str, metadata: Metadata) -> StreamTrace:
        """Nothing to trace."""
        return self

    def frame(self, seq: int, seconds: dict[str, float]) -> None:
        """Not traced."""

    def end(self, reason: str) -> None:
        """Not traced."""

    def close(self, seconds: float) -> None:
        """Nothing to send."""


def build_tracing(settings: TraceSettings, identity: "Identity", exporter: "SpanExporter | None" = None) -> Tracing:
    """What `settings` ask for. Raises TracingInvalid when it cannot be had; `exporter` takes the collector's place."""
    if not settings.endpoint and exporter is None:
        return NoTracing()
    if exporter is None and not settings.endpoint.startswith(("http://", "https://")):
        raise TracingInvalid(f"tracing endpoint `{settings.endpoint}`: expected http://HOST:PORT or https://HOST:PORT")
    if settings.every_frames < 1:
        raise TracingInvalid(f"tracing every_frames = {settings.every_frames}: expected 1 or more")
    try:
        exporter = exporter or _exporter(settings.endpoint)
        provider = _provider(identity, exporter)
    except ImportError as error:
        raise TracingInvalid(f"traces need `pip install 'maskstream[otel]'`: {error}") from error
    return _OtlpTracing(provider, exporter, settings.every_frames)


def _exporter(endpoint: str) -> "SpanExporter":
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter(endpoint=endpoint, insecure=endpoint.startswith("http://"))


def _provider(identity: "Identity", exporter: "SpanExporter") -> "TracerProvider":
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import SpanLimits, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased

    resource = Resource.create(
        {
            "service.name": "maskstream",
            "service.version": identity.server_version,
            "maskstream.model": identity.model,
            "maskstream.backend": identity.engine,
        }
    )
    limits = SpanLimits(max_span_attribute_length=LONGEST_ATTRIBUTE)
    provider = TracerProvider(ParentBased(ALWAYS_ON), resource, shutdown_on_exit=False, span_limits=limits)
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=MOST_WAITING))
    return provider


class _OtlpTracing:
    """Through a provider of its own: the process may have another one."""

    def __init__(self, provider: "TracerProvider", exporter: "SpanExporter", every_frames: int) -> None:
        self._provider, self._exporter, self._every_frames = provider, exporter, every_frames
        self._tracer = provider.get_tracer("maskstream")

    def stream(self, session_id: str, metadata: Metadata) -> StreamTrace:
        """A span that lasts as long as the stream."""
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        carried = {key: value for key, value in metadata if key in CARRIED and isinstance(value, str)}
        # An empty context and not the current one: the event loop's tasks have nothing to do with a caller.
        parent = TraceContextTextMapPropagator().extract(carried, _no_context())
        attributes = {"maskstream.session_id": session_id}
        span = self._tracer.start_span("maskstream.stream", parent, SpanKind.SERVER, attributes)
        return _OtlpStreamTrace(self._tracer, span, self._every_frames)

    def close(self, seconds: float) -> None:
        """The SDK waits half a minute for its collector; after `seconds` it is told not to."""
        closing = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        closing.start()
        closing.join(seconds)
        if closing.is_alive():
            self._exporter.shutdown()
            closing.join(STOP_SECONDS)


class _OtlpStreamTrace:
    def __init__(self, tracer: "Tracer", span: "Span", every_frames: int) -> None:
        from opentelemetry.trace import set_span_in_context

        self._tracer, self._span, self._every_frames = tracer, span, every_frames
        self._context = set_span_in_context(span, _no_context())
        self._frames = 0

    def frame(self, seq: int, seconds: dict[str, float]) -> None:
        """The first one and every so-manieth after it. Its stages are attributes: they have no times of their own."""
        self._frames += 1
        if (self._frames - 1) % self._every_frames or not self._span.is_recording():
            return
        ended = time.time_ns()
        started = ended - max(0, int(seconds["total"] * 1e9))
        attributes = {f"maskstream.{stage}_seconds": value for stage, value in seconds.items()}
        span = self._tracer.start_span(
            "maskstream.frame", self._context, attributes={"maskstream.seq": seq, **attributes}, start_time=started
        )
        span.end(ended)

    def end(self, reason: str) -> None:
        """The span has its end, once."""
        from opentelemetry.trace import StatusCode

        if not self._span.is_recording():
            return
        self._span.set_attribute("maskstream.frames", self._frames)
        self._span.set_attribute("maskstream.end_reason", reason)
        if reason not in GOOD_ENDS:
            self._span.set_status(StatusCode.ERROR, reason)
        self._span.end()


def _no_context() -> "Context":
    from opentelemetry.context import Context

    return Context()

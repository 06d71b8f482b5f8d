"""Prometheus families of the server, on a registry that the caller owns.

The buckets hold the budgets of 60, 30 and 15 frames a second exactly, so that "share of frames under 33 ms" is counted
and not interpolated. Labels come from closed sets and never name a stream: the number of series does not grow. Each
series is there with 0 from the start, for an alert cannot see an increase from nothing; what is in no set is "other".
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Gauge, Histogram
from prometheus_client import Counter as CounterFamily
from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics import MetricWrapperBase

from maskstream.errors import InvalidFrame, InvalidPrompt, MaskstreamError, MemoryExhausted, NoObjects, SizeChanged
from maskstream.memory_bank import Role
from maskstream.prompt_kinds import AutoPrompt, BoxPrompt, PointPrompt
from maskstream.tracker import Tracker
from serve import errors
from serve.admission import Phase
from serve.logs import lost_records
from serve.messages import Delivery, DropReason, EncodedPrompt

STAGES = ("queue", "decode", *Tracker.STAGES, "encode", "total")
BUCKETS_SECONDS = (
    0.001, 0.002, 0.003, 0.004, 0.005, 0.0065, 0.008, 0.01, 0.0125, 0.0167, 0.02, 0.025, 0.0333, 0.04, 0.05, 0.0667,
    0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 10.0,
)  # fmt: skip
BATCHES = (1, 2, 4, 8, 16, 32)  # frames
OLDEST_SECONDS = 3600.0  # an age beyond this is a clock that is wrong, or an old recording, and no latency
PROMPT_KINDS = ("mask", "box", "points", "auto")
OTHER = "other"

Family = TypeVar("Family", bound=MetricWrapperBase)


@dataclass(frozen=True)
class Identity:
    """What runs: shown once at start, by GetServerInfo and as maskstream_build_info."""

    server_version: str
    model: str
    model_version: str
    engine: str
    precision: str


class Closed(Generic[Family]):
    """A family with one label, whose values are known: they are all there from the start, any other is "other"."""

    def __init__(self, family: Family, values: Iterable[str]) -> None:
        self._family = family
        self._children = {value: family.labels(value) for value in values}

    def labels(self, value: str) -> Family:
        """The series of this value."""
        child = self._children.get(value)
        return self._family.labels(OTHER) if child is None else child


class ReadCounter:
    """A counter that is kept elsewhere and read at each scrape; it never falls, whatever it reads."""

    def __init__(self, name: str, text: str, registry: CollectorRegistry) -> None:
        self._name, self._text, self._highest = name, text, 0.0
        self._read: Callable[[], float] = lambda: 0.0
        registry.register(self)

    def set_function(self, read: Callable[[], float]) -> None:
        """`read` is called from the thread that serves /metrics."""
        self._read = read

    def describe(self) -> list[CounterMetricFamily]:
        """Its name, for the registry."""
        return [CounterMetricFamily(self._name, self._text)]

    def collect(self) -> list[CounterMetricFamily]:
        """Its value now."""
        self._highest = max(self._highest, self._read())
        return [CounterMetricFamily(self._name, self._text, value=self._highest)]


class Metrics:
    """All families. One instance a registry; a test gives a private one."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._add_frames()
        self._add_streams()
        self._add_engine()
        self._add_memory()
        self._add_process()

    def _counter(self, name: str, text: str) -> CounterFamily:
        return CounterFamily(f"maskstream_{name}", text, registry=self.registry)

    def _counters(self, name: str, text: str, label: str, values: Iterable[str]) -> Closed[CounterFamily]:
        return Closed(CounterFamily(f"maskstream_{name}", text, (label,), registry=self.registry), values)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"maskstream_{name}", text, labels, registry=self.registry)

    def _gauges(self, name: str, text: str, label: str, values: Iterable[str]) -> Closed[Gauge]:
        return Closed(self._gauge(name, text, label), values)

    def _histogram(self, name: str, text: str, *labels: str, buckets: Sequence[float] = BUCKETS_SECONDS) -> Histogram:
        return Histogram(f"maskstream_{name}", text, labels, registry=self.registry, buckets=buckets)

    def _add_frames(self) -> None:
        self.stage_seconds = Closed(
            self._histogram("stage_seconds", "Time of answered frames by stage.", "stage"), STAGES
        )
        self.frame_seconds = Closed(
            self._histogram("frame_seconds", "From a frame's arrival until its answer was written.", "policy"), Delivery
        )
        self.frame_age_seconds = self._histogram(
            "frame_age_seconds", "From a frame's capture until its answer was written."
        )
        self.clock_skew = self._counters(
            "clock_skew",
            "Answered frames whose capture time cannot be right: ahead of this server's clock, or an hour behind.",
            "clock",
            ("ahead", "behind"),
        )
        outcomes = ("answered", "dropped", "refused")
        self.frames = self._counters("frames", "Frames by what became of them.", "outcome", outcomes)
        self.frames_dropped = self._counters("frames_dropped", "Frames without a result.", "reason", DropReason)
        self.requests_refused = self._counters("requests_refused", "FrameErrors sent.", "reason", request_reasons())
        self.prompts = self._counters("prompts", "Objects prompted or corrected.", "kind", PROMPT_KINDS)
        self.decode_queue = self._gauge("decode_queue", "Streams with a request that waits to be decoded.")

    def _add_streams(self) -> None:
        reasons = stream_reasons()
        ends = ("closed", "client_gone", "internal", *(reason.lower() for reason in reasons))
        self.streams_opened = self._counters("streams_opened", "Streams that were opened.", "policy", Delivery)
        self.streams = self._counters("streams", "Streams that ended, by how.", "end_reason", ends)
        self.stream_rejected = self._counters("stream_rejected", "Streams that were not opened.", "reason", reasons)
        self.streams_active = self._gauge("streams_active", "Streams open now.")
        self.stream_slots = self._gauge("stream_slots", "Streams that may be open at once.")
        self.objects_active = self._gauge("objects_active", "Objects followed by all streams.")
        self.snapshots = self._counters("snapshots", "Snapshots asked for.", "outcome", ("made", "refused"))
        self.resumes = self._counters("resumes", "Streams opened with a snapshot.", "outcome", ("taken", "refused"))
        self.admission_phase = self._gauges("admission_phase", "1 for the phase the server is in.", "phase", Phase)

    def _add_engine(self) -> None:
        self.ready_frames = self._gauge("ready_frames", "Streams with something for the engine to do now.")
        self.batch_size = self._histogram("batch_size", "Frames that shared a turn of the engine.", buckets=BATCHES)
        self.engine_turn_seconds = self._histogram("engine_turn_seconds", "Time of a turn of the engine with frames.")
        self.engine_busy_seconds = ReadCounter(
            "maskstream_engine_busy_seconds", "Time the engine thread has worked.", self.registry
        )
        self.engine_busy_ratio = self._gauge(
            "engine_busy_ratio", "Share of the last second that the engine thread worked."
        )
        self.engine_stuck = self._gauge("engine_stuck", "1 while the engine is stuck, broken or gone, else 0.")
        self.warmup_seconds = self._gauge("warmup_seconds", "Time the engine's first run took.")
        self.model_generation = self._gauge("model_generation", "Hot swaps of the model since the start.")
        self.build_info = self._gauge(
            "build_info", "Always 1.", "version", "model", "model_version", "backend", "precision"
        )
        self._identity: Identity | None = None

    def _add_memory(self) -> None:
        evicted = (Role.PERMANENT, Role.RECENT)
        skipped = ("absent", "unsure", "not_finite")
        self.memory_blocks = self._gauges("memory_blocks", "Blocks of the memory bank.", "state", ("used", "free"))
        self.memory_bank_bytes = self._gauge("memory_bank_bytes", "Memory bank held by all streams.")
        self.memory_bank_limit_bytes = self._gauge("memory_bank_limit_bytes", "Budget of the memory bank.")
        self.memory_evictions = self._counters("memory_evictions", "Bank slots given up.", "role", evicted)
        self.memory_writes_skipped = self._counters("memory_writes_skipped", "Objects not stored.", "reason", skipped)

    def _add_process(self) -> None:
        self.loop_lag_seconds = self._histogram("loop_lag_seconds", "How late the event loop woke up.")
        self.log_records_dropped = ReadCounter(
            "maskstream_log_records_dropped", "Log records that could not be written.", self.registry
        )
        self.log_records_dropped.set_function(lambda: lost_records()["dropped"])
        self.log_records_suppressed = ReadCounter(
            "maskstream_log_records_suppressed", "Log records that repeated too fast.", self.registry
        )
        self.log_records_suppressed.set_function(lambda: lost_records()["suppressed"])

    def set_identity(self, identity: Identity) -> None:
        """Publish maskstream_build_info; another one than before is a hot swap."""
        before, self._identity = self._identity, identity
        self.build_info.labels(*_labels_of(identity)).set(1)
        if before is not None and before != identity:
            self.model_generation.inc()
            self.build_info.remove(*_labels_of(before))

    def bind_phase(self, phase: Callable[[], Phase]) -> None:
        """maskstream_admission_phase shows what `phase` says."""

        def is_in(each: Phase) -> Callable[[], float]:
            return lambda: phase() is each

        for each in Phase:
            self.admission_phase.labels(each).set_function(is_in(each))

    def bind_blocks(self, used: Callable[[], int], total: int) -> None:
        """maskstream_memory_blocks shows what `used` says, of `total`."""
        self.memory_blocks.labels("used").set_function(used)
        self.memory_blocks.labels("free").set_function(lambda: total - used())

    def observe_frame(self, seconds: dict[str, float], policy: str, age_seconds: float | None) -> None:
        """One answered frame: `seconds` by stage, `total` among them; `age_seconds` when its capture time is known.

        Clocks differ and jump, so an age is observed when it can be true, and counted as skew when it cannot.
        """
        for stage, value in seconds.items():
            self.stage_seconds.labels(stage).observe(value)
        self.frame_seconds.labels(policy).observe(seconds["total"])
        if age_seconds is None:
            return
        if 0 <= age_seconds <= OLDEST_SECONDS:
            self.frame_age_seconds.observe(age_seconds)
        else:
            self.clock_skew.labels("ahead" if age_seconds < 0 else "behind").inc()

    def observe_turn(self, batch_size: int, seconds: float) -> None:
        """One turn of the engine, with `batch_size` frames."""
        self.batch_size.observe(batch_size)
        self.engine_turn_seconds.observe(seconds)

    def add_prompts(self, prompts: Sequence[EncodedPrompt]) -> None:
        """Objects that a request prompts."""
        for prompt in prompts:
            match prompt:
                case AutoPrompt(max_objects=asked_for):
                    self.prompts.labels("auto").inc(asked_for)
                case BoxPrompt():
                    self.prompts.labels("box").inc()
                case PointPrompt():
                    self.prompts.labels("points").inc()
                case _:
                    self.prompts.labels("mask").inc()

    def add_memory_events(self, evictions: Counter[str], writes_skipped: Counter[str]) -> None:
        """What one step did to a stream's memory bank."""
        for role, count in evictions.items():
            self.memory_evictions.labels(role).inc(count)
        for reason, count in writes_skipped.items():
            self.memory_writes_skipped.labels(reason).inc(count)


def request_reasons() -> list[str]:
    """Reasons of a FrameError: what serve.errors has for single requests, and what the tracker raises."""
    of_tracker: list[type[MaskstreamError]] = [InvalidFrame, SizeChanged, InvalidPrompt, NoObjects, MemoryExhausted]
    kinds = of_tracker + _kinds(MaskstreamError)
    return sorted(kind.reason for kind in kinds if not issubclass(kind, errors.StreamEnded))


def stream_reasons() -> list[str]:
    """Reasons why a stream ends with a status, or is not opened."""
    return sorted(kind.reason for kind in _kinds(errors.StreamEnded) if kind is not errors.StreamEnded)


def _kinds(base: type[MaskstreamError]) -> list[type[MaskstreamError]]:
    named = [kind for kind in vars(errors).values() if isinstance(kind, type) and kind.__module__ == errors.__name__]
    return [kind for kind in named if issubclass(kind, base)]


def _labels_of(identity: Identity) -> tuple[str, ...]:
    return (identity.server_version, identity.model, identity.model_version, identity.engine, identity.precision)

"""Prometheus families of the server, on a registry that the caller owns.

The buckets hold the budgets of 60, 30 and 15 frames a second exactly, so that "share of frames under 33 ms" is counted
and not interpolated. Labels come from closed sets and never name a stream: the number of series does not grow.
"""

from collections import Counter
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Gauge, Histogram
from prometheus_client import Counter as CounterFamily

from maskstream.tracker import Tracker

STAGES = ("queue", "decode", *Tracker.STAGES, "encode", "total")
BUCKETS_SECONDS = (
    0.001, 0.002, 0.003, 0.004, 0.005, 0.0065, 0.008, 0.01, 0.0125, 0.0167, 0.02, 0.025, 0.0333, 0.04, 0.05, 0.0667,
    0.1, 0.15, 0.25, 0.5, 1.0,
)  # fmt: skip


@dataclass(frozen=True)
class Identity:
    """What runs: shown once at start, by GetServerInfo and as maskstream_build_info."""

    server_version: str
    model: str
    model_version: str
    engine: str
    precision: str


class Metrics:
    """All families. One instance a registry; a test gives a private one."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> CounterFamily:
            return CounterFamily(f"maskstream_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"maskstream_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, *labels: str) -> Histogram:
            return Histogram(f"maskstream_{name}", text, labels, registry=registry, buckets=BUCKETS_SECONDS)

        self.registry = registry
        self.stage_seconds = histogram("stage_seconds", "Time of answered frames by stage.", "stage")
        self.frame_seconds = histogram(
            "frame_seconds", "From a frame's arrival until its answer was written.", "policy"
        )
        self.frame_age_seconds = histogram("frame_age_seconds", "From a frame's capture until its answer was written.")
        self.loop_lag_seconds = histogram("loop_lag_seconds", "How late the event loop woke up.")
        self.frames = counter("frames", "Frames by what became of them: answered, dropped, refused.", "outcome")
        self.frames_dropped = counter("frames_dropped", "Frames without a result, by reason.", "reason")
        self.requests_refused = counter("requests_refused", "FrameErrors sent, by reason.", "reason")
        self.streams = counter("streams", "Streams that ended, by how.", "end_reason")
        self.stream_rejected = counter("stream_rejected", "Streams that were not opened, by reason.", "reason")
        self.memory_evictions = counter("memory_evictions", "Bank slots given up, by the role they had.", "role")
        self.memory_writes_skipped = counter("memory_writes_skipped", "Objects not stored, by reason.", "reason")
        self.streams_active = gauge("streams_active", "Streams open now.")
        self.stream_slots = gauge("stream_slots", "Streams that may be open at once.")
        self.ready_frames = gauge("ready_frames", "Streams with something for the engine to do now.")
        self.memory_bank_bytes = gauge("memory_bank_bytes", "Memory bank held by all streams.")
        self.memory_bank_limit_bytes = gauge("memory_bank_limit_bytes", "Budget of the memory bank.")
        self.objects_active = gauge("objects_active", "Objects followed by all streams.")
        self.engine_busy_ratio = gauge("engine_busy_ratio", "Share of the last second that the engine thread worked.")
        self.warmup_seconds = gauge("warmup_seconds", "Time the engine's first run took.")
        self.build_info = gauge("build_info", "Always 1.", "version", "model", "model_version", "backend", "precision")

    def set_identity(self, identity: Identity) -> None:
        """Publish maskstream_build_info."""
        self.build_info.labels(
            version=identity.server_version,
            model=identity.model,
            model_version=identity.model_version,
            backend=identity.engine,
            precision=identity.precision,
        ).set(1)

    def observe_frame(self, seconds: dict[str, float], policy: str, age_seconds: float | None) -> None:
        """One answered frame: `seconds` by stage, `total` among them; `age_seconds` when its capture time is known."""
        for stage in STAGES:
            self.stage_seconds.labels(stage).observe(seconds[stage])
        self.frame_seconds.labels(policy).observe(seconds["total"])
        if age_seconds is not None:
            self.frame_age_seconds.observe(age_seconds)

    def add_memory_events(self, evictions: Counter[str], writes_skipped: Counter[str]) -> None:
        """What one step did to a stream's memory bank."""
        for role, count in evictions.items():
            self.memory_evictions.labels(role).inc(count)
        for reason, count in writes_skipped.items():
            self.memory_writes_skipped.labels(reason).inc(count)

"""A soak: one lossless and one live stream for as long as asked, beside others that are opened and closed all the time.

What it looks for creeps: memory that grows, steps that get longer, a slot or a frame that is lost now and then. At the
end a new stream takes turns with the old one: so a step that has become longer shows on a machine that is itself slower
at one hour than at another.
"""

import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from maskstream.errors import StreamError
from maskstream.load.encoded_clip import EncodedClip
from maskstream.load.endpoint import Endpoint
from maskstream.load.figures import frame_counts, memory_figures, percentiles
from maskstream.load.frame_record import ANSWERED, LOST, FrameRecord
from maskstream.load.plan import LATEST, LOSSLESS, SEED, ClosedLoop, OpenLoop, Pace
from maskstream.load.server_probe import MemoryProbe
from maskstream.load.stream_load import StreamLoad, StreamWishes, opened_stream
from maskstream.progress import progress

STREAMS = 3  # open at once
WINDOW_FRAMES = 1000  # compared at both ends
_SETTLING_FRAMES = 20  # of the lossless stream, before its first window
_SETTLING_SECONDS, _SETTLING_SHARE = 60.0, 0.1  # of the soak, before memory counts; the longer of both
_IN_FLIGHT = 2  # of the lossless stream: always a frame ready, never a queue
_CHURN_FRAMES = 20  # that a passing stream has at most
_LAST_ANSWERS_SECONDS = 30.0


@dataclass(frozen=True)
class SoakPlan:
    """How long, how often memory is read, and the frame rate of the live stream."""

    minutes: float
    fps: float = 10.0
    memory_seconds: float = 10.0


class Churn:
    """Opens a stream, has some frames followed, closes or cancels it, and again, until `stop`."""

    def __init__(self, endpoint: Endpoint, clip: EncodedClip) -> None:
        self.opened, self.lost, self.ends = 0, 0, Counter[str]()
        self._endpoint, self._clip = endpoint, clip
        self._dice = random.Random(SEED)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="churn", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the present stream."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            with contextlib.closing(self._endpoint.channel()) as channel:
                try:
                    self._one_stream(StreamLoad(channel, StreamWishes(LOSSLESS), self._clip))
                except StreamError as error:
                    self.ends[error.reason] += 1
                    self._stopping.wait(1.0)  # a full server needs a moment

    def _one_stream(self, stream: StreamLoad) -> None:
        stream.open()
        self.opened += 1
        cancelled = self._dice.random() < 0.5
        if cancelled:
            timer = threading.Timer(self._dice.uniform(0.0, 1.0), stream.cancel)
            timer.start()
        record = stream.run(ClosedLoop(frames=self._dice.randint(1, _CHURN_FRAMES)))
        if cancelled:
            timer.cancel()
            timer.join()
        else:
            self.lost += record.count(LOST)
        self.ends[record.error or "OK"] += 1


def run_soak(endpoint: Endpoint, plan: SoakPlan, clip: EncodedClip) -> dict[str, Any]:
    """Soak, and report. Ctrl-C ends it early and reports what there is. Raises StreamError when it cannot begin."""
    with contextlib.ExitStack() as stack:
        streams = [opened_stream(stack, endpoint, wishes, clip) for wishes in _WISHES]
        churn, memory = Churn(endpoint, clip), MemoryProbe(endpoint.probe(), plan.memory_seconds)
        for part in (memory, churn):
            part.start()
            stack.callback(part.stop)
        started = time.perf_counter()
        until = started + 60 * plan.minutes
        paces: Sequence[Pace] = (
            ClosedLoop(),
            OpenLoop(started, 0.0, plan.fps, max(1, round(60 * plan.minutes * plan.fps))),
        )
        threads = [threading.Thread(target=s.run, args=[p], daemon=True) for s, p in zip(streams, paces, strict=True)]
        for thread in threads:
            thread.start()
        stopped_early = _watch(until, threads)
        ended = time.perf_counter()
        churn.stop()
        memory.stop()
        beside = None if stopped_early else _beside_a_new_stream(stack, endpoint, clip, streams)
        _end(streams, threads)
    lossless, latest = (stream.record for stream in streams)
    return {
        "minutes": round((ended - started) / 60, 2),
        "stopped_early": stopped_early,
        "lossless": frame_counts([lossless]) | {"error": lossless.error},
        "latest": frame_counts([latest]) | {"error": latest.error},
        "latency": {"lossless": _latency(lossless.frames), "latest": _latency(latest.frames)},
        "churn": {"streams": churn.opened, "lost": churn.lost, "ends": dict(churn.ends)},
        "memory": memory_figures(_settled(memory.samples, started, plan)),
        "memory_samples": [[round(when - started, 1), int(rss)] for when, rss in memory.samples],
        "step": step_times(lossless.frames),
        "beside_a_new_stream": beside,
        "disagreements": [record.disagreement for record in (lossless, latest) if record.disagreement],
        "lost": lossless.count(LOST) + latest.count(LOST) + churn.lost,
    }


_WISHES = (StreamWishes(LOSSLESS, _IN_FLIGHT), StreamWishes(LATEST))


def step_times(frames: Sequence[FrameRecord], window: int = WINDOW_FRAMES) -> dict[str, Any] | None:
    """Time inside the tracker at both ends of a stream; windows shrink on a short one, None on a very short one."""
    steps = [1e3 * frame.step for frame in frames if frame.outcome == ANSWERED][_SETTLING_FRAMES:]
    window = min(window, len(steps) // 2)
    if window < 1:
        return None
    first, last = (float(np.median(part)) for part in (steps[:window], steps[-window:]))
    return {
        "frames": len(steps),
        "window": window,
        "first_p50_ms": round(first, 3),
        "last_p50_ms": round(last, 3),
        "last_over_first": round(last / first, 4),
    }


def _beside_a_new_stream(
    stack: contextlib.ExitStack, endpoint: Endpoint, clip: EncodedClip, streams: Sequence[StreamLoad]
) -> dict[str, Any] | None:
    """Steps of the old lossless stream and of a new one that take turns; None when there is too little to compare."""
    old, latest = streams
    latest.finish()
    so_far = len(old.record.frames)
    window = min(WINDOW_FRAMES, so_far // 2)
    new = opened_stream(stack, endpoint, _WISHES[0], clip)
    new.run(ClosedLoop(frames=window + _SETTLING_FRAMES))
    return paired_steps(old.record.frames[so_far:], new.record.frames)


def paired_steps(old: Sequence[FrameRecord], new: Sequence[FrameRecord]) -> dict[str, Any] | None:
    """Medians of the time inside the tracker of two streams over the same minutes; None for very short ones."""
    times = [[1e3 * frame.step for frame in frames if frame.outcome == ANSWERED] for frames in (old, new)]
    times = [steps[_SETTLING_FRAMES:] for steps in times]
    if not all(times):
        return None
    old_ms, new_ms = (float(np.median(steps)) for steps in times)
    return {
        "frames": min(map(len, times)),
        "old_p50_ms": round(old_ms, 3),
        "new_p50_ms": round(new_ms, 3),
        "old_over_new": round(old_ms / new_ms, 4),
    }


def _watch(until: float, threads: Sequence[threading.Thread]) -> bool:
    """Wait, saying how far it is; whether Ctrl-C ended it, or a stream did."""
    left = max(1, round(until - time.perf_counter()))
    try:
        with progress("soak", left, "s") as advance:
            for _ in range(left):
                time.sleep(max(0.0, min(1.0, until - time.perf_counter())))
                advance()
                if not all(thread.is_alive() for thread in threads) and time.perf_counter() < until - 1:
                    return True
    except KeyboardInterrupt:
        return True
    return False


def _end(streams: Sequence[StreamLoad], threads: Sequence[threading.Thread]) -> None:
    for stream in streams:
        stream.finish()
    deadline = time.perf_counter() + _LAST_ANSWERS_SECONDS
    for thread in threads:
        thread.join(max(0.0, deadline - time.perf_counter()))
    for stream, thread in zip(streams, threads, strict=True):
        stream.cancel()
        thread.join()


def _latency(frames: Sequence[FrameRecord]) -> dict[str, float] | None:
    return percentiles([frame.latency for frame in frames if frame.outcome == ANSWERED])


def _settled(samples: Sequence[tuple[float, float]], started: float, plan: SoakPlan) -> Sequence[tuple[float, float]]:
    """Without the beginning, in which caches and pools fill."""
    lasted = 60 * plan.minutes
    since = started + min(lasted / 2, max(_SETTLING_SECONDS, _SETTLING_SHARE * lasted))
    return [sample for sample in samples if sample[0] >= since]

"""What one load offers, and when each frame is due: fixed before the first is sent, whatever the server does.

A client that waits for answers before it sends goes slow just when the server does, and its latencies look good. Here
every frame has its time beforehand, and everything is counted from that time.
"""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

LATEST, LOSSLESS = "latest", "lossless"
SEED = 5  # of the phases between streams


@dataclass(frozen=True)
class Load:
    """What is offered to the server. `fps` is of each stream; times are in seconds."""

    streams: int = 1
    fps: float = 10.0
    objects: int = 1
    size: tuple[int, int] = (480, 854)  # height, width
    delivery: str = LATEST
    duration_seconds: float = 20.0  # measured
    warm_up_seconds: float = 3.0  # before it, offered in the same way and left out of the figures
    max_frame_age_seconds: float | None = None
    max_in_flight: int = 0  # asked of the server; 0: its default
    hostile: tuple[str, ...] = ()

    @property
    def offered_fps(self) -> float:
        """Of all streams together."""
        return self.streams * self.fps


class OpenLoop:
    """Frame i is due at `started` + (phase + i) / fps, on the clock of time.perf_counter."""

    def __init__(self, started: float, phase: float, fps: float, frames: int) -> None:
        """`phase` is 0..1 of a period."""
        self.frames = frames
        self._first, self._period = started + phase / fps, 1 / fps

    def due(self, index: int) -> float:
        """Time of a frame."""
        return self._first + index * self._period


class ClosedLoop:
    """Each frame is due when there is room for it: shows what the server can do, not how it bears a load."""

    def __init__(self, frames: int | None = None, until: float | None = None) -> None:
        """Ends after so many `frames`, or at `until` on the clock of time.perf_counter; never without either."""
        self._frames, self._until = frames, until

    def over(self, index: int) -> bool:
        """Whether the frame `index` is one too many."""
        if self._frames is not None and index >= self._frames:
            return True
        return self._until is not None and time.perf_counter() >= self._until


Pace = OpenLoop | ClosedLoop


def open_loops(load: Load, started: float, seed: int = SEED) -> Sequence[OpenLoop]:
    """One pace a stream, each with a random phase: cameras do not wait for each other."""
    dice = random.Random(seed)
    frames = max(1, round((load.warm_up_seconds + load.duration_seconds) * load.fps))
    return [OpenLoop(started, dice.random(), load.fps, frames) for _ in range(load.streams)]

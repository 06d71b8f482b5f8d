"""Reads a caller's frames on a thread of its own, so that a slow camera delays no answer, and no faster than asked."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from maskstream.tracker import Frame

TimedFrame = tuple[Frame, float]  # presentation time in seconds


@dataclass(frozen=True)
class Fed:
    """The next frame."""

    frame: Frame | TimedFrame


@dataclass(frozen=True)
class FedAll:
    """There are no more frames, or reading them failed."""

    error: Exception | None


class Feeder:
    """One frame for each `ask`. `deliver` is called on the reading thread, at last with FedAll."""

    def __init__(self, frames: Iterable[Frame | TimedFrame], deliver: Callable[[Fed | FedAll], None]) -> None:
        self._frames, self._deliver = frames, deliver
        self._wanted = threading.Semaphore(0)
        self._asked = self._stopped = False
        threading.Thread(target=self._feed, name="maskstream-frames", daemon=True).start()

    def ask(self) -> None:
        """One more frame, if none is on its way."""
        if not self._asked:
            self._asked = True
            self._wanted.release()

    def taken(self) -> None:
        """The frame that was asked for has come."""
        self._asked = False

    def stop(self) -> None:
        """No more frames are wanted; the thread ends when the source gives the one it is waiting for."""
        self._stopped = True
        self._wanted.release()

    def _feed(self) -> None:
        error: Exception | None = None
        try:
            self._wanted.acquire()
            for frame in self._frames:
                if self._stopped:
                    return
                self._deliver(Fed(frame))
                self._wanted.acquire()
        except Exception as caught:  # noqa: BLE001 - raised again where the answers are read
            error = caught
        if not self._stopped:
            self._deliver(FedAll(error))

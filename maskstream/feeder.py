"""Reads a caller's frames on a thread of its own, so that a slow camera delays no answer, and no faster than asked."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from maskstream.tracker import Frame

TimedFrame = tuple[Frame, float]  # presentation time in seconds


@dataclass(frozen=True)
class Fed:
    """The next frame."""

    feeder: "Feeder"
    frame: Frame | TimedFrame


@dataclass(frozen=True)
class FedAll:
    """There are no more frames, or reading them failed."""

    feeder: "Feeder"
    error: BaseException | None


class Feeder:
    """One frame for each `ask`. `deliver` is called on the reading thread, at last with FedAll."""

    def __init__(self, frames: Iterable[Frame | TimedFrame], deliver: Callable[[Fed | FedAll], None]) -> None:
        self._frames, self._deliver = frames, deliver
        self._wanted = threading.Semaphore(0)
        self._asked, self._stopped = False, threading.Event()
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
        self._stopped.set()
        self._wanted.release()

    def _feed(self) -> None:
        error: BaseException | None = None
        try:
            self._wanted.acquire()
            for frame in () if self._stopped.is_set() else self._frames:
                if self._stopped.is_set():
                    return
                self._deliver(Fed(self, frame))
                self._wanted.acquire()
                if self._stopped.is_set():
                    return
        except BaseException as caught:  # noqa: BLE001 - raised again where the answers are read, SystemExit too
            error = caught
        if not self._stopped.is_set():
            self._deliver(FedAll(self, error))

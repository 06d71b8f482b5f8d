"""The one engine thread: every network of every stream runs here, so the engine needs no lock and its cores no rivals.

A turn is at most one frame of one stream. The next turn goes to the stream that has waited longest since its last one;
a stream with much to do cannot push the others aside. A failure ends the stream it happened on and no other.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol

log = logging.getLogger(__name__)


class Turns(Protocol):
    """A stream as the engine thread sees it."""

    @property
    def ready(self) -> bool:
        """Whether a turn would do something."""
        ...

    def take_turn(self) -> None:
        """Do what is next, up to one frame."""
        ...

    def fail(self, error: Exception) -> None:
        """A turn raised; no other turn will come."""
        ...

    def release(self) -> None:
        """Give back all memory; the last call."""
        ...


class Scheduler:
    """Methods may be called from any thread, except where they say otherwise."""

    def __init__(self) -> None:
        self._streams: dict[Turns, float] = {}  # time of the last turn, on the clock of perf_counter
        self._retired: deque[tuple[Turns, Callable[[], object]]] = deque()
        self._jobs: deque[tuple[Callable[[], None], Future[None]]] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._turn_since: float | None = None
        self._busy_seconds = 0.0

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout_seconds: float) -> None:
        """End the thread after its turn; memory of retired streams is given back first. Not from the event loop."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(timeout_seconds)

    def add(self, stream: Turns) -> None:
        """A new stream; it is last in the line."""
        with self._changed:
            self._streams[stream] = time.perf_counter()

    def retire(self, stream: Turns, done: Callable[[], object]) -> None:
        """No more turns for this stream; its memory is given back on the engine thread, then `done` is called there."""
        with self._changed:
            self._streams.pop(stream, None)
            self._retired.append((stream, done))
            self._changed.notify()

    def wake(self) -> None:
        """A stream may have become ready."""
        with self._changed:
            self._changed.notify()

    def run(self, job: Callable[[], None]) -> Future[None]:
        """Run something else on the engine thread before the next turn."""
        future: Future[None] = Future()
        with self._changed:
            self._jobs.append((job, future))
            self._changed.notify()
        return future

    @property
    def ready_streams(self) -> int:
        """Streams with something to do now."""
        with self._changed:
            return sum(stream.ready for stream in self._streams)

    @property
    def busy_seconds(self) -> float:
        """Time spent in turns since the start."""
        return self._busy_seconds + self.turn_seconds

    @property
    def turn_seconds(self) -> float:
        """Time spent in the present turn, 0 between turns."""
        since = self._turn_since
        return 0.0 if since is None else time.perf_counter() - since

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(self._has_work)
                retired, self._retired = self._retired, deque()
                jobs, self._jobs = self._jobs, deque()
                stream = self._longest_waiting()
            for gone, done in retired:
                gone.release()
                done()
            for job, future in jobs:
                _complete(job, future)
            if stream is not None and not self._stopping:
                self._turn(stream)
            elif self._stopping and not retired:
                return

    def _has_work(self) -> bool:
        return bool(self._stopping or self._retired or self._jobs or self._longest_waiting() is not None)

    def _longest_waiting(self) -> Turns | None:
        ready = [stream for stream in self._streams if stream.ready]
        return min(ready, key=self._streams.__getitem__, default=None)

    def _turn(self, stream: Turns) -> None:
        self._turn_since = started = time.perf_counter()
        try:
            stream.take_turn()
        except Exception as error:
            log.exception("the engine failed on a stream")
            stream.fail(error)
            with self._changed:
                self._streams.pop(stream, None)
        ended = time.perf_counter()
        self._busy_seconds, self._turn_since = self._busy_seconds + ended - started, None
        with self._changed:
            if stream in self._streams:
                self._streams[stream] = ended


def _complete(job: Callable[[], None], future: "Future[None]") -> None:
    try:
        job()
    except Exception as error:  # noqa: BLE001 - it is raised where the future is awaited
        future.set_exception(error)
    else:
        future.set_result(None)

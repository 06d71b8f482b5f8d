"""The one engine thread: every network of every stream runs here, so the engine needs no lock and its cores no rivals.

A turn is at most one frame of each of the streams that take part. The stream that has waited longest since its last
turn goes first, and takes along those whose next frame can share its runs of the networks, in the order of their
waiting: nothing waits to fill a batch. The sizes of a batch are powers of two, so that few shapes occur and all of them
can be warm. A failure ends the stream it happened on and no other.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from functools import partial
from typing import Any, Protocol

from maskstream.network_calls import Finished, Step, run_in_lockstep
from serve.model import Model

log = logging.getLogger(__name__)


class Turns(Protocol):
    """A stream as the engine thread sees it."""

    @property
    def ready(self) -> bool:
        """Whether a turn would do something."""
        ...

    @property
    def model(self) -> Model:
        """What runs its frames."""
        ...

    @property
    def company(self) -> Hashable:
        """Equal for streams of one model whose next frames can share a run; None for a turn without a frame."""
        ...

    def begin_turn(self) -> Step[Any] | None:
        """Do what is next, up to one frame; that frame's step is returned and run here."""
        ...

    def finish_turn(self, finished: Finished, batch_size: int) -> None:
        """What came of the step."""
        ...

    def fail(self, error: Exception) -> None:
        """The turn raised what is not the client's fault; no other turn will come."""
        ...

    def release(self) -> None:
        """Give back all memory; the last call."""
        ...


class Scheduler:
    """Methods may be called from any thread, except where they say otherwise."""

    def __init__(self, on_turn: Callable[[int, float], None] = lambda batch_size, seconds: None) -> None:
        """`on_turn` is told of each turn that ran frames, on the engine thread."""
        self._streams: dict[Turns, float] = {}  # time of the last turn, on the clock of perf_counter
        self._retired: deque[tuple[Turns, Callable[[], object]]] = deque()
        self._jobs: deque[tuple[Callable[[], None], Future[None]]] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._on_turn = on_turn
        self._turn_since: float | None = None
        self._busy_seconds = 0.0
        self._failures = 0

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
    def failures(self) -> int:
        """Streams that the engine has failed so far."""
        return self._failures

    @property
    def busy_seconds(self) -> float:
        """Time spent in turns and jobs since the start."""
        return self._busy_seconds + self.turn_seconds

    @property
    def turn_seconds(self) -> float:
        """Time spent in the present turn or job, 0 between them."""
        since = self._turn_since
        return 0.0 if since is None else time.perf_counter() - since

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def _run(self) -> None:
        while self._work():
            pass

    def _work(self) -> bool:
        """Wait for something to do and do it; False at the end. While it waits it holds no stream."""
        with self._changed:
            self._changed.wait_for(self._has_work)
            retired, self._retired = self._retired, deque()
            jobs, self._jobs = self._jobs, deque()
            streams = self._next_batch()
        for gone, done in retired:
            _release(gone, done)
        for job, future in jobs:
            self._timed(partial(_complete, job, future))
        if streams and not self._stopping:
            self._timed(partial(self._turn, streams))
        return not self._stopping or bool(retired)

    def _has_work(self) -> bool:
        return bool(self._stopping or self._retired or self._jobs or any(stream.ready for stream in self._streams))

    def _next_batch(self) -> list[Turns]:
        """The stream that has waited longest, and who can go with it."""
        ready = sorted((stream for stream in self._streams if stream.ready), key=self._streams.__getitem__)
        if not ready:
            return []
        company = ready[0].company
        if company is None:
            return ready[:1]
        together = [stream for stream in ready if stream.company == company][: ready[0].model.max_batch]
        return together[: 1 << (len(together).bit_length() - 1)]

    def _turn(self, streams: list[Turns]) -> None:
        started = time.perf_counter()
        steps = [(stream, step) for stream in streams if (step := self._begin(stream)) is not None]
        finished = run_in_lockstep([step for _, step in steps], streams[0].model.networks)
        for (stream, _), result in zip(steps, finished, strict=True):
            self._guarded(stream, partial(stream.finish_turn, result, len(steps)))
        ended = time.perf_counter()
        if steps:
            self._on_turn(len(steps), ended - started)
        with self._changed:
            for stream in streams:
                if stream in self._streams:
                    self._streams[stream] = ended

    def _begin(self, stream: Turns) -> Step[Any] | None:
        began: list[Step[Any] | None] = []
        self._guarded(stream, lambda: began.append(stream.begin_turn()))
        return began[0] if began else None

    def _guarded(self, stream: Turns, part: Callable[[], None]) -> None:
        try:
            part()
        except Exception as error:
            log.exception("the engine failed on a stream")
            self._failures += 1
            with self._changed:
                self._streams.pop(stream, None)
            stream.fail(error)

    def _timed(self, work: Callable[[], None]) -> None:
        self._turn_since = started = time.perf_counter()
        work()
        self._busy_seconds, self._turn_since = self._busy_seconds + time.perf_counter() - started, None


def _release(stream: Turns, done: Callable[[], object]) -> None:
    try:
        stream.release()
    except Exception:
        log.exception("a stream's memory could not be given back")
    finally:
        done()


def _complete(job: Callable[[], None], future: "Future[None]") -> None:
    try:
        job()
    except Exception as error:  # noqa: BLE001 - it is raised where the future is awaited
        future.set_exception(error)
    else:
        future.set_result(None)

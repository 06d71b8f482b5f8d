"""FrameQueue: the ordered way of one stream's requests from the reader to the engine, and the drop policy on it.

A request waits, is decoded (one at a time, so order holds), is ready, is taken by the engine. A droppable frame gives
way to a newer one only at its own stage: a waiting frame to a newer waiting one, a ready frame to a newer ready one.
A decoded frame therefore never yields to one that the engine could not take yet, and no stream starves. LOSSLESS is
the same queue with nothing droppable in it. Bounded: `full` stops the reader, `may_decode` the decoder, and `ready`
is false while the client does not fetch its answers, or has given no credit for another result.
"""

import time
from collections import deque
from threading import Lock

from maskstream.tracker import Frame
from serve.messages import FrameRequest, RefusedRequest, Request

MAX_READY = 2  # decoded frames kept ahead of the engine; one being read, one behind it
CONTROL_SLACK = 64  # requests other than frames that a client may send on top while it waits for answers
MOST_CREDIT = 2**31


class FrameQueue:
    """Thread-safe: the event loop puts and decodes, the engine takes."""

    def __init__(
        self, max_in_flight: int, max_frame_age_seconds: float | None = None, credit: int | None = None
    ) -> None:
        """`credit` results may be sent before more is granted; None keeps no account."""
        self.max_in_flight, self.max_frame_age_seconds = max_in_flight, max_frame_age_seconds
        self._credit = credit
        self._waiting: deque[Request] = deque()
        self._ready: deque[Request] = deque()
        self._kept = 0  # requests that are not droppable, from put until answered
        self._unwritten = 0  # droppable frames taken by the engine, until answered
        self._taken = 0  # requests taken by the engine, until answered
        self._lock = Lock()

    @property
    def full(self) -> bool:
        """Whether the reader must wait."""
        return self._kept >= self.max_in_flight and self._credit is None

    @property
    def unanswered(self) -> int:
        """Requests that still owe an answer, apart from the one being decoded."""
        with self._lock:
            return max(self._kept + self._unwritten, len(self._waiting) + len(self._ready))

    @property
    def ready(self) -> bool:
        """Whether the engine may take something now."""
        with self._lock:
            return bool(self._ready) and self._unwritten < self.max_in_flight and not self._is_starved()

    @property
    def starved(self) -> bool:
        """Whether the next thing to do is a frame whose result the client has given no credit for."""
        with self._lock:
            return bool(self._ready) and self._is_starved()

    @property
    def keeps_credit(self) -> bool:
        """Whether the client grants results one by one: then its grants must be read, however full the queue is."""
        return self._credit is not None

    @property
    def flooded(self) -> bool:
        """Whether a client that is read without end has sent far more than it may have unanswered."""
        return self._kept > self.max_in_flight + CONTROL_SLACK

    @property
    def next_frame(self) -> Frame | None:
        """The pixels that the next turn would follow, None when none are ready."""
        with self._lock:
            frames = (request.frame for request in self._ready if isinstance(request, FrameRequest))
            return next((frame for frame in frames if frame is not None), None)

    def grant(self, results: int) -> None:
        """The client takes so many results more."""
        with self._lock:
            if self._credit is not None:
                self._credit = min(self._credit + results, MOST_CREDIT)

    @property
    def all_done(self) -> bool:
        """Whether every request that was decoded has been done and answered."""
        with self._lock:
            return not self._ready and not self._taken

    @property
    def may_decode(self) -> bool:
        """Whether something waits and the engine is not too far behind."""
        with self._lock:
            return bool(self._waiting) and sum(not request.droppable for request in self._ready) < MAX_READY

    def put(self, request: Request) -> list[int]:
        """Append; returns the seqs of the waiting frames it superseded."""
        with self._lock:
            dropped = _supersede(self._waiting, request)
            self._waiting.append(request)
            self._kept += not request.droppable
            return dropped

    def next_to_decode(self) -> Request:
        """The oldest waiting request; give it back with `put_ready`."""
        with self._lock:
            return self._waiting.popleft()

    def put_ready(self, request: Request, was_droppable: bool) -> list[int]:
        """The decoded request joins the end of the ready ones; returns the seqs of those it superseded."""
        with self._lock:
            dropped = _supersede(self._ready, request)
            self._ready.append(request)
            self._kept += was_droppable and not request.droppable  # it was given prompts, or turned out to be bad
            return dropped

    def take(self) -> tuple[Request | None, list[int]]:
        """What the engine does next, and the seqs of frames that have become too old to start."""
        too_old: list[int] = []
        with self._lock:
            while self._ready and not self._is_starved():
                request = self._ready.popleft()
                if not self._is_too_old(request):
                    self._unwritten += request.droppable
                    self._taken += 1
                    self._pay(request, 1)
                    return request, too_old
                too_old.append(request.seq)
        return None, too_old

    def answered(self, request: Request) -> None:
        """The answer of a taken request has been written."""
        with self._lock:
            self._taken -= 1
            if request.droppable:
                self._unwritten -= 1
            else:
                self._kept -= 1

    def refund(self, request: Request) -> None:
        """A taken frame had no result after all."""
        with self._lock:
            self._pay(request, -1)

    def discard(self) -> list[int]:
        """Forget all that nobody works on; returns the seqs of the frames among it."""
        with self._lock:
            gone = [*self._ready, *self._waiting]
            self._ready.clear()
            self._waiting.clear()
            self._kept -= sum(not request.droppable for request in gone)
        return [request.seq for request in gone if _is_frame(request)]

    def _is_starved(self) -> bool:
        return self._credit is not None and self._credit <= 0 and _has_result(self._ready[0])

    def _pay(self, request: Request, results: int) -> None:
        if self._credit is not None and _has_result(request):
            self._credit -= results

    def _is_too_old(self, request: Request) -> bool:
        limit = self.max_frame_age_seconds
        return limit is not None and request.droppable and time.perf_counter() - request.received > limit


def _is_frame(request: Request) -> bool:
    return isinstance(request, FrameRequest) or (isinstance(request, RefusedRequest) and request.is_frame)


def _has_result(request: Request) -> bool:
    return isinstance(request, FrameRequest) and request.error is None and not request.suppress_output


def _supersede(queue: deque[Request], newer: Request) -> list[int]:
    """Take the droppable frames out of `queue` when `newer` is a frame; one at most is there, for each did the same."""
    if not isinstance(newer, FrameRequest):
        return []
    dropped = [request for request in queue if request.droppable]
    for request in dropped:
        queue.remove(request)
    return [request.seq for request in dropped]

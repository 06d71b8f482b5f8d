"""Session: the state of one stream and what is done with it off the event loop.

`prepare` runs in the decode pool, one request at a time; turns run on the engine thread. The tracker is touched by the
engine thread alone, the prompts that wait for a frame by `prepare` alone, so neither needs a lock. Answers leave
through `post`, which the stream's RPC provides and which may be called from any thread.
"""

import time
from collections import Counter
from collections.abc import Callable, Hashable

from maskstream.errors import InvalidPrompt, MaskstreamError, NoObjects
from maskstream.network_calls import Finished, Step
from maskstream.prompt_kinds import AnyPrompt, Prompt
from maskstream.prompts import look_at_colours
from maskstream.tracker import Segmentation, Tracker
from serve.delivery import FrameQueue
from serve.errors import EngineFailed, SnapshotsOff, StreamEnded
from serve.messages import (
    Acked,
    Answer,
    Answered,
    Closed,
    CloseRequest,
    Dropped,
    DropReason,
    EncodedPrompt,
    FrameCounts,
    FrameRequest,
    MaskPrompt,
    Refused,
    RefusedRequest,
    RemoveObjectsRequest,
    Request,
    ResetRequest,
    SetObjectsRequest,
    SnapshotRequest,
    SnapshotTaken,
)
from serve.metrics import Metrics
from serve.model import Model


class Session:
    """One stream. `post` takes an answer and the request it settles; `end` takes what ends the stream."""

    def __init__(
        self,
        model: Model,
        tracker: Tracker,
        queue: FrameQueue,
        metrics: Metrics,
        makes_snapshots: bool = False,
        max_objects: int = 32,
    ) -> None:
        self.model, self.queue = model, queue
        self.counts = FrameCounts()  # kept by the event loop, as answers pass
        self.post: Callable[[Answer, Request | None], None]
        self.end: Callable[[StreamEnded], None]
        self._tracker, self._metrics, self._makes_snapshots = tracker, metrics, makes_snapshots
        self._max_objects = max_objects
        self._in_turn: FrameRequest | None = None
        self._queue_seconds = 0.0
        self._pending: dict[int, AnyPrompt] = {}  # prompts that wait for the next frame; 0 is to find some
        self._evictions: Counter[str] = Counter()
        self._writes_skipped: Counter[str] = Counter()

    # ---- decode pool -----------------------------------------------------------------------------------------------

    def prepare(self, request: Request) -> Request:
        """Decode what is encoded, bring prompts and their frame together. Errors are kept for the request's turn."""
        if isinstance(request, FrameRequest):
            self._prepare_frame(request)
        elif isinstance(request, SetObjectsRequest):
            try:
                self._check_pending(request)
                self._pending |= {p.object_id: _decoded(p) for p in request.encoded_prompts}
            except MaskstreamError as error:
                request.error = error
        elif isinstance(request, RemoveObjectsRequest):
            self._prepare_removal(request)
        elif isinstance(request, ResetRequest):
            self._pending.clear()
        return request

    def _check_pending(self, request: SetObjectsRequest) -> None:
        """Regions that wait are megabytes: no more of them than the stream may have objects."""
        ids = {*self._pending, *(prompt.object_id for prompt in request.encoded_prompts)} - {0}
        if len(ids) > self._max_objects:
            raise InvalidPrompt(f"{len(ids)} objects wait for a frame; this stream allows {self._max_objects}")

    def _prepare_removal(self, request: RemoveObjectsRequest) -> None:
        """All of it or nothing. Every request before this one is done, so the tracker may be asked."""
        known = ({*self._tracker.object_ids} | {*self._pending}) - {0}
        unknown = [i for i in request.object_ids if i not in known]
        if unknown:
            together = sorted(known)
            request.error = InvalidPrompt(f"object {unknown[0]} is not followed; known ids: {together or 'none'}")
            return
        for object_id in request.object_ids:
            self._pending.pop(object_id, None)

    def _prepare_frame(self, request: FrameRequest) -> None:
        started = time.perf_counter()
        try:
            frame = request.frame = request.decode()
            prompts = {p.object_id: _decoded(p) for p in request.encoded_prompts}
            pending, self._pending = self._pending, {}
            request.prompts = [look_at_colours(prompt, frame) for prompt in {**pending, **prompts}.values()]
        except MaskstreamError as error:
            request.error = error
        request.decode_seconds = time.perf_counter() - started

    # ---- engine thread ---------------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether a turn would do something."""
        return self.queue.ready

    @property
    def num_objects(self) -> int:
        """Objects followed at present; may be read from any thread."""
        return len(self._tracker.object_ids)

    @property
    def company(self) -> Hashable:
        """Model and size of the frame that the next turn would run; None for a turn without one."""
        frame = self.queue.next_frame
        return None if frame is None else (id(self.model), frame.shape)

    def begin_turn(self) -> Step[Segmentation] | None:
        """All requests that are ready, up to the next frame that can be followed: its step is returned."""
        while self.queue.ready:
            request, too_old = self.queue.take()
            if too_old:
                self.post(Dropped(tuple(too_old), DropReason.TOO_OLD), None)
            if request is None:
                return None
            if isinstance(request, FrameRequest) and request.error is None:
                return self._step(request)
            try:
                answer = self._answer(request)
            except MaskstreamError as error:
                answer = Refused(request.seq, error)
            self.post(answer, request)
        return None

    def finish_turn(self, finished: Finished, batch_size: int) -> None:
        """Answer the frame. Raises what the step raised, unless it was the client's mistake."""
        request, self._in_turn = self._in_turn, None
        assert request is not None, "a turn that was begun is finished once"
        request.frame = None  # 1 MiB and more that the answer does not need
        if isinstance(finished.error, MaskstreamError):
            self.queue.refund(request)
            self.post(Refused(request.seq, finished.error), request)
        elif finished.error is not None:
            raise finished.error
        else:
            self.post(self._answered(request, finished.result, batch_size), request)

    def fail(self, error: Exception) -> None:
        """The engine raised; the stream ends, its cause stays in the server's log."""
        self.end(EngineFailed(f"the engine failed on this stream ({type(error).__name__}); open a new one"))

    def release(self) -> None:
        """Give the memory bank back."""
        self._tracker.close()

    def _answer(self, request: Request) -> Answer:
        match request:
            case FrameRequest(error=MaskstreamError() as error) | SetObjectsRequest(error=MaskstreamError() as error):
                raise error
            case RefusedRequest(error=error):
                raise error
            case SnapshotRequest():
                return self._snapshot(request)
            case RemoveObjectsRequest():
                self._remove(request)
            case ResetRequest():
                self._tracker.reset()
            case CloseRequest():
                return Closed(self.counts)
        return Acked(request.seq)

    def _step(self, request: FrameRequest) -> Step[Segmentation]:
        assert request.frame is not None
        self._in_turn = request
        self._queue_seconds = time.perf_counter() - request.received - request.decode_seconds
        return self._tracker.stepping(request.frame, request.prompts)

    def _answered(self, request: FrameRequest, segmentation: Segmentation, batch_size: int) -> Answer:
        self._observe_memory()
        if request.suppress_output:
            return Acked(request.seq)
        seconds = {"queue": self._queue_seconds, "decode": request.decode_seconds, **segmentation.stage_seconds}
        return Answered(request, segmentation, seconds, batch_size)

    def _snapshot(self, request: SnapshotRequest) -> Answer:
        if not self._makes_snapshots:
            raise SnapshotsOff("this server signs no snapshots; prompt a new stream with the last answered mask")
        state = self._tracker.state()
        if state is None:
            raise NoObjects("no frame has been followed yet; there is nothing to take a snapshot of")
        return SnapshotTaken(request.seq, state)

    def _remove(self, request: RemoveObjectsRequest) -> None:
        if request.error is not None:
            raise request.error
        self._tracker.remove([i for i in request.object_ids if i in self._tracker.object_ids])

    def _observe_memory(self) -> None:
        evictions, skipped = self._tracker.evictions, self._tracker.writes_skipped
        self._metrics.add_memory_events(evictions - self._evictions, skipped - self._writes_skipped)
        self._evictions, self._writes_skipped = Counter(evictions), Counter(skipped)


def _decoded(prompt: EncodedPrompt) -> AnyPrompt:
    return Prompt(prompt.object_id, prompt.decode()) if isinstance(prompt, MaskPrompt) else prompt

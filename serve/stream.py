"""Stream: one Propagate RPC on the event loop, as four tasks around a Session.

reader    takes requests off the wire; always in LATEST, not beyond max_in_flight in LOSSLESS
decoder   hands requests to the decode pool, one at a time, and on to the engine
writer    the only one that writes; encodes results in the decode pool
watchdog  ends the stream when the client neither sends nor reads

Two rules of grpc.aio shape this: a `context.read()` that is cancelled takes the RPC with it, so time limits wait beside
the reader and never around it; and writes may not overlap, so there is one writer.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from maskstream.errors import MaskstreamError
from maskstream.tracker_state import TrackerState
from maskstream.v1 import maskstream_pb2 as pb
from serve import answer_codec, request_codec
from serve.config import Limits
from serve.errors import BadMessage, CreditExceeded, Draining, IdleTimeout, OutOfOrder, PromptRateExceeded, StreamEnded
from serve.messages import (
    Acked,
    Answer,
    Answered,
    Closed,
    CloseRequest,
    DrainNotice,
    Dropped,
    DropReason,
    FrameRequest,
    OpenRequest,
    Refused,
    RefusedRequest,
    RemoveObjectsRequest,
    Request,
    SetObjectsRequest,
    SnapshotTaken,
)
from serve.metrics import Metrics
from serve.prompt_rate import PromptRate
from serve.session import Session
from serve.tracing import StreamTrace

Context: TypeAlias = grpc.aio.ServicerContext[pb.PropagateRequest, pb.PropagateResponse]
Outgoing = tuple[Answer, Request | None]


@dataclass(frozen=True)
class Place:
    """What a stream uses of the server around it; `seal` makes a snapshot of a state and is work for the pool."""

    pool: ThreadPoolExecutor
    metrics: Metrics
    trace: StreamTrace
    wake_engine: Callable[[], None]
    seal: Callable[[TrackerState], bytes]


class Stream:
    """Runs one stream from Opened to Closed. Everything here is called on the event loop."""

    def __init__(self, session: Session, opened: OpenRequest, limits: Limits, place: Place) -> None:
        self._session, self._opened, self._limits = session, opened, limits
        self._place, self._metrics = place, place.metrics
        self._prompt_rate = PromptRate(limits.max_prompts_per_second)
        self._loop = asyncio.get_running_loop()
        self._outbox: deque[Outgoing] = deque()
        self._waiters: list[asyncio.Future[None]] = []
        self._failed: asyncio.Future[None] = self._loop.create_future()
        self._end_error: StreamEnded | None = None  # the status after Closed; None is OK
        self._last_seq = 0
        self._closing = False
        self._reading = False
        self._active = time.perf_counter()  # when a request came or an answer was written
        self._writing_since: float | None = None
        self._dropped_since_last = 0
        session.post = self._post_from_any_thread
        session.end = self._end_from_any_thread

    async def run(self, context: Context, first_seq: int) -> None:
        """Until Closed is written. Raises StreamEnded when the stream ends with a status."""
        self._last_seq = first_seq
        writer = asyncio.create_task(self._write(context))
        tasks = [writer, *map(_start, (self._read(context), self._decode(), self._watch()))]
        try:
            waiting: set[asyncio.Future[None]] = {*tasks, self._failed}
            while not writer.done():
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for future in done:
                    future.result()
        finally:
            for future in (*tasks, self._failed):
                future.cancel()
            await asyncio.gather(*tasks, self._failed, return_exceptions=True)
        if self._end_error is not None:
            raise self._end_error

    def announce_drain(self, grace_seconds: float) -> None:
        """Tell the client to move."""
        self._post(DrainNotice(grace_seconds), None)

    def fail(self, error: StreamEnded) -> None:
        """End with this status, whatever the engine is doing."""
        self._fail(error)

    def close_for_drain(self) -> None:
        """Take no more requests, answer what is queued, end with status DRAINING."""
        if not self._closing:
            self._end_error = Draining("the server went away; open the stream on another one")
            self._close(CloseRequest(seq=self._last_seq + 1, received=time.perf_counter()))

    # ---- reader ----------------------------------------------------------------------------------------------------

    async def _read(self, context: Context) -> None:
        while True:
            await self._until(lambda: not self._session.queue.full)
            self._reading = True
            message = await read_request(context)
            self._reading = False
            self._active = time.perf_counter()
            if self._closing:
                return
            if message is None:
                self._close(CloseRequest(seq=self._last_seq + 1, received=self._active))
                return
            self._accept(message)

    def _accept(self, message: pb.PropagateRequest) -> None:
        if message.WhichOneof("kind") == "credit" and self._takes_credit(message):
            return
        request = request_codec.parse_request(message, self._limits, self._opened.delivery)
        request = self._within_rate(request)
        is_frame = isinstance(request, FrameRequest) or (isinstance(request, RefusedRequest) and request.is_frame)
        self._session.counts.received += is_frame
        if request.seq <= self._last_seq:
            error = OutOfOrder(f"seq {request.seq} does not come after {self._last_seq}; seqs increase strictly")
            request = RefusedRequest(seq=request.seq, received=request.received, error=error, is_frame=is_frame)
        self._last_seq = max(self._last_seq, request.seq)
        if isinstance(request, CloseRequest):
            self._close(request)
        else:
            self._queue(request)

    def _takes_credit(self, message: pb.PropagateRequest) -> bool:
        """Whether this grant counts; it has no answer then."""
        queue = self._session.queue
        if not queue.keeps_credit or message.seq <= self._last_seq:
            return False
        self._last_seq = message.seq
        queue.grant(message.credit.results)
        self._place.wake_engine()
        return True

    def _within_rate(self, request: Request) -> Request:
        prompts = request.num_prompts
        if not prompts or self._prompt_rate.allows(prompts, request.received):
            if isinstance(request, FrameRequest | SetObjectsRequest):
                self._metrics.add_prompts(request.encoded_prompts)
            return request
        error = PromptRateExceeded(
            f"more than {self._limits.max_prompts_per_second} objects a second are prompted or removed on this stream"
        )
        is_frame = isinstance(request, FrameRequest)
        return RefusedRequest(seq=request.seq, received=request.received, error=error, is_frame=is_frame)

    def _close(self, request: CloseRequest) -> None:
        self._closing = True
        if not request.drain:
            self._drop(self._session.queue.discard(), DropReason.CLOSED)
        self._queue(request)

    def _queue(self, request: Request) -> None:
        queue = self._session.queue
        self._drop(queue.put(request), DropReason.SUPERSEDED)
        if queue.keeps_credit and queue.flooded:
            self._fail(CreditExceeded(f"more than {queue.max_in_flight} requests are unanswered; wait for answers"))
        self._notify()

    # ---- decoder ---------------------------------------------------------------------------------------------------

    async def _decode(self) -> None:
        queue = self._session.queue
        while True:
            await self._until(lambda: queue.may_decode)
            request = queue.next_to_decode()
            was_droppable = request.droppable
            if isinstance(request, RemoveObjectsRequest):
                await self._until(lambda: queue.all_done)  # only then is it known whether its objects are there
            if isinstance(request, FrameRequest | SetObjectsRequest):
                await self._loop.run_in_executor(
                    self._place.pool, self._session.prepare, request
                )  # megabytes, milliseconds
            else:
                self._session.prepare(request)
            self._drop(queue.put_ready(request, was_droppable), DropReason.SUPERSEDED)
            self._place.wake_engine()

    # ---- writer ----------------------------------------------------------------------------------------------------

    async def _write(self, context: Context) -> None:
        while True:
            await self._until(lambda: bool(self._outbox))
            answer, request = self._outbox.popleft()
            self._writing_since = time.perf_counter()
            if isinstance(answer, Answered):
                await self._write_result(context, answer)
            elif isinstance(answer, SnapshotTaken):
                await context.write(await self._sealed(answer))
            else:
                await context.write(answer_codec.encode_answer(answer))
            self._active, self._writing_since = time.perf_counter(), None
            if request is not None:
                self._session.queue.answered(request)
                self._notify()
                self._place.wake_engine()  # it may have waited for this answer to be fetched
            if isinstance(answer, Closed):
                return

    async def _write_result(self, context: Context, answer: Answered) -> None:
        dropped, self._dropped_since_last = self._dropped_since_last, 0
        result = await self._loop.run_in_executor(
            self._place.pool, answer_codec.encode_result, answer, self._opened, dropped
        )
        await context.write(result.response)
        seconds = {**answer.seconds, "encode": result.encode_seconds, "total": result.total_seconds}
        captured = answer.request.capture_time
        age_seconds = None if captured is None else time.time() - captured
        self._metrics.observe_frame(seconds, self._opened.delivery.value, age_seconds)
        self._place.trace.frame(answer.request.seq, seconds)

    async def _sealed(self, taken: SnapshotTaken) -> pb.PropagateResponse:
        try:
            state = await self._loop.run_in_executor(self._place.pool, self._place.seal, taken.state)
        except MaskstreamError as error:
            self._metrics.snapshots.labels("refused").inc()
            return answer_codec.encode_answer(Refused(taken.seq, error))
        self._metrics.snapshots.labels("made").inc()
        version = self._session.model.identity.model_version
        return pb.PropagateResponse(snapshot=pb.SnapshotData(seq=taken.seq, state=state, model_version=version))

    def _post_from_any_thread(self, answer: Answer, request: Request | None) -> None:
        self._loop.call_soon_threadsafe(self._post, answer, request)

    def _post(self, answer: Answer, request: Request | None) -> None:
        self._count(answer, request)
        last = self._outbox[-1][0] if self._outbox else None
        if isinstance(answer, Dropped) and isinstance(last, Dropped) and last.reason is answer.reason:
            # A client that does not read must not let notices pile up.
            self._outbox[-1] = (Dropped(last.seqs + answer.seqs, answer.reason), None)
        else:
            self._outbox.append((answer, request))
        self._notify()

    def _drop(self, seqs: list[int], reason: DropReason) -> None:
        if seqs:
            self._post(Dropped(tuple(seqs), reason), None)

    def _count(self, answer: Answer, request: Request | None) -> None:
        counts, metrics = self._session.counts, self._metrics
        is_frame = isinstance(request, FrameRequest) or (isinstance(request, RefusedRequest) and request.is_frame)
        if isinstance(answer, Dropped):
            counts.dropped += len(answer.seqs)
            self._dropped_since_last += len(answer.seqs)
            metrics.frames.labels("dropped").inc(len(answer.seqs))
            metrics.frames_dropped.labels(answer.reason.value).inc(len(answer.seqs))
        elif isinstance(answer, Refused):
            counts.refused += is_frame
            metrics.frames.labels("refused").inc(is_frame)
            metrics.requests_refused.labels(answer.error.reason).inc()
        elif isinstance(answer, Answered | Acked) and is_frame:
            counts.answered += 1
            metrics.frames.labels("answered").inc()

    # ---- watchdog --------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        limit = self._opened.idle_timeout_seconds
        assert limit is not None, "the service grants a limit before the stream runs"
        while True:
            await asyncio.sleep(min(limit / 4, 1.0))
            now = time.perf_counter()
            if self._writing_since is not None and now - self._writing_since > limit:
                raise IdleTimeout(f"the client has read no answer for {limit:.0f} s; read answers while sending")
            if self._session.queue.starved and now - self._active > limit:
                raise IdleTimeout(f"no Credit came for {limit:.0f} s and results wait; grant some with Credit")
            if self._reading and not self._session.queue.unanswered and now - self._active > limit:
                raise IdleTimeout(f"no request came for {limit:.0f} s; open a new stream when there are frames again")

    # ---- signals between the tasks ---------------------------------------------------------------------------------

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._waiters.append(waiter)
            await waiter

    def _notify(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _end_from_any_thread(self, error: StreamEnded) -> None:
        self._loop.call_soon_threadsafe(self._fail, error)

    def _fail(self, error: StreamEnded) -> None:
        if not self._failed.done():
            self._failed.set_exception(error)


async def read_request(context: Context) -> pb.PropagateRequest | None:
    """The next request, None once the client has half-closed. Must not be cancelled while the RPC is to go on.

    Raises BadMessage for bytes that are no request.
    """
    try:
        message: object = await context.read()
    except DecodeError as error:
        raise BadMessage(f"a request cannot be read: {error}; send messages of maskstream.v1") from error
    return message if isinstance(message, pb.PropagateRequest) else None


def _start(work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
    return asyncio.create_task(work)

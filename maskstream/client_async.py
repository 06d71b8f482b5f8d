"""The client library for asyncio: the same promises, awaited.

    async with AsyncMaskStreamClient("localhost:50051") as client, await client.open() as stream:
        async for answer in stream.propagate(frames, prompts={0: [Prompt(1, mask)]}):
            answer.id_map, answer.objects, answer.timings

It drives the machine of `maskstream.client` and is no second one: what resumes, retries and holds back is written and
tested once. A stream has three threads of its own (pump, reader, gRPC's sender), where pictures are compressed and
masks unpacked, so the event loop is never held up; nothing here waits on the loop's thread. gRPC's own asyncio would
give one poller a process, and so one event loop, and would unpack masks on it.
"""

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self

import grpc

from maskstream.client import Stream, first_info
from maskstream.client_link import Link
from maskstream.client_messages import FrameAnswer, ServerInfo, StreamCounts, StreamOptions
from maskstream.client_opening import Opener, Targets
from maskstream.client_propagation import STOP_SECONDS, FeederOf, Prompts, Propagation, Told, arriving_answers
from maskstream.client_security import Access, ClientTls, Token
from maskstream.errors import StreamError
from maskstream.feeder import AnyFrame, AsyncFeeder, Feeder
from maskstream.frame_input import FrameLike
from maskstream.in_thread import in_thread
from maskstream.prompt_kinds import AnyPrompt

__all__ = ["AsyncMaskStreamClient", "AsyncStream"]


class AsyncMaskStreamClient:
    """Servers at HOST:PORT, one or several that are tried in turn: "a:50051,b:50051" or a list.

    It belongs to no event loop: streams of one client may be used by several.
    """

    def __init__(
        self,
        target: str | Sequence[str],
        channel: grpc.Channel | None = None,
        *,
        tls: ClientTls | None = None,
        token: Token | None = None,
        insecure_token: bool = False,
    ) -> None:
        """As `MaskStreamClient`; a `channel` of your own is one of `grpc`, not of `grpc.aio`.

        Raises ValueError for what does not fit together, OSError for a file of `tls` that cannot be read.
        """
        self._targets = Targets(target, Access(tls, token, insecure_token), channel)

    async def open(self, *, resume_state: bytes = b"", **options: Any) -> "AsyncStream":
        """A new stream; keywords are those of StreamOptions. `resume_state`: of an earlier `AsyncStream.snapshot`.

        Raises ServerFull, ServerUnavailable, or StreamError, with reason SNAPSHOT_INVALID for a state that the server
        does not take. Cancelled, it leaves no stream behind.
        """
        opener, given_up = Opener(self._targets, StreamOptions(**options)), threading.Event()
        try:
            link = await in_thread(partial(Link, opener, resume_state, given_up), undo=Link.cancel)
        except asyncio.CancelledError:
            given_up.set()
            opener.cancel()
            raise
        return AsyncStream(link)

    async def info(self, timeout_seconds: float = 10.0) -> ServerInfo:
        """Model, limits and load of the first server that answers. Raises ServerUnavailable."""
        return await in_thread(partial(first_info, self._targets, timeout_seconds))

    async def close(self) -> None:
        """Close the connections; streams on them end."""
        await in_thread(self._targets.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()


class AsyncStream:
    """One video. `send` and `answers` may be used by two tasks; `propagate` does both for you."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._waiting = Stream(link)  # the same stream, for what waits on a thread
        self._propagation: Propagation | None = None
        self._untaken: deque[FrameAnswer] = deque()

    @property
    def max_in_flight(self) -> int:
        """As granted by the server."""
        return self._waiting.max_in_flight

    @property
    def resumed(self) -> bool:
        """Whether the stream, as it was last opened, goes on from a snapshot."""
        return self._waiting.resumed

    async def propagate(
        self, frames: Iterable[AnyFrame] | AsyncIterable[AnyFrame], prompts: Prompts | None = None
    ) -> AsyncGenerator[FrameAnswer, None]:
        """Send all frames and yield their answers as they come; `prompts` by the index of their frame.

        `frames` are those of `Stream.propagate`. An async iterable is read by a task on this loop, an ordinary one on
        a thread, so it may block. Everything else is as there, too: one answer for each frame, in order unless
        `latest` drops some; resuming; holding back for a slow caller. Leaving the loop early, or a task that is
        cancelled, stops reading and sending; `async with` around the stream then ends it as well. One at a time: where
        another one begins, this one ends, with a StreamError if anybody still waits for its answers.
        """
        while self._propagation is not None and self._propagation.is_running:
            self._propagation.stop()  # a loop that was left is closed when the event loop comes to it
            await in_thread(self._propagation.join)
        loop = asyncio.get_running_loop()
        outbox: asyncio.Queue[Told] = asyncio.Queue()

        def tell(told: Told) -> None:
            try:
                loop.call_soon_threadsafe(outbox.put_nowait, told)
            except RuntimeError:  # the loop was closed over our head
                propagation.stop()

        self._propagation = propagation = Propagation(self._link, _feeder_of(frames), prompts or {}, tell)
        propagation.start()
        ended = False
        try:
            while (answer := await outbox.get()) is not None:
                if isinstance(answer, BaseException):
                    raise answer
                yield answer
                propagation.taken(answer)
            ended = True
            if not propagation.is_complete:
                raise StreamError("REPLACED: another `propagate` of this stream has begun", "REPLACED")
        finally:
            propagation.stop()
            if not ended:
                await _last_of(outbox)

    # ---- one by one ------------------------------------------------------------------------------------------------

    async def send(
        self,
        frame: FrameLike,
        prompts: Sequence[AnyPrompt] = (),
        pts: float | None = None,
        capture_time: float | None = None,
    ) -> int:
        """Send one frame; returns its index, from 0. `pts` in seconds, `capture_time` in seconds since 1970.

        Waits while max_in_flight frames are unanswered. Cancelled meanwhile, the frame may be sent all the same. Raises
        InvalidFrame for what is no frame or too large.
        """
        return await in_thread(partial(self._waiting.send, frame, prompts, pts, capture_time))

    async def answers(self) -> AsyncGenerator[FrameAnswer, None]:
        """Answers to what was sent, as they come, until the stream ends. Raises StreamError when it ends badly.

        An answer that comes while its task is cancelled is kept for whoever asks next.
        """
        given_up = threading.Event()
        coming = arriving_answers(self._link, given_up)
        while self._untaken:
            yield self._untaken.popleft()
        while (answer := await self._next_of(coming, given_up)) is not None:
            yield answer

    async def _next_of(self, coming: Iterator[FrameAnswer], given_up: threading.Event) -> FrameAnswer | None:
        """Cancelled, it waits until the thread has let go of the link: two that wait would take each other's events."""
        reading = asyncio.ensure_future(in_thread(partial(next, coming, None), undo=self._keep))
        try:
            return await asyncio.shield(reading)
        except asyncio.CancelledError:
            given_up.set()
            self._link.wake()
            with contextlib.suppress(StreamError):  # whoever asks next is told
                self._keep(await reading)
            raise

    async def set_objects(self, prompts: Sequence[AnyPrompt]) -> None:
        """Add or correct objects, with effect from the next frame."""
        await in_thread(partial(self._waiting.set_objects, prompts))

    async def remove(self, object_ids: Sequence[int]) -> None:
        """Stop following these objects."""
        self._waiting.remove(object_ids)

    async def reset(self) -> None:
        """Forget all objects and the frame size."""
        self._waiting.reset()

    async def snapshot(self, timeout_seconds: float = 30.0) -> bytes:
        """The stream's memory after all that was sent so far, for `client.open(resume_state=...)` on any server of the
        same model and key. With `results_ahead`, take the answers meanwhile: it comes after them.

        Raises RequestRefused (SNAPSHOTS_OFF, SNAPSHOT_TOO_LARGE, NO_OBJECTS), StreamError when the stream ends.
        """
        return await in_thread(partial(self._waiting.snapshot, timeout_seconds))

    async def close(self, timeout_seconds: float = 60.0) -> StreamCounts | None:
        """Let the server answer what it has, then end. None when the stream ended badly. Safe to call twice.

        Cancelled meanwhile, it ends at once.
        """
        try:
            return await in_thread(partial(self._waiting.close, timeout_seconds))
        except asyncio.CancelledError:
            self._link.cancel()
            raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if kind is None:
            await self.close()
        else:
            self._link.cancel()
            await in_thread(partial(self._link.call.ended.wait, STOP_SECONDS))

    def _keep(self, answer: FrameAnswer | None) -> None:
        if answer is not None:
            self._untaken.append(answer)


def _feeder_of(frames: Iterable[AnyFrame] | AsyncIterable[AnyFrame]) -> FeederOf:
    if isinstance(frames, AsyncIterable):
        return partial(AsyncFeeder, frames)
    return partial(Feeder, frames)


async def _last_of(outbox: "asyncio.Queue[Told]") -> None:
    """Wait for None: nothing comes after it."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(STOP_SECONDS):
            while await outbox.get() is not None:
                pass

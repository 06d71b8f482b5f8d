"""The client library: numpy in, numpy out.

    with MaskStreamClient("localhost:50051") as client, client.open() as stream:
        for answer in stream.propagate(frames, prompts={0: [Prompt(1, mask)]}):
            answer.id_map, answer.objects, answer.timings

Every frame sent has exactly one answer: masks, an error, or the notice that it was dropped. When the connection breaks
or the server goes away, `propagate` opens the stream anew, on another server if it knows one, and shows it each object
on the frame it was last seen on, or hands over the old server's own memory; no server keeps state for that.
"""

import itertools
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from types import TracebackType
from typing import Any, Self

import grpc

from maskstream import wire
from maskstream.client_journal import Sent
from maskstream.client_link import Link, no_answer
from maskstream.client_messages import (
    STAGES,
    FrameAnswer,
    ServerInfo,
    StreamCounts,
    StreamOptions,
    prompts_message,
    server_info,
)
from maskstream.client_opening import Opener, Targets
from maskstream.client_propagation import Prompts, arriving_answers, as_request, propagated
from maskstream.client_security import Access, ClientTls, Token
from maskstream.errors import ServerUnavailable, StreamError
from maskstream.feeder import AnyFrame, Feeder
from maskstream.frame_input import FrameLike
from maskstream.prompt_kinds import AnyPrompt, AutoPrompt, BoxPrompt, PointPrompt
from maskstream.remote_call import stream_error
from maskstream.tracker import Prompt
from maskstream.v1 import maskstream_pb2 as pb

__all__ = [
    "STAGES",
    "AutoPrompt",
    "BoxPrompt",
    "ClientTls",
    "FrameAnswer",
    "MaskStreamClient",
    "PointPrompt",
    "Prompt",
    "ServerInfo",
    "Stream",
    "StreamCounts",
    "StreamOptions",
]


class MaskStreamClient:
    """Servers at HOST:PORT, one or several that are tried in turn: "a:50051,b:50051" or a list."""

    def __init__(
        self,
        target: str | Sequence[str],
        channel: grpc.Channel | None = None,
        *,
        tls: ClientTls | None = None,
        token: Token | None = None,
        insecure_token: bool = False,
    ) -> None:
        """`token` is sent with every call; a function is asked for it each time. It goes over plain text to other
        machines only with `insecure_token`. A `channel` of your own replaces all of this and stays yours to close.

        Raises ValueError for what does not fit together, OSError for a file of `tls` that cannot be read.
        """
        self._targets = Targets(target, Access(tls, token, insecure_token), channel)

    def open(self, *, resume_state: bytes = b"", **options: Any) -> "Stream":
        """A new stream; keywords are those of StreamOptions. `resume_state`: of an earlier `Stream.snapshot`.

        Raises ServerFull, ServerUnavailable, or StreamError, with reason SNAPSHOT_INVALID for a state that the server
        does not take.
        """
        return Stream(Link(Opener(self._targets, StreamOptions(**options)), resume_state))

    def info(self, timeout_seconds: float = 10.0) -> ServerInfo:
        """Model, limits and load of the first server that answers. Raises ServerUnavailable."""
        return first_info(self._targets, timeout_seconds)

    def close(self) -> None:
        """Close the connections; streams on them end."""
        self._targets.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class Stream:
    """One video. `send` and `answers` may be used from two threads; `propagate` does both for you."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._indices = itertools.count()

    @property
    def max_in_flight(self) -> int:
        """As granted by the server."""
        return self._link.max_in_flight

    @property
    def resumed(self) -> bool:
        """Whether the stream, as it was last opened, goes on from a snapshot."""
        return self._link.call.opened.resumed

    def propagate(self, frames: Iterable[AnyFrame], prompts: Prompts | None = None) -> Iterator[FrameAnswer]:
        """Send all frames and yield their answers as they come; `prompts` by the index of their frame.

        `frames` are arrays uint8 [H, W, 3] RGB or PIL images, or pairs of one and its presentation time in seconds;
        they are read on another thread. Answers of a lossless stream come in order. With `latest`, a frame that cannot
        be sent before a newer one is there is dropped here. Resumes by itself; raises StreamError when no server can
        be had again. When another thread closes the stream, frames without an answer are dropped with CLOSED and the
        iteration ends.
        """
        yield from propagated(self._link, partial(Feeder, frames), prompts or {})

    # ---- one by one ------------------------------------------------------------------------------------------------

    def send(
        self,
        frame: FrameLike,
        prompts: Sequence[AnyPrompt] = (),
        pts: float | None = None,
        capture_time: float | None = None,
    ) -> int:
        """Send one frame; returns its index, from 0. `pts` in seconds, `capture_time` in seconds since 1970.

        Waits while max_in_flight frames are unanswered. Raises InvalidFrame for what is no frame or too large.
        """
        sent = as_request(self._link, frame, prompts, pts)
        if capture_time is not None:
            sent.request.frame.capture_time.FromNanoseconds(round(capture_time * wire.NANOS))
        sent.index = next(self._indices)
        self._link.wait_for_room()
        self._link.send(sent)
        return sent.index

    def answers(self) -> Iterator[FrameAnswer]:
        """Answers to what was sent, as they come, until the stream ends. Raises StreamError when it ends badly."""
        return arriving_answers(self._link, threading.Event())

    def set_objects(self, prompts: Sequence[AnyPrompt]) -> None:
        """Add or correct objects, with effect from the next frame."""
        self._link.send(Sent(pb.PropagateRequest(set_objects=prompts_message(prompts))))

    def remove(self, object_ids: Sequence[int]) -> None:
        """Stop following these objects."""
        self._link.send(Sent(pb.PropagateRequest(remove_objects=pb.RemoveObjects(object_ids=object_ids))))

    def reset(self) -> None:
        """Forget all objects and the frame size."""
        self._link.send(Sent(pb.PropagateRequest(reset=pb.Reset())))

    def snapshot(self, timeout_seconds: float = 30.0) -> bytes:
        """The stream's memory after all that was sent so far, for `client.open(resume_state=...)` on any server of the
        same model and key. With `results_ahead`, take the answers meanwhile: it comes after them.

        Raises RequestRefused (SNAPSHOTS_OFF, SNAPSHOT_TOO_LARGE, NO_OBJECTS), StreamError when the stream ends.
        """
        state: Future[bytes] = self._link.ask_for_snapshot()
        try:
            return state.result(timeout_seconds)
        except TimeoutError:
            raise no_answer(timeout_seconds) from None

    def close(self, timeout_seconds: float = 60.0) -> StreamCounts | None:
        """Let the server answer what it has, then end. None when the stream ended badly. Safe to call twice."""
        self._link.close(timeout_seconds)
        closed = self._link.call.closed
        if closed is None:
            return None
        return StreamCounts(closed.frames_in, closed.frames_answered, closed.frames_dropped, closed.frames_refused)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self._link.cancel()


def first_info(targets: Targets, timeout_seconds: float) -> ServerInfo:
    """Of the first server that answers. Raises ServerUnavailable, or the StreamError of the last one."""
    failure: StreamError = ServerUnavailable("UNAVAILABLE: there is no server", "UNAVAILABLE")
    for stub in targets.stubs:
        try:
            return server_info(stub.GetServerInfo(pb.GetServerInfoRequest(), timeout=timeout_seconds))
        except grpc.RpcError as error:
            failure = stream_error(error)
    raise failure

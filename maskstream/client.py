"""The client library: numpy in, numpy out.

    with MaskStreamClient("localhost:50051") as client, client.open() as stream:
        for answer in stream.propagate(frames, prompts={0: [Prompt(1, mask)]}):
            answer.id_map, answer.objects, answer.timings

Every frame sent has exactly one answer: masks, an error, or the notice that it was dropped. When the connection breaks
or the server goes away, `propagate` opens the stream anew, wherever the target now leads, and shows the new server each
object on the frame it was last seen on; no server keeps state for that.
"""

import itertools
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self

import grpc

from maskstream import wire
from maskstream.client_messages import (
    STAGES,
    AnyPrompt,
    BoxPrompt,
    FrameAnswer,
    ServerInfo,
    StreamCounts,
    StreamOptions,
    answer_seqs,
    frame_answer,
    frame_message,
    id_map_at_size,
    open_request,
    prompts_message,
    without_prompts,
)
from maskstream.errors import ServerFull, ServerUnavailable, StreamError
from maskstream.feeder import Fed, FedAll, Feeder, TimedFrame
from maskstream.remote_call import CallEnded, RemoteCall, stream_error
from maskstream.tracker import Frame, Prompt
from maskstream.v1 import maskstream_pb2 as pb
from maskstream.v1 import maskstream_pb2_grpc as pb_grpc

__all__ = [
    "STAGES",
    "BoxPrompt",
    "FrameAnswer",
    "MaskStreamClient",
    "Prompt",
    "ServerInfo",
    "Stream",
    "StreamCounts",
    "StreamOptions",
]

Prompts = Mapping[int, Sequence[AnyPrompt]]

_CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),  # the server's limit is checked per frame, with a better message
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.use_local_subchannel_pool", 1),  # a connection of its own, so that balancers spread clients
)
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.2, 5.0


class MaskStreamClient:
    """A connection to HOST:PORT. Give `channel` for TLS or other options; it is then yours to close."""

    def __init__(self, target: str, channel: grpc.Channel | None = None) -> None:
        self._owned = None if channel else grpc.insecure_channel(target, _CHANNEL_OPTIONS)
        self._stub = pb_grpc.MaskStreamServiceStub(channel or self._owned)  # type: ignore[no-untyped-call]

    def open(self, **options: Any) -> "Stream":
        """A new stream; keywords are those of StreamOptions. Raises ServerFull, ServerUnavailable, StreamError."""
        return Stream(self._stub, StreamOptions(**options))

    def info(self, timeout_seconds: float = 10.0) -> ServerInfo:
        """Model, limits and load. Raises ServerUnavailable."""
        try:
            info = self._stub.GetServerInfo(pb.GetServerInfoRequest(), timeout=timeout_seconds)
        except grpc.RpcError as error:
            raise stream_error(error) from error
        return ServerInfo(
            server_version=info.server_version,
            model=info.model,
            model_version=info.model_version,
            engine=info.backend,
            precision=info.precision,
            active_streams=info.active_streams,
            max_streams=info.max_streams,
            max_size=(info.limits.max_height, info.limits.max_width),
            max_objects=info.limits.max_objects,
        )

    def close(self) -> None:
        """Close the connection; streams on it end."""
        if self._owned:
            self._owned.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


@dataclass(frozen=True, eq=False)
class _Sent:
    """A frame on its way; kept until it is answered, so that it can be sent again."""

    index: int
    run: object  # the `propagate` it belongs to; None for `send`
    size: tuple[int, int]  # height, width
    message: pb.Frame


@dataclass(frozen=True)
class _Arrived:
    response: pb.PropagateResponse
    settled: tuple[tuple[int, _Sent | None], ...]  # seq of each request that this answers, and its frame


_Event = _Arrived | CallEnded | Fed | FedAll


class Stream:
    """One video. `send` and `answers` may be used from two threads; `propagate` does both for you."""

    def __init__(self, stub: pb_grpc.MaskStreamServiceStub, options: StreamOptions) -> None:
        self._stub, self._options = stub, options
        self._inbox: SimpleQueue[_Event] = SimpleQueue()
        self._unanswered: dict[int, _Sent] = {}  # by seq, oldest first
        self._room = threading.Condition()  # guards what is unanswered
        self._last_seen: dict[int, tuple[_Sent, pb.Mask]] = {}  # by object id, longest ago first
        self._indices = itertools.count()
        self._resumed_in_vain = 0  # without an answer since
        self._call = self._connect()

    @property
    def max_in_flight(self) -> int:
        """As granted by the server."""
        return self._call.opened.max_in_flight

    # ---- one by one ------------------------------------------------------------------------------------------------

    def send(
        self,
        frame: Frame,
        prompts: Sequence[AnyPrompt] = (),
        pts: float | None = None,
        capture_time: float | None = None,
    ) -> int:
        """Send uint8 [H, W, 3] RGB; returns its index, from 0. `pts` in seconds, `capture_time` in seconds of Unix.

        Waits while max_in_flight frames are unanswered. Raises InvalidFrame for what is no frame or too large.
        """
        message = self._message(frame, prompts, pts)
        if capture_time is not None:
            message.capture_time.FromNanoseconds(round(capture_time * wire.NANOS))
        sent = _Sent(next(self._indices), None, frame.shape[:2], message)
        with self._room:
            self._room.wait_for(lambda: len(self._unanswered) < self.max_in_flight or self._call.ended.is_set())
            if self._call.ended.is_set():
                raise StreamError("ENDED: the stream has ended; `answers` says why, open another one", "ENDED")
            self._send(sent)
        return sent.index

    def answers(self) -> Iterator[FrameAnswer]:
        """Answers to what was sent, as they come, until the stream ends. Raises StreamError when it ends badly."""
        while True:
            event = self._inbox.get()
            if isinstance(event, CallEnded):
                self._inbox.put(event)  # for whoever asks again
                if event.error:
                    raise event.error
                return
            if isinstance(event, _Arrived):
                yield from self._answers_of(event)

    def set_objects(self, prompts: Sequence[AnyPrompt]) -> None:
        """Add or correct objects, with effect from the next frame."""
        self._control(pb.PropagateRequest(set_objects=prompts_message(prompts)))

    def remove(self, object_ids: Sequence[int]) -> None:
        """Stop following these objects."""
        for object_id in object_ids:
            self._last_seen.pop(object_id, None)
        self._control(pb.PropagateRequest(remove_objects=pb.RemoveObjects(object_ids=object_ids)))

    def reset(self) -> None:
        """Forget all objects and the frame size."""
        self._last_seen.clear()
        self._control(pb.PropagateRequest(reset=pb.Reset()))

    def close(self, timeout_seconds: float = 60.0) -> StreamCounts | None:
        """Let the server answer what it has, then end. None when the stream ended badly. Safe to call twice."""
        self._call.half_close()
        if not self._call.ended.wait(timeout_seconds):
            self._call.cancel()
        closed = self._call.closed
        if closed is None:
            return None
        return StreamCounts(closed.frames_in, closed.frames_answered, closed.frames_dropped, closed.frames_refused)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self._call.cancel()

    # ---- a whole video ---------------------------------------------------------------------------------------------

    def propagate(self, frames: Iterable[Frame | TimedFrame], prompts: Prompts | None = None) -> Iterator[FrameAnswer]:
        """Send all frames and yield their answers as they come; `prompts` by the index of their frame.

        `frames` are arrays, or (array, presentation time in seconds); they are read on another thread. Answers of a
        lossless stream come in order. With `latest`, a frame that cannot be sent before a newer one is there is
        dropped here. Resumes by itself; raises StreamError when no server can be had again.
        """
        run, prompts, indices = object(), prompts or {}, itertools.count()
        waiting: deque[_Sent] = deque()
        live = self._options.delivery == "latest"
        feeder = Feeder(frames, self._inbox.put)
        feeding, owed = True, 0
        try:
            while feeding or owed:
                if feeding and (live or not waiting):
                    feeder.ask()
                event = self._inbox.get()
                answers: list[FrameAnswer] = []
                if isinstance(event, Fed):
                    feeder.taken()
                    owed += 1
                    answers = _supersede(waiting) if live else []
                    waiting.append(self._next_frame(event.frame, next(indices), run, prompts))
                elif isinstance(event, FedAll):
                    feeding = False
                    if event.error:
                        raise event.error
                else:
                    answers = self._react(event, run)
                self._send_waiting(waiting)
                owed -= sum(answer.index is not None for answer in answers)
                yield from answers
        finally:
            feeder.stop()

    def _next_frame(self, fed: Frame | TimedFrame, index: int, run: object, prompts: Prompts) -> _Sent:
        frame, pts = fed if isinstance(fed, tuple) else (fed, None)
        return _Sent(index, run, frame.shape[:2], self._message(frame, prompts.get(index, ()), pts))

    def _react(self, event: _Arrived | CallEnded, run: object) -> list[FrameAnswer]:
        if isinstance(event, CallEnded):
            self._resume(event.error)
            return []
        if event.response.HasField("draining"):
            self._call.leaving = True  # it answers what it has, then CallEnded comes
            self._call.half_close()
        mine = {seq for seq, sent in event.settled if sent is None or sent.run is run}
        return [answer for answer in self._answers_of(event) if answer.seq in mine]

    def _send_waiting(self, waiting: deque[_Sent]) -> None:
        with self._room:
            while waiting and not self._call.leaving and len(self._unanswered) < self.max_in_flight:
                self._send(waiting.popleft())

    # ---- resuming --------------------------------------------------------------------------------------------------

    def _resume(self, error: StreamError | None) -> None:
        """Open the stream anew, show it every object, and send again what was not answered."""
        if error is not None and not isinstance(error, ServerUnavailable) and error.reason != "IDLE_TIMEOUT":
            raise error
        self._resumed_in_vain += 1
        if self._resumed_in_vain > self._options.resumes:
            raise error or StreamError("ENDED: the server ends every stream before it answers", "ENDED")
        self._call = self._reconnect()
        for message in self._introductions():
            self._control(pb.PropagateRequest(frame=message))
        with self._room:
            again, self._unanswered = list(self._unanswered.values()), {}
            for sent in again:
                self._send(sent)

    def _reconnect(self) -> RemoteCall:
        pause = _FIRST_PAUSE_SECONDS
        for _ in range(self._options.resumes):
            try:
                return self._connect()
            except (ServerUnavailable, ServerFull):
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        return self._connect()

    def _introductions(self) -> Iterator[pb.Frame]:
        """Each frame on which an object was last seen, oldest first, those objects as its prompts, without output."""
        groups: dict[int, list[int]] = {}
        for object_id, (sent, _) in self._last_seen.items():
            groups.setdefault(id(sent), []).append(object_id)
        for object_ids in groups.values():
            sent, label_map = self._last_seen[object_ids[0]]
            id_map = id_map_at_size(label_map, sent.size)
            picture = without_prompts(sent.message)
            picture.prompts.CopyFrom(prompts_message([Prompt(i, id_map == i) for i in object_ids]))
            picture.suppress_output = True
            yield picture

    # ---- both ways -------------------------------------------------------------------------------------------------

    def _connect(self) -> RemoteCall:
        return RemoteCall(self._stub, open_request(self._options), self._deliver)

    def _message(self, frame: Frame, prompts: Sequence[AnyPrompt], pts: float | None) -> pb.Frame:
        message = frame_message(frame, prompts, self._options, self._call.opened.limits.max_message_bytes)
        if pts is not None:
            message.pts.CopyFrom(wire.duration(pts))
        return message

    def _send(self, sent: _Sent) -> None:
        """With `_room` held, so that frames leave in the order of their seqs."""
        seq = self._call.send(pb.PropagateRequest(frame=sent.message))
        self._unanswered[seq] = sent

    def _control(self, request: pb.PropagateRequest) -> None:
        with self._room:
            self._call.send(request)

    def _deliver(self, event: pb.PropagateResponse | CallEnded) -> None:
        """On the reading thread of a call."""
        with self._room:
            if isinstance(event, CallEnded):
                self._inbox.put(event)
            else:
                settled = tuple((seq, self._unanswered.pop(seq, None)) for seq in answer_seqs(event))
                self._inbox.put(_Arrived(event, settled))
            self._room.notify_all()

    def _answers_of(self, event: _Arrived) -> Iterator[FrameAnswer]:
        for seq, sent in event.settled:
            answer = frame_answer(event.response, seq, sent.index if sent else None)
            if answer is not None:
                if sent and event.response.HasField("result"):
                    self._remember(sent, event.response.result)
                yield answer

    def _remember(self, sent: _Sent, result: pb.FrameResult) -> None:
        self._resumed_in_vain = 0
        for stat in result.objects:
            if stat.area:
                self._last_seen.pop(stat.object_id, None)  # to the end: the latest is last
                self._last_seen[stat.object_id] = (sent, result.label_map)


def _supersede(waiting: deque[_Sent]) -> list[FrameAnswer]:
    """Take the frames without prompts out of `waiting`: a newer one is there."""
    dropped = [sent for sent in waiting if not sent.message.prompts.objects]
    for sent in dropped:
        waiting.remove(sent)
    return [FrameAnswer(sent.index, 0, dropped="SUPERSEDED") for sent in dropped]

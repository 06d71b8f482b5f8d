"""One clean stream of a load: sends what is due when it is due, and notes what became of each frame.

It speaks the bare protocol on gRPC's threads: nothing is resumed or sent again, answers are not made into masks. That
costs the least of what was tried (0.7-0.9 ms of CPU a frame, against 0.8-1.0 on asyncio). gRPC asks the generator of
requests for the next one when the last is on its way, so a transport that is stopped up makes frames late, and that
is measured.
"""

import contextlib
import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc

from maskstream import wire
from maskstream.load.encoded_clip import EncodedClip
from maskstream.load.endpoint import Endpoint
from maskstream.load.frame_record import ANSWERED, DROPPED, NOT_SENT, REFUSED, FrameRecord, StreamRecord
from maskstream.load.plan import LATEST, ClosedLoop, Load, OpenLoop, Pace
from maskstream.remote_call import stream_error
from maskstream.report import STAGES
from maskstream.v1 import maskstream_pb2 as pb
from maskstream.v1 import maskstream_pb2_grpc as pb_grpc

_DELIVERY = {"latest": pb.DELIVERY_POLICY_LATEST, "lossless": pb.DELIVERY_POLICY_LOSSLESS}
OPEN_SECONDS = 30.0


@dataclass(frozen=True)
class StreamWishes:
    """What a stream is opened with."""

    delivery: str
    max_in_flight: int = 0  # 0: the server's default
    max_frame_age_seconds: float | None = None

    def message(self) -> pb.PropagateRequest:
        """The first request."""
        opened = pb.Open(delivery=_DELIVERY[self.delivery], max_in_flight=self.max_in_flight)
        opened.output.per_object_stats = opened.output.timings = True
        if self.max_frame_age_seconds is not None:
            opened.max_frame_age.CopyFrom(wire.duration(self.max_frame_age_seconds))
        return pb.PropagateRequest(seq=1, open=opened)


def wishes_of(load: Load) -> StreamWishes:
    """For each clean stream of a load."""
    return StreamWishes(load.delivery, load.max_in_flight, load.max_frame_age_seconds)


class StreamLoad:
    """One RPC: `open`, then `run`. `cancel` may be called from any thread."""

    def __init__(self, channel: grpc.Channel, wishes: StreamWishes, clip: EncodedClip) -> None:
        self.record = StreamRecord()
        self._stub = pb_grpc.MaskStreamServiceStub(channel)  # type: ignore[no-untyped-call]
        self._wishes, self._clip = wishes, clip
        self._max_in_flight = 1
        self._unanswered: dict[int, FrameRecord] = {}  # by seq
        self._changed = threading.Condition()  # guards what is unanswered, and `_leaving`
        self._leaving = ""  # why nothing more is sent, once that is so
        self._pace: Pace | None = None  # None until `run`
        self._last_result = 0
        self._settled = False
        self._cancelled = ""  # the reason, once we end it ourselves
        self._rpc: Any = None  # until `open`

    def open(self) -> None:
        """Open the stream. Raises StreamError when the server does not."""
        self._rpc = self._stub.Propagate(self._requests())
        timer = threading.Timer(OPEN_SECONDS, self._rpc.cancel)
        timer.start()
        try:
            self._max_in_flight = next(self._rpc).opened.max_in_flight
        except grpc.RpcError as error:
            self._leave("NOT_OPENED")
            raise stream_error(error) from error
        finally:
            timer.cancel()

    def run(self, pace: Pace) -> StreamRecord:
        """Offer all frames of `pace`, and return when the server has answered the last and closed the stream."""
        with self._changed:
            self._pace = pace
            self._changed.notify_all()
        try:
            for response in self._rpc:
                self._take(response, time.perf_counter())
        except grpc.RpcError as error:
            self.record.error = self._cancelled or stream_error(error).reason
        self._settle(pace)
        return self.record

    def refuse(self, pace: Pace, reason: str) -> StreamRecord:
        """Instead of `run`, for a stream that could not be opened: nothing of `pace` is sent."""
        self.record.error = reason
        self._settle(pace)
        return self.record

    def cancel(self) -> None:
        """End at once: what is unanswered is lost."""
        self._cancelled = "CANCELLED"
        self._leave(self._cancelled)
        if self._rpc is not None:
            self._rpc.cancel()

    def finish(self) -> None:
        """Send no more; the server answers what it has."""
        self._leave("FINISHED")

    # ---- sending, on gRPC's thread ---------------------------------------------------------------------------------

    def _requests(self) -> Iterator[pb.PropagateRequest]:
        yield self._wishes.message()
        with self._changed:
            self._changed.wait_for(lambda: self._pace or self._leaving)
        if isinstance(self._pace, OpenLoop):
            yield from self._on_schedule(self._pace)
        elif self._pace is not None:
            yield from self._as_answered(self._pace)

    def _on_schedule(self, pace: OpenLoop) -> Iterator[pb.PropagateRequest]:
        for index in range(pace.frames):
            with self._changed:
                if self._settled:
                    return
                frame = self._offer(pace.due(index))
                wait_seconds = max(0.0, frame.due - time.perf_counter())
                self._changed.wait_for(lambda: self._leaving, timeout=wait_seconds)
                reason = self._leaving or self._wait_for_room(index, pace.due(index + 1))
                if reason:
                    frame.end(NOT_SENT, reason)
                    continue
                self._expect(index, frame)
            yield self._request(index, frame)

    def _as_answered(self, pace: ClosedLoop) -> Iterator[pb.PropagateRequest]:
        for index in itertools.count():
            with self._changed:
                self._changed.wait_for(self._may_go)
                if self._leaving or pace.over(index):
                    return
                frame = self._offer(time.perf_counter())
                self._expect(index, frame)
            yield self._request(index, frame)

    def _wait_for_room(self, index: int, next_due: float) -> str:
        """ "" when the frame may go; else why it is not sent. In a live stream a newer one takes its place."""
        if self._wishes.delivery != LATEST or index == 0:  # the first has the prompts
            self._changed.wait_for(self._may_go)
            return self._leaving
        left = next_due - time.perf_counter()
        if left <= 0:
            return "LATE"
        there_is_room = self._changed.wait_for(self._may_go, timeout=left)
        return self._leaving or ("" if there_is_room else "IN_FLIGHT")

    def _may_go(self) -> bool:
        return bool(self._leaving) or len(self._unanswered) < self._max_in_flight

    def _offer(self, due: float) -> FrameRecord:
        frame = FrameRecord(due)
        self.record.frames.append(frame)
        return frame

    def _expect(self, index: int, frame: FrameRecord) -> None:
        frame.sent = time.perf_counter()
        self._unanswered[_seq(index)] = frame

    def _request(self, index: int, frame: FrameRecord) -> pb.PropagateRequest:
        message = self._clip.message(index)
        late_seconds = time.perf_counter() - frame.due
        message.capture_time.FromNanoseconds(time.time_ns() - int(late_seconds * wire.NANOS))
        return pb.PropagateRequest(seq=_seq(index), frame=message)

    def _leave(self, reason: str) -> None:
        with self._changed:
            self._leaving = self._leaving or reason
            self._changed.notify_all()

    def _settle(self, pace: Pace) -> None:
        """The stream is over; what its schedule still had was not sent."""
        with self._changed:
            self._leaving = self.record.error or self._leaving or "ENDED"
            self._settled = True
            self._changed.notify_all()
            if isinstance(pace, OpenLoop):
                for index in range(len(self.record.frames), pace.frames):
                    self._offer(pace.due(index))
            self.record.settle(self._leaving)

    # ---- receiving -------------------------------------------------------------------------------------------------

    def _take(self, response: pb.PropagateResponse, now: float) -> None:
        match response.WhichOneof("kind"):
            case "result":
                self._take_result(response.result, now)
            case "dropped":
                reason = pb.DropReason.Name(response.dropped.reason).removeprefix("DROP_REASON_")
                for seq in response.dropped.seqs:
                    self._end(seq, DROPPED, reason, now)
            case "error":
                self._end(response.error.seq, REFUSED, response.error.reason, now)
            case "draining":
                self.record.draining = True
                self._leave("DRAINING")
            case "closed":
                self.record.closed = response.closed

    def _take_result(self, result: pb.FrameResult, now: float) -> None:
        self.record.disorder += result.seq <= self._last_result
        self._last_result = result.seq
        frame = self._end(result.seq, ANSWERED, "", now)
        if frame is not None:
            frame.stages = tuple(wire.seconds_of(getattr(result.timings, stage)) for stage in STAGES)
            frame.batch_size = result.timings.batch_size

    def _end(self, seq: int, outcome: str, reason: str, now: float) -> FrameRecord | None:
        with self._changed:
            frame = self._unanswered.pop(seq, None)
            self._changed.notify_all()
        if frame is None:
            self.record.surplus_answers += 1
        else:
            frame.end(outcome, reason, now)
        return frame


def opened_stream(
    stack: contextlib.ExitStack, endpoint: Endpoint, wishes: StreamWishes, clip: EncodedClip
) -> StreamLoad:
    """A stream on a connection of its own, both gone when the stack unwinds. Raises StreamError."""
    channel = stack.enter_context(contextlib.closing(endpoint.channel()))
    stream = StreamLoad(channel, wishes, clip)
    stream.open()
    stack.callback(stream.cancel)
    return stream


def _seq(index: int) -> int:
    return index + 2  # the first is Open's

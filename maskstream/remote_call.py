"""One Propagate RPC as the client sees it: what is sent goes out in order, what arrives is delivered as it comes.

A thread of its own reads the answers, so that they are taken off the wire whatever the caller does. gRPC's errors
become maskstream's here. A status without a reason is not our server's: it comes from the transport or from a proxy in
between, and where it can mean a broken connection it is taken for one.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import grpc

from maskstream.errors import ServerFull, ServerUnavailable, StreamError
from maskstream.v1 import maskstream_pb2 as pb
from maskstream.v1 import maskstream_pb2_grpc as pb_grpc

_REASON_METADATA = "maskstream-reason"
_RETRY_METADATA = "maskstream-retry-after-ms"
_LONGEST_RETRY_SECONDS = 30.0  # a server's wish is not a command
_BROKEN = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.CANCELLED)


@dataclass(frozen=True)
class CallEnded:
    """The RPC is over; `error` is None when it ended well."""

    error: Exception | None


Deliver = Callable[["RemoteCall", pb.PropagateResponse | CallEnded], None]


class RemoteCall:
    """Begun when it is made; `wait_until_open`, then `listen`. Nothing is delivered before that."""

    def __init__(self, stub: pb_grpc.MaskStreamServiceStub, open_request: pb.Open) -> None:
        self._requests: SimpleQueue[pb.PropagateRequest | None] = SimpleQueue()
        self._seq = 0
        self._cause: StreamError | None = None  # of our own
        self._failure: Exception | None = None
        self._answered_open, self._may_deliver = threading.Event(), threading.Event()
        self._deliver: Deliver | None = None
        self._is_open = False
        self.opened = pb.Opened()  # what was granted
        self.ended = threading.Event()
        self.leaving = False  # the server goes away, or we do: nothing more is sent here
        self.closed: pb.Closed | None = None
        self.send(pb.PropagateRequest(open=open_request))
        self._rpc: Any = stub.Propagate(iter(self._requests.get, None))
        threading.Thread(target=self._read, name="maskstream-answers", daemon=True).start()

    def wait_until_open(self, timeout_seconds: float) -> None:
        """Raises ServerFull, ServerUnavailable or another StreamError when the server does not open the stream."""
        if not self._answered_open.wait(timeout_seconds):
            self.cancel()
            raise ServerUnavailable(f"NO_ANSWER: the server has not answered for {timeout_seconds:.0f} s", "NO_ANSWER")
        if not self._is_open:
            raise self._failure or StreamError("ENDED: the server closed the stream before it opened it", "ENDED")

    def listen(self, deliver: Deliver) -> None:
        """`deliver` is called on the reading thread: with each answer, at last with CallEnded."""
        self._deliver = deliver
        self._may_deliver.set()

    def send(self, request: pb.PropagateRequest) -> int:
        """Give the request its seq, which is returned, and queue it; never blocks. Not for two threads at once."""
        self._seq += 1
        request.seq = self._seq
        self._requests.put(request)
        return self._seq

    def half_close(self) -> None:
        """Nothing more will be sent; the server answers what it has and ends."""
        self.leaving = True
        self._requests.put(None)

    def cancel(self, cause: StreamError | None = None) -> None:
        """End at once; what is queued is lost. `cause` is what CallEnded will say."""
        self._cause = cause or StreamError("CLOSED: the stream was closed here", "CLOSED")
        self.half_close()
        self._rpc.cancel()
        self._may_deliver.set()

    def _read(self) -> None:
        try:
            for response in self._rpc:
                self._take(response)
        except grpc.RpcError as error:
            self._failure = self._cause or stream_error(error)
        except Exception as error:  # noqa: BLE001 - a token that cannot be read, for example: raised where answers are
            self._failure = error
        self._requests.put(None)  # lets gRPC's sending thread go
        self.ended.set()
        self._answered_open.set()
        if self._is_open:
            self._hand_over(CallEnded(self._failure))

    def _take(self, response: pb.PropagateResponse) -> None:
        match response.WhichOneof("kind"):
            case "opened":
                self.opened, self._is_open = response.opened, True
                self._answered_open.set()
            case "closed":
                self.closed = response.closed
            case _:
                self._hand_over(response)

    def _hand_over(self, event: pb.PropagateResponse | CallEnded) -> None:
        self._may_deliver.wait()
        if self._deliver is not None:
            self._deliver(self, event)


def stream_error(error: grpc.RpcError) -> StreamError:
    """gRPC's error as ours: the reason is the server's own when it gave one, else the name of the status code."""
    code = error.code()
    metadata = {str(item.key): str(item.value) for item in error.trailing_metadata() or ()}
    reason = metadata.get(_REASON_METADATA)
    if reason is None and code in _BROKEN:
        return ServerUnavailable(f"CONNECTION_BROKEN: {code.name}: {error.details()}", "CONNECTION_BROKEN")
    reason, kind = reason or code.name, StreamError
    if reason == "SERVER_FULL":
        kind = ServerFull
    elif code is grpc.StatusCode.UNAVAILABLE:
        kind = ServerUnavailable
    return kind(f"{reason}: {error.details()}", reason, _retry_seconds(metadata.get(_RETRY_METADATA)))


def _retry_seconds(milliseconds: str | None) -> float:
    """What the server asks for, within reason; 0 when it asks for nothing."""
    try:
        seconds = float(milliseconds or 0) / 1000
    except ValueError:
        return 0.0
    return min(seconds, _LONGEST_RETRY_SECONDS) if seconds > 0 else 0.0

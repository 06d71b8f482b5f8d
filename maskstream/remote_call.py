"""One Propagate RPC as the client sees it: what is sent goes out in order, what arrives lands in an inbox.

A thread of its own reads the answers, so that they are taken off the wire whatever the caller does. gRPC's errors
become maskstream's here.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue

import grpc

from maskstream.errors import ServerFull, ServerUnavailable, StreamError
from maskstream.v1 import maskstream_pb2 as pb
from maskstream.v1 import maskstream_pb2_grpc as pb_grpc

_REASON_METADATA = "maskstream-reason"


@dataclass(frozen=True)
class CallEnded:
    """The RPC is over; `error` is None when it ended well."""

    error: StreamError | None


class RemoteCall:
    """Open from the start. `deliver` is called on the reading thread: with each answer, at last with CallEnded."""

    def __init__(
        self,
        stub: pb_grpc.MaskStreamServiceStub,
        open_request: pb.Open,
        deliver: Callable[[pb.PropagateResponse | CallEnded], None],
    ) -> None:
        """Raises ServerFull, ServerUnavailable or another StreamError when the server does not open the stream."""
        self._requests: SimpleQueue[pb.PropagateRequest | None] = SimpleQueue()
        self._deliver = deliver
        self._seq = 0
        self._rpc = stub.Propagate(iter(self._requests.get, None))
        self._requests.put(pb.PropagateRequest(open=open_request))
        try:
            self.opened: pb.Opened = next(self._rpc).opened
        except grpc.RpcError as error:
            self._requests.put(None)
            raise stream_error(error) from error
        self.ended = threading.Event()
        self.leaving = False  # the server goes away: nothing more is sent here
        self.closed: pb.Closed | None = None
        threading.Thread(target=self._read, name="maskstream-answers", daemon=True).start()

    def send(self, request: pb.PropagateRequest) -> int:
        """Give the request its seq, which is returned, and queue it; never blocks. Not for two threads at once."""
        self._seq += 1
        request.seq = self._seq
        self._requests.put(request)
        return self._seq

    def half_close(self) -> None:
        """Nothing more will be sent; the server answers what it has and ends."""
        self._requests.put(None)

    def cancel(self) -> None:
        """End at once; what is queued is lost."""
        self._requests.put(None)
        self._rpc.cancel()

    def _read(self) -> None:
        error: StreamError | None = None
        try:
            for response in self._rpc:
                if response.HasField("closed"):
                    self.closed = response.closed
                else:
                    self._deliver(response)
        except grpc.RpcError as rpc_error:
            error = stream_error(rpc_error)
        self._requests.put(None)  # lets gRPC's sending thread go
        self.ended.set()
        self._deliver(CallEnded(error))


def stream_error(error: grpc.RpcError) -> StreamError:
    """gRPC's error as ours: the reason is the server's own when it gave one, else the name of the status code."""
    code = error.code()
    metadata = {item.key: item.value for item in error.trailing_metadata() or ()}
    reason = str(metadata.get(_REASON_METADATA, code.name))
    message = f"{reason}: {error.details()}"
    if reason == "SERVER_FULL":
        return ServerFull(message, reason)
    if code is grpc.StatusCode.UNAVAILABLE:
        return ServerUnavailable(message, reason)
    return StreamError(message, reason)

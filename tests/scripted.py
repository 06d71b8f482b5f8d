"""A server that does what a test tells it: right or wrong, and what it was sent can be looked at."""

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from maskstream.v1 import maskstream_pb2 as pb
from maskstream.v1 import maskstream_pb2_grpc as pb_grpc

Script = Callable[["Call"], Iterator[pb.PropagateResponse]]


class Call:
    """One Propagate as the script sees it."""

    def __init__(self, number: int, requests: Iterator[pb.PropagateRequest], context: Any) -> None:
        self.number, self.context = number, context
        self._requests, self.seen = requests, []

    def read(self) -> pb.PropagateRequest | None:
        """The next request; None when the client has half-closed or is gone."""
        request = None
        with contextlib.suppress(grpc.RpcError, StopIteration, Exception):
            request = next(self._requests)
            self.seen.append(request)
        return request

    def frames(self) -> Iterator[pb.PropagateRequest]:
        """The frames among the requests that come."""
        while (request := self.read()) is not None:
            if request.HasField("frame"):
                yield request

    def until_gone(self) -> None:
        """Wait until the client has ended the call."""
        while self.read() is not None:
            pass

    def refuse(self, code: grpc.StatusCode, **metadata: str) -> None:
        """End with this status; underscores of names become hyphens."""
        self.context.set_trailing_metadata(tuple((name.replace("_", "-"), text) for name, text in metadata.items()))
        self.context.abort(code, "as the test wants it")


class Scripted(pb_grpc.MaskStreamServiceServicer):
    """Runs one script a call; the last one again for all that follow."""

    def __init__(self, *scripts: Script) -> None:
        self._scripts = scripts
        self.calls: list[Call] = []
        self._server = grpc.server(ThreadPoolExecutor(16))
        pb_grpc.add_MaskStreamServiceServicer_to_server(self, self._server)
        self.target = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def Propagate(self, requests: Any, context: Any) -> Iterator[pb.PropagateResponse]:  # noqa: N802 - gRPC's name
        call = Call(len(self.calls), requests, context)
        self.calls.append(call)
        return self._scripts[min(call.number, len(self._scripts) - 1)](call)

    def stop(self) -> None:
        self._server.stop(0).wait()


@contextlib.contextmanager
def scripted(*scripts: Script) -> Iterator[Scripted]:
    """Such a server until the `with` ends."""
    server = Scripted(*scripts)
    try:
        yield server
    finally:
        server.stop()


def opened(call: Call, **granted: Any) -> pb.PropagateResponse:
    """Takes Open from the requests and answers it."""
    assert call.read().HasField("open")
    limits = pb.Limits(max_message_bytes=2**25, max_snapshot_bytes=2**24)
    return pb.PropagateResponse(opened=pb.Opened(max_in_flight=4, limits=limits, **granted))


def result(seq: int, *object_ids: int) -> pb.PropagateResponse:
    """Of a frame 8 x 4, on which each object has the column of its id."""
    row = bytes(column if column in object_ids else 0 for column in range(8))
    stats = [pb.ObjectStat(object_id=i, area=4, score=1.0) for i in object_ids]
    label_map = pb.Mask(width=8, height=4, raw=4 * row)
    return pb.PropagateResponse(result=pb.FrameResult(seq=seq, label_map=label_map, objects=stats))


def ack(seq: int) -> pb.PropagateResponse:
    return pb.PropagateResponse(ack=pb.Ack(seq=seq))


def error(seq: int, reason: str) -> pb.PropagateResponse:
    return pb.PropagateResponse(error=pb.FrameError(seq=seq, code=3, reason=reason, message=f"{reason} it is"))

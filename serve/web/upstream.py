"""The gateway's way to the service: a gRPC call of its own for each WebSocket, through a private Unix socket.

It is the same gRPC server, so that limits, tokens and quotas are those of every other client, whatever TLS the public
address asks for. Only this process can say for which browser a call is made, because the socket lies in a folder that
is closed to others. gRPC's asyncio has one poller a process, so calls live on the server's event loop and the page's
loop asks it to read and write.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import grpc

from maskstream.v1 import maskstream_pb2 as pb
from maskstream.v1 import maskstream_pb2_grpc as pb_grpc
from serve.service import Service

T = TypeVar("T")

BROWSER_METADATA = "maskstream-browser"  # the address of the browser, believed from the private socket alone
_PRIVATE_PEER = "unix:"  # how gRPC begins the name of a caller there; the public address is always HOST:PORT


class NamingService(pb_grpc.MaskStreamServiceServicer):
    """The service, which sees the browser behind a call of the gateway as its client."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def Propagate(self, requests: object, context: Any) -> None:  # noqa: N802 - gRPC's name
        """One stream."""
        await self._service.Propagate(requests, _named(context))

    async def GetServerInfo(self, request: Any, context: Any) -> pb.GetServerInfoResponse:  # noqa: N802 - gRPC's name
        """Limits, model and load."""
        return await self._service.GetServerInfo(request, context)


class Upstream:
    """Made on the page's event loop or before it; `loop` is the server's."""

    def __init__(self, address: str, loop: asyncio.AbstractEventLoop) -> None:
        self._address, self._loop = address, loop
        self._channel: grpc.aio.Channel | None = None

    async def call(self, token: str | None, browser: str) -> "Call":
        """Begin a stream for a browser at an address."""
        metadata = [(BROWSER_METADATA, browser)]
        if token is not None:
            metadata.append(("authorization", f"Bearer {token}"))
        return Call(await self.on_server(self._begin(metadata)), self)

    async def on_server(self, work: Coroutine[Any, Any, T]) -> T:
        """Await work of the server's event loop; cancelling this cancels it."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def run_on_server(self, action: Any) -> None:
        """Have the server's event loop call something, without waiting."""
        self._loop.call_soon_threadsafe(action)

    async def close(self) -> None:
        """End what is left; on the server's event loop."""
        if self._channel is not None:
            await self._channel.close()

    async def _begin(self, metadata: list[tuple[str, str]]) -> Any:
        if self._channel is None:
            unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
            self._channel = grpc.aio.insecure_channel(self._address, unlimited)
        stub: Any = pb_grpc.MaskStreamServiceStub(self._channel)  # type: ignore[no-untyped-call]
        return stub.Propagate(metadata=metadata)


class Call:
    """One Propagate call; asked on the page's event loop, carried out on the server's."""

    def __init__(self, call: Any, upstream: Upstream) -> None:
        self._call, self._upstream = call, upstream

    async def write(self, request: pb.PropagateRequest) -> bool:
        """False when the call has ended meanwhile; waits while the server does not read."""
        return await self._upstream.on_server(_write(self._call, request))

    async def read(self) -> pb.PropagateResponse | None:
        """The next answer, None after the last one. Raises grpc.RpcError when the call ended with a status."""
        message = await self._upstream.on_server(_read(self._call))
        return message if isinstance(message, pb.PropagateResponse) else None

    def cancel(self) -> None:
        """End it now, if it has not ended."""
        self._upstream.run_on_server(self._call.cancel)


async def _write(call: Any, request: pb.PropagateRequest) -> bool:
    try:
        await call.write(request)
    except (grpc.RpcError, asyncio.InvalidStateError):
        return False  # why, the reader is told
    return True


async def _read(call: Any) -> object:
    message = await call.read()
    if message is grpc.aio.EOF:
        status = await call.code()
        if status is not grpc.StatusCode.OK:
            raise grpc.aio.AioRpcError(
                status, await call.initial_metadata(), await call.trailing_metadata(), await call.details()
            )
    return message


class _NamedContext:
    """A call's context whose peer is the browser."""

    def __init__(self, context: Any, browser: str) -> None:
        self._context, self._browser = context, browser

    def peer(self) -> str:
        return self._browser

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


def _named(context: Any) -> Any:
    if not context.peer().startswith(_PRIVATE_PEER):
        return context
    said = (value for name, value in context.invocation_metadata() or () if name == BROWSER_METADATA)
    browser = next(said, None)
    return context if browser is None else _NamedContext(context, str(browser))

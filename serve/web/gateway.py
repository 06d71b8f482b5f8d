"""One WebSocket of the page is one stream: what comes is translated and sent on, both ways, one message at a time.

The gateway keeps nothing but the call, and holds one message in each direction. So a browser that reads slowly slows
its own stream, a server that takes no more slows the browser, and a browser that goes away cancels the call, which
frees its slot and its memory.
"""

import asyncio
import contextlib
import ipaddress
import logging
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import grpc
from starlette.websockets import WebSocket, WebSocketDisconnect

from serve.errors import REASON_METADATA, RETRY_METADATA
from serve.web import browser_codec
from serve.web.browser_codec import MessageTooLarge, UnreadableMessage
from serve.web.connections import SOCKET, Socket
from serve.web.upstream import Call, Upstream

log = logging.getLogger(__name__)

SUBPROTOCOL = "maskstream.v1"
OPEN_SECONDS = 5.0  # from the handshake to the first message
LONGEST_TOKEN = 4096  # characters
_PROXY_HEADERS = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip")
_BROKEN = ("CANCELLED", "INTERNAL", "UNKNOWN")
_CLEAN, _POLICY, _AGAIN = 1000, 1008, 1013  # RFC 6455


@dataclass(frozen=True)
class GatewaySettings:
    """What the page's streams are bound by."""

    token_required: bool
    max_message_bytes: int
    send_seconds: float  # for a browser to take one answer


class Gateway:
    """The endpoint of /v1/stream."""

    def __init__(self, upstream: Upstream, settings: GatewaySettings) -> None:
        self._upstream, self._settings = upstream, settings

    async def serve(self, browser: WebSocket) -> None:
        """From the handshake to the end of one WebSocket."""
        socket: Socket = browser.scope["extensions"][SOCKET]
        if not may_connect(browser, self._settings.token_required):
            log.warning("a WebSocket of %s was refused: its page is of another site", _address_of(browser))
            await browser.close(_POLICY)
            return
        if socket.too_many:
            await browser.close(_AGAIN)
            return
        wanted = browser.scope["subprotocols"]
        await browser.accept(SUBPROTOCOL if SUBPROTOCOL in wanted else None)
        try:
            await self._run(browser, socket)
        except WebSocketDisconnect:
            log.debug("%s went away", _address_of(browser))

    async def _run(self, browser: WebSocket, socket: Socket) -> None:
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                token, opening = browser_codec.parse_open(await _receive(browser))
        except TimeoutError:
            text = f"no message came within {OPEN_SECONDS:.0f} s of connecting"
            await _end(browser, browser_codec.ended("DEADLINE_EXCEEDED", "OPEN_REQUIRED", text))
            return
        except UnreadableMessage as error:
            await _end(browser, _unreadable(error))
            return
        if token is not None and not _is_header(token):
            text = "the token has characters that no token has"
            await _end(browser, browser_codec.ended("UNAUTHENTICATED", "TOKEN_INVALID", text))
            return
        call = await self._upstream.call(token, _address_of(browser))
        try:
            await call.write(opening)
            await self._carry(browser, socket, call)
        finally:
            call.cancel()

    async def _carry(self, browser: WebSocket, socket: Socket, call: Call) -> None:
        """Both ways until one of them ends."""
        down = asyncio.create_task(self._carry_down(browser, socket, call))
        up = asyncio.create_task(self._carry_up(browser, call))
        try:
            await asyncio.wait({down, up}, return_when=asyncio.FIRST_COMPLETED)
            if down.done():
                await _end(browser, down.result())
            else:
                up.result()
        except UnreadableMessage as error:
            await _cancelled(down)  # so that nothing is written after the last word
            await _end(browser, _unreadable(error))
        finally:
            await _cancelled(down)
            await _cancelled(up)

    async def _carry_down(self, browser: WebSocket, socket: Socket, call: Call) -> str | None:
        """Answers to the browser, to the end of the call: what is left to say then. Raises WebSocketDisconnect."""
        try:
            while (response := await call.read()) is not None:
                socket.trusted = True
                message = browser_codec.encode(response)
                if message is not None:
                    await self._send(browser, socket, message)
        except grpc.RpcError as error:
            return _status(error)
        return None

    async def _carry_up(self, browser: WebSocket, call: Call) -> None:
        """Requests to the server, until the browser goes away. Raises UnreadableMessage."""
        most = self._settings.max_message_bytes
        with contextlib.suppress(WebSocketDisconnect):
            while True:
                message = await _receive(browser)
                if len(message) > most:
                    raise MessageTooLarge(f"a message of {len(message)} bytes; at most {most}")
                await call.write(browser_codec.parse_request(message))

    async def _send(self, browser: WebSocket, socket: Socket, message: str | bytes) -> None:
        try:
            async with asyncio.timeout(self._settings.send_seconds):
                await (browser.send_text(message) if isinstance(message, str) else browser.send_bytes(message))
        except TimeoutError as error:
            log.warning("%s has read nothing for %.0f s", _address_of(browser), self._settings.send_seconds)
            socket.cut_off()
            raise WebSocketDisconnect from error


async def _receive(browser: WebSocket) -> str | bytes:
    """The next message. Raises WebSocketDisconnect."""
    event = await browser.receive()
    if event["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(event.get("code", _CLEAN))
    text = event.get("text")
    message: str | bytes = text if text is not None else event["bytes"]
    return message


async def _end(browser: WebSocket, last: str | None) -> None:
    """Say what is left to say, and close."""
    if last is not None:
        await browser.send_text(last)
    await browser.close(_CLEAN)


async def _cancelled(task: "asyncio.Task[Any]") -> None:
    """End a task; its failure has been seen or does not matter any more."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()


def _status(error: grpc.RpcError) -> str:
    """gRPC's status as the page reads it. One without a reason is not the service's: our own stop cancelled the call,
    or its connection broke, and another try may help.
    """
    metadata: Any = error.trailing_metadata() or ()  # pairs, which gRPC's types do not know of its asyncio
    said = dict(metadata)
    code, reason, retry = error.code().name, said.get(REASON_METADATA), said.get(RETRY_METADATA)
    if reason is None and code in _BROKEN:
        code, reason = "UNAVAILABLE", "CONNECTION_BROKEN"
    return browser_codec.ended(code, reason or code, error.details() or "", float(retry) / 1000 if retry else None)


def _unreadable(error: UnreadableMessage) -> str:
    return browser_codec.ended(error.code, error.reason, str(error))


def may_connect(browser: WebSocket, token_required: bool) -> bool:
    """A browser says which site its page is of, and that must be this one: a page elsewhere may not use what its
    visitor can reach. A program says nothing; it needs a token, or is on this machine.
    """
    origin, host = browser.headers.get("origin"), browser.headers.get("host", "")
    if origin is None:
        return token_required or _is_loopback(_address_of(browser))
    if urlsplit(origin).netloc.lower() != host.lower():
        return False
    return token_required or not _is_renamed(browser, host)


def _is_renamed(browser: WebSocket, host: str) -> bool:
    """Whether a name of the open internet leads to this machine's own address, which is how a site elsewhere would pass
    for ours. A proxy here adds a header; no page can add any to a WebSocket.
    """
    name = urlsplit(f"//{host}").hostname or ""
    here = _is_loopback((browser.scope.get("server") or ("", 0))[0])
    proxied = any(header in browser.headers for header in _PROXY_HEADERS)
    return here and not proxied and name != "localhost" and not _is_loopback(name)


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _address_of(browser: WebSocket) -> str:
    return browser.client.host if browser.client else "unknown"


def _is_header(token: str) -> bool:
    return len(token) <= LONGEST_TOKEN and token.isascii() and token.isprintable()

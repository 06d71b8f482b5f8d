"""The page's connections, with bounds: uvicorn's protocols, which wait for a slow client as long as it likes.

A connection has some seconds to send a whole request, and as many between two requests; there are few, and the oldest
idle one makes room for a new one, so that clients that connect and say nothing cannot keep a probe out. A WebSocket
takes little until its stream is open: what comes before that is the word of a stranger.
"""

import asyncio
import logging
from typing import Any

from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

log = logging.getLogger(__name__)

REQUEST_SECONDS = 5.0  # from connecting, or from the last answer, to the end of a request
ANSWER_SECONDS = 30.0  # from there to the end of the answer: a picture of the clip over a slow line
MOST_CONNECTIONS = 32  # of plain HTTP; a browser opens six
MOST_HEADER_BYTES = 16 * 2**10
MOST_BYTES_BEFORE_OPEN = 64 * 2**10
MOST_FRAGMENTS = 4096  # of a message; browsers cut at some 100 KB
MOST_PONGS_WAITING = 16  # that a client lets come and does not read
SOCKET = "maskstream.socket"  # the ASGI extension under which a stream finds its connection


class Crowd:
    """All connections of one page; lives on the page's event loop."""

    def __init__(self, most_sockets: int) -> None:
        self.most_sockets = most_sockets
        self.http: dict[Connection, None] = {}  # oldest first
        self.sockets: set[Socket] = set()

    def enter(self, connection: "Connection") -> None:
        """Take a new connection in; the oldest idle one makes room, or the oldest if all are being answered."""
        if len(self.http) >= MOST_CONNECTIONS:
            everyone = list(self.http)
            idle = [each for each in everyone if not each.answering]
            (idle or everyone)[0].cut_off()
        self.http[connection] = None

    def say_goodbye(self) -> None:
        """Let everyone take what is on its way, and close."""
        for connection in list(self.http):
            if connection.answering:
                connection.shutdown()
            else:
                connection.cut_off()
        for socket in list(self.sockets):
            socket.shutdown()

    def cut_off_all(self) -> None:
        """End what is still there, at once."""
        for connection in list(self.http):
            connection.cut_off()
        for socket in list(self.sockets):
            socket.cut_off()


class Connection(H11Protocol):
    """One connection of plain HTTP, until it becomes a WebSocket."""

    def __init__(self, config: Config, server_state: ServerState, crowd: Crowd) -> None:
        super().__init__(config, server_state, {"crowd": crowd})
        self.answering = False
        self._crowd = crowd
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        super().connection_made(transport)
        self._crowd.enter(self)
        self._expect_end_in(REQUEST_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, whoever ended it."""
        self._leave()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes have come; whether the request is whole decides how long the client may still take."""
        super().data_received(data)
        self._note_request()

    def on_response_complete(self) -> None:
        """The answer is written; the next request has a time of its own."""
        self.answering = False
        self._expect_end_in(REQUEST_SECONDS)
        super().on_response_complete()
        self._note_request()  # it may have come together with the one before

    def handle_websocket_upgrade(self, event: Any) -> None:
        """From here the connection is a `Socket`."""
        self._leave()
        super().handle_websocket_upgrade(event)

    def cut_off(self) -> None:
        """End it without waiting for anybody."""
        self._leave()
        self.transport.abort()

    def _note_request(self) -> None:
        cycle = self.cycle
        whole = cycle is not None and not cycle.response_complete and not cycle.more_body
        if whole and not self.answering and self in self._crowd.http:
            self.answering = True
            self._expect_end_in(ANSWER_SECONDS)

    def _expect_end_in(self, seconds: float) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(seconds, self.cut_off)

    def _leave(self) -> None:
        self._crowd.http.pop(self, None)
        if self._deadline is not None:
            self._deadline.cancel()


class Socket(WebSocketsSansIOProtocol):
    """One WebSocket. `trusted` is set when its stream is open, and lifts the bound of what it may send before."""

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any]) -> None:
        super().__init__(config, server_state, {})
        self.trusted = False
        self._crowd: Crowd = app_state["crowd"]
        self._bytes = self._pongs_waiting = 0

    @property
    def too_many(self) -> bool:
        """Whether there are more of them than the page may have."""
        return len(self._crowd.sockets) > self._crowd.most_sockets

    def connection_made(self, transport: Any) -> None:
        """The handshake has begun."""
        super().connection_made(transport)
        self._crowd.sockets.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, whoever ended it."""
        self._crowd.sockets.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes have come; a stranger may send few."""
        self._bytes += len(data)
        if not self.trusted and self._bytes > MOST_BYTES_BEFORE_OPEN:
            log.warning("a WebSocket of %s sent %d bytes before its stream was open", self.client, self._bytes)
            self.cut_off()
        else:
            super().data_received(data)

    def handle_connect(self, event: Any) -> None:
        """The request of the handshake; the application will find this connection in its scope."""
        super().handle_connect(event)
        if not self.close_sent:
            self.scope["extensions"][SOCKET] = self  # type: ignore[assignment]

    def handle_cont(self, event: Any) -> None:
        """A piece of a message: empty ones cost the client nothing, and us a little each."""
        if len(self.frames) >= MOST_FRAGMENTS:
            self.cut_off()
        else:
            super().handle_cont(event)

    def handle_ping(self) -> None:
        """Answer it, unless the answers are not read."""
        self._pongs_waiting = 0 if self.writable.is_set() else self._pongs_waiting + 1
        if self._pongs_waiting > MOST_PONGS_WAITING:
            self.cut_off()
        else:
            super().handle_ping()

    def cut_off(self) -> None:
        """End it without waiting for anybody."""
        self.transport.abort()

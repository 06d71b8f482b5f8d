"""The page's port: an event loop on a thread of its own, so that a busy server does not look like a dead one.

uvicorn's protocols are used and its server is not: that one takes over signals, ends the process where it cannot
listen, and looks for its end ten times a second.
"""

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp
from uvicorn.server import ServerState

from serve.http_endpoint import listening_socket, split_address
from serve.web.connections import MOST_HEADER_BYTES, Connection, Crowd, Socket

log = logging.getLogger(__name__)

LAST_WORD_SECONDS = 0.5  # for streams, whose calls have ended, to say why
CLOSE_SECONDS = 1.0  # for clients to take what was written and the word that we go
PING_SECONDS = 20.0  # between looks whether a browser is still there
_BACKLOG = 64


class PageServer:
    """Serves an ASGI application at HOST:PORT."""

    def __init__(self, address: str, application: ASGIApp, max_message_bytes: int, crowd: Crowd) -> None:
        self._address, self._crowd = split_address(address), crowd
        self._config = uvicorn.Config(
            application,
            http=Connection,
            ws=Socket,
            lifespan="off",
            log_config=None,
            log_level="error",  # its warnings are lines that strangers can make it write
            access_log=False,
            proxy_headers=False,  # quotas count addresses, and anyone can write such a header
            server_header=False,
            date_header=False,
            h11_max_incomplete_event_size=MOST_HEADER_BYTES,
            ws_max_size=max_message_bytes,
            ws_per_message_deflate=False,  # pictures do not shrink, and what unpacks to gigabytes stays out
            ws_ping_interval=PING_SECONDS,
            ws_ping_timeout=3 * PING_SECONDS,  # a pong waits behind the frames that a busy server has not taken yet
        )
        self._socket: socket.socket | None = None
        self._loop = asyncio.new_event_loop()
        self._thread: threading.Thread | None = None
        self._ending, self._stopping = asyncio.Event(), threading.Lock()
        self._state = ServerState()

    @property
    def port(self) -> int:
        """The real port, once started."""
        return int(self._socket.getsockname()[1]) if self._socket else 0

    def start(self) -> None:
        """Listen. Raises OSError for an address that cannot be had."""
        self._socket = listening_socket(self._address, _BACKLOG)
        self._thread = threading.Thread(target=self._run, args=(self._socket,), name="page", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Say goodbye to everyone, and stop; returns when nothing is left. Once more does no harm."""
        with self._stopping:
            if self._loop.is_closed():
                return
            if self._thread is not None:
                self._loop.call_soon_threadsafe(self._ending.set)
                self._thread.join()
            self._loop.close()

    def _run(self, listening: socket.socket) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve(listening))
        finally:
            self._loop.run_until_complete(self._loop.shutdown_default_executor())

    async def _serve(self, listening: socket.socket) -> None:
        self._config.load()
        state, crowd = self._state, self._crowd
        listener = await self._loop.create_server(lambda: Connection(self._config, state, crowd), sock=listening)
        await self._ending.wait()
        listener.close()
        await _until(lambda: not state.tasks, LAST_WORD_SECONDS)
        crowd.say_goodbye()
        await _until(lambda: not (state.connections or state.tasks), CLOSE_SECONDS)
        crowd.cut_off_all()
        for task in list(state.tasks):
            task.cancel()
        await asyncio.gather(*state.tasks, return_exceptions=True)


async def _until(holds: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:  # noqa: ASYNC110 - they tell nobody
        await asyncio.sleep(0.01)

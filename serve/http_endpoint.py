"""The plain HTTP side, for Prometheus and for probes: /metrics, /livez, /readyz. Not for the open internet.

With the web page `serve.web` carries the same answers on the same port; without, it is the small server here. It has
threads of its own, so that a busy event loop does not look like a dead server. They are few: a connection lives some
seconds at most, and when all are taken the oldest makes room, so that clients that connect and say nothing cannot keep
a probe out. A page of metrics that is asked for again and again is made anew some times a second, not at each request.
"""

import gzip
import logging
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, gzip_accepted

log = logging.getLogger(__name__)

MOST_CONNECTIONS = 16
LONGEST_SECONDS = 5.0  # from connecting to the end of the answer
WATCH_SECONDS = 0.1  # between looks at what has lived too long
PAGES_PER_SECOND, PAGES_AT_ONCE = 10, 20  # of /metrics; one takes the interpreter some milliseconds
PLAIN = "text/plain; charset=utf-8"


class Answers:
    """What is answered at which path, whoever carries it. `alive` and `ready` are asked at each probe: 200 when true,
    503 when not. `root` stands at `/`: where the page is, or how to get it.
    """

    def __init__(
        self, registry: CollectorRegistry, alive: Callable[[], bool], ready: Callable[[], bool], root: str = ""
    ) -> None:
        self._page = MetricsPage(registry)
        self._probes = {"/livez": alive, "/readyz": ready}
        self._root = f"{root}\n".encode() if root else b""

    def answer(self, path: str, gzipped: bool = False) -> tuple[HTTPStatus, dict[str, str], bytes]:
        """Status, headers and body for a GET; the page of metrics is compressed when `gzipped`."""
        if path == "/metrics":
            text, compressed = self._page.read()
            headers = _headers(CONTENT_TYPE_PLAIN_0_0_4, "gzip" if gzipped else "")
            return HTTPStatus.OK, headers, compressed if gzipped else text
        if path in self._probes:
            good = self._probes[path]()
            status = HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE
            return status, _headers(PLAIN), b"ok\n" if good else b"not now\n"
        if path == "/" and self._root:
            return HTTPStatus.OK, _headers(PLAIN), self._root
        return HTTPStatus.NOT_FOUND, _headers(PLAIN), b"there are /metrics, /livez and /readyz\n"


class HttpEndpoint:
    """The port where there is no page. `alive`, `ready` and `root` as in `Answers`."""

    def __init__(
        self,
        address: str,
        registry: CollectorRegistry,
        alive: Callable[[], bool],
        ready: Callable[[], bool],
        root: str = "",
    ) -> None:
        self._address, self._answers = split_address(address), Answers(registry, alive, ready, root)
        self._server: _BoundedServer | None = None

    @property
    def port(self) -> int:
        """The real port, once started."""
        return self._server.server_address[1] if self._server else 0

    def start(self) -> None:
        """Listen. Raises OSError for an address that cannot be had."""
        self._server = _BoundedServer(self._address, self._handler())
        threading.Thread(target=self._server.serve_forever, args=(WATCH_SECONDS,), name="http", daemon=True).start()

    def stop(self) -> None:
        """Stop listening."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()

    def answer(self, path: str, gzipped: bool = False) -> tuple[HTTPStatus, dict[str, str], bytes]:
        """As `Answers.answer`."""
        return self._answers.answer(path, gzipped)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        answers = self._answers

        class Handler(BaseHTTPRequestHandler):
            server_version, sys_version = "maskstream", ""
            timeout = LONGEST_SECONDS  # of one read or write

            def do_GET(self) -> None:
                self.wfile.write(self._start())

            def do_HEAD(self) -> None:
                self._start()

            def _start(self) -> bytes:
                """Send status and headers; the body is returned."""
                gzipped = gzip_accepted(self.headers.get("Accept-Encoding", ""))
                status, headers, body = answers.answer(self.path.partition("?")[0], gzipped)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                return body

            def log_message(self, *_: Any) -> None:
                """Probes every few seconds are no news."""

        return Handler


class MetricsPage:
    """All families as text. Prometheus' own text format: OpenMetrics takes twice as long to make and adds nothing."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry, self._lock = registry, threading.Lock()
        self._left, self._since, self._page = float(PAGES_AT_ONCE), time.monotonic(), (b"", b"")

    def read(self) -> tuple[bytes, bytes]:
        """The page as it is now, plain and by gzip; for clients that ask without end it is a tenth of a second old."""
        with self._lock:
            now = time.monotonic()
            self._left = min(PAGES_AT_ONCE, self._left + PAGES_PER_SECOND * (now - self._since))
            self._since = now
            if self._left >= 1:
                self._left -= 1
                text = generate_latest(self._registry)
                self._page = text, gzip.compress(text, 1)
            return self._page


class _BoundedServer(ThreadingHTTPServer):
    """A thread a connection, of which there are MOST_CONNECTIONS at most, each for LONGEST_SECONDS at most."""

    daemon_threads = True
    request_queue_size = 64  # connections the system keeps while this thread is busy

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = _family(address)
        self._open: dict[socket.socket, float] = {}  # and since when, oldest first
        self._lock = threading.Lock()
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Without the look-up of the host's name that HTTPServer makes and nothing here needs."""
        socketserver.TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a new connection on a thread; the oldest one makes room for it."""
        with self._lock:
            if len(self._open) >= MOST_CONNECTIONS:
                self._cut_off(next(iter(self._open)))
            self._open[request] = time.monotonic()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """The end of a connection, whatever ended it."""
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Cut off what has lived too long; called at each turn of `serve_forever`."""
        now = time.monotonic()
        with self._lock:
            for request in [each for each, since in self._open.items() if now - since > LONGEST_SECONDS]:
                self._cut_off(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away in mid-answer are no news; a page that cannot be made is."""
        error = sys.exception()
        level = logging.DEBUG if isinstance(error, OSError) else logging.ERROR
        log.log(level, "a request from %s was not answered", client_address[0], exc_info=error)

    def _cut_off(self, request: socket.socket) -> None:
        """Its thread reads the end, or cannot write, and ends by itself."""
        del self._open[request]
        try:
            request.shutdown(socket.SHUT_RDWR)
        except OSError:
            log.debug("the client was faster")


def _headers(content_type: str, encoding: str = "") -> dict[str, str]:
    return {"Content-Type": content_type, **({"Content-Encoding": encoding} if encoding else {})}


def listening_socket(address: tuple[str, int], backlog: int) -> socket.socket:
    """For who serves it otherwise. Raises OSError for an address that cannot be had."""
    return socket.create_server(address, family=_family(address), backlog=backlog)


def _family(address: tuple[str, int]) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address[0] else socket.AF_INET


def split_address(address: str) -> tuple[str, int]:
    """HOST:PORT; an empty host means all interfaces. Raises ValueError."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"`{address}` is not HOST:PORT, for example 127.0.0.1:9464; port 0 takes a free one")
    return host.strip("[]"), int(port)

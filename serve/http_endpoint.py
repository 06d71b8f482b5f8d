"""The plain HTTP side, for Prometheus and for probes: /metrics, /livez, /readyz.

It has a small thread of its own, so that a busy event loop does not look like a dead server. Not for the open internet.
"""

import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder


class HttpEndpoint:
    """`alive` and `ready` are asked at each probe: 200 when true, 503 when not."""

    def __init__(
        self, address: str, registry: CollectorRegistry, alive: Callable[[], bool], ready: Callable[[], bool]
    ) -> None:
        self._address, self._registry = split_address(address), registry
        self._probes = {"/livez": alive, "/readyz": ready}
        self._server: ThreadingHTTPServer | None = None

    @property
    def port(self) -> int:
        """The real port, once started."""
        return self._server.server_address[1] if self._server else 0

    def start(self) -> None:
        """Listen. Raises OSError for an address that cannot be had."""
        self._server = ThreadingHTTPServer(self._address, self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.1,), name="http", daemon=True).start()

    def stop(self) -> None:
        """Stop listening."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()

    def answer(self, path: str, accept: str) -> tuple[HTTPStatus, str, bytes]:
        """Status, content type and body for a GET."""
        if path == "/metrics":
            encode, content_type = choose_encoder(accept)
            return HTTPStatus.OK, content_type, encode(self._registry)
        if path in self._probes:
            good = self._probes[path]()
            status = HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE
            return status, "text/plain; charset=utf-8", b"ok\n" if good else b"not now\n"
        return HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", b"there are /metrics, /livez and /readyz\n"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 10  # seconds; a client that says nothing does not keep its thread

            def do_GET(self) -> None:
                status, content_type, body = endpoint.answer(self.path.split("?")[0], self.headers.get("Accept", ""))
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Probes every few seconds are no news."""

        return Handler


def split_address(address: str) -> tuple[str, int]:
    """HOST:PORT; an empty host means all interfaces. Raises ValueError."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"`{address}` is not HOST:PORT, for example 127.0.0.1:9464; port 0 takes a free one")
    return host.strip("[]"), int(port)

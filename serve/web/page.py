"""The page as a whole: its port, its files, its gateway and the private way to the service. Made where it is wanted."""

import asyncio
import tempfile
from pathlib import Path

import grpc

from maskstream.v1 import maskstream_pb2_grpc as pb_grpc
from serve.config import ServeConfig
from serve.http_endpoint import Answers
from serve.service import Service
from serve.web.application import build_application
from serve.web.browser_codec import MOST_JSON_BYTES
from serve.web.connections import Crowd
from serve.web.files import read_files
from serve.web.gateway import Gateway, GatewaySettings
from serve.web.page_server import PageServer
from serve.web.upstream import NamingService, Upstream

_SPARE_SOCKETS = 16  # beyond two for each stream: browsers that are told that the server is full, and those that leave


class Page:
    """Made and used on the server's event loop."""

    def __init__(self, config: ServeConfig, service: Service, answers: Answers) -> None:
        """Raises OSError where there is no folder for temporary files."""
        self._folder = tempfile.TemporaryDirectory(prefix="maskstream-page-")  # which no other user can enter
        self._address = f"unix:{Path(self._folder.name) / 'grpc'}"
        self._upstream = Upstream(self._address, asyncio.get_running_loop())
        limits = config.limits
        settings = GatewaySettings(
            token_required=service.tokens is not None,
            max_message_bytes=limits.max_message_bytes,
            send_seconds=limits.idle_timeout_seconds,
        )
        gateway = Gateway(self._upstream, settings)
        application = build_application(answers, gateway, service, self._upstream, read_files())
        crowd = Crowd(2 * config.max_streams + _SPARE_SOCKETS)
        largest = limits.max_message_bytes + MOST_JSON_BYTES  # a little more than is taken, to say so
        self._server = PageServer(config.http, application, largest, crowd)
        self.servicer: pb_grpc.MaskStreamServiceServicer = NamingService(service)

    @property
    def port(self) -> int:
        """The real port, once started."""
        return self._server.port

    def bind(self, server: grpc.aio.Server) -> None:
        """Let the gRPC server listen on the private socket too. Raises OSError."""
        try:
            server.add_insecure_port(self._address)
        except RuntimeError as error:
            raise OSError(f"the page needs a Unix socket at {self._address}: {error}; or use --no-web") from error

    def start(self) -> None:
        """Listen. Raises OSError for an address that cannot be had."""
        self._server.start()

    def stop(self) -> None:
        """Close all sockets and stop listening; on a thread of its own, while the server's event loop runs."""
        self._server.stop()

    async def close(self) -> None:
        """Remove the private socket, once gRPC has stopped."""
        await self._upstream.close()
        self._folder.cleanup()

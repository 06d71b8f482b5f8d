"""The server that a load is for: how to reach it, and how to look at it."""

from dataclasses import dataclass, field

import grpc

from maskstream.client_security import Access, secure_channel
from maskstream.load.server_probe import ServerProbe

_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),  # a connection for each stream, as cameras have
)


@dataclass(frozen=True)
class Endpoint:
    """`target` is HOST:PORT of gRPC; `http` that of /metrics and `pid` the process, where they are known."""

    target: str
    access: Access = field(default_factory=Access)
    http: str | None = None
    pid: int | None = None

    def channel(self) -> grpc.Channel:
        """A new connection; close it."""
        return secure_channel(self.target, _OPTIONS, self.access)

    def probe(self) -> ServerProbe:
        """Its memory, CPU time and counts."""
        return ServerProbe(self.pid, self.http)

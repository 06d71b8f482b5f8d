"""Who may open a stream, and in which phase of its life the server is.

Admission happens inside the RPC and not by gRPC's own limit on calls, which counts health checks too: a server that is
merely full would look dead. Used from the event loop alone.
"""

from enum import StrEnum

from maskstream.block_pool import BlockPool
from maskstream.networks import NetworkSpec
from serve.errors import Draining, EngineFailed, ServerFull, Warming


class Phase(StrEnum):
    """Of a server's life."""

    WARMING = "warming"
    SERVING = "serving"
    DRAINING = "draining"
    BROKEN = "broken"


class Admission:
    """Counts slots; a slot is given back when the stream's memory has been."""

    def __init__(self, max_streams: int, pool: BlockPool, smallest_stream_bytes: int) -> None:
        self.max_streams, self.phase, self.active = max_streams, Phase.WARMING, 0
        self._pool, self.smallest_stream_bytes = pool, smallest_stream_bytes

    def admit(self, client: str = "") -> None:
        """Take a slot. Raises Warming, Draining, EngineFailed or ServerFull."""
        if self.phase is Phase.BROKEN:
            raise EngineFailed("the engine of this server does not work; open the stream on another one")
        if self.phase is Phase.WARMING:
            raise Warming("the engine is warming up; try again in a moment")
        if self.phase is Phase.DRAINING:
            raise Draining("this server is going away; open the stream on another one")
        if self.active >= self.max_streams:
            raise ServerFull(f"all {self.max_streams} streams are taken; try another server, or later")
        if self._pool.total_bytes - self._pool.used_bytes < self.smallest_stream_bytes:
            raise ServerFull("no memory bank is left for another stream; try another server, or later")
        self.active += 1

    def release(self, client: str = "") -> None:
        """Give a slot back."""
        self.active -= 1
        assert self.active >= 0, "more slots given back than taken"


def smallest_stream_bytes(spec: NetworkSpec) -> int:
    """Bank memory of one stream with one object, at the networks' own short side and 16:9."""
    tokens = (spec.short_side // spec.stride) * (spec.short_side * 16 // 9 // spec.stride)
    return 4 * spec.capacity * (spec.key_channels + spec.value_channels) * tokens

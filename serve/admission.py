"""Who may open a stream, and in which phase of its life the server is.

Admission happens inside the RPC and not by gRPC's own limit on calls, which counts health checks too: a server that is
merely full would look dead. Used from the event loop alone.
"""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from maskstream.block_pool import BlockPool
from maskstream.networks import NetworkSpec
from serve.errors import ClientStreamLimit, Draining, EngineFailed, ServerFull, Warming

LONGEST_WAIT_SECONDS = 10.0  # that a refused client is asked for


class Phase(StrEnum):
    """Of a server's life."""

    WARMING = "warming"
    SERVING = "serving"
    DRAINING = "draining"
    BROKEN = "broken"


@dataclass(frozen=True)
class Bounds:
    """How much may be open at once; 0: no such bound."""

    max_streams: int
    max_streams_per_client: int = 0
    max_utilisation: float = 0.0  # share of the time that the engine works


class Admission:
    """Counts slots; a slot is given back when the stream's memory has been."""

    def __init__(
        self,
        bounds: Bounds,
        pool: BlockPool,
        smallest_stream_bytes: int,
        utilisation: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.phase, self.active = Phase.WARMING, 0
        self.smallest_stream_bytes = smallest_stream_bytes
        self._bounds, self._pool, self._utilisation = bounds, pool, utilisation
        self._of_client: Counter[str] = Counter()
        self._refused_in_a_row = 0

    @property
    def max_streams(self) -> int:
        """Slots in all."""
        return self._bounds.max_streams

    def admit(self, client: str) -> None:
        """Take a slot. Raises Warming, Draining, EngineFailed, ServerFull or ClientStreamLimit."""
        if self.phase is Phase.WARMING:
            raise Warming("the engine is warming up; try again in a moment")
        if self.phase is Phase.DRAINING:
            raise Draining("this server is going away; open the stream on another one")
        if self.phase is Phase.BROKEN:
            raise EngineFailed("the engine of this server does not work; open the stream on another one")
        most = self._bounds.max_streams_per_client
        if most and self._of_client[client] >= most:
            raise ClientStreamLimit(f"`{client}` has {most} streams open, as many as one client may", client)
        self._refuse_if_full()
        self._refused_in_a_row = 0
        self.active += 1
        self._of_client[client] += 1

    def release(self, client: str) -> None:
        """Give a slot back."""
        self.active -= 1
        self._of_client[client] -= 1
        assert self._of_client[client] >= 0, "more slots given back than taken"
        if not self._of_client[client]:
            del self._of_client[client]  # clients come and go; the account must not grow

    def _refuse_if_full(self) -> None:
        bounds, utilisation = self._bounds, self._utilisation()
        if self.active >= bounds.max_streams:
            raise self._full(f"all {bounds.max_streams} streams are taken")
        if bounds.max_utilisation and self.active and utilisation > bounds.max_utilisation:
            raise self._full(f"the engine works {utilisation:.0%} of the time, more than max_utilisation")
        if self._pool.longest_free_bytes < self.smallest_stream_bytes:
            raise self._full("no memory bank is left for another stream")

    def _full(self, why: str) -> ServerFull:
        """With a wait that grows while many are refused, and differs, so that they do not all come back at once."""
        self._refused_in_a_row += 1
        error = ServerFull(f"{why}; try another server, or later")
        longest = min(LONGEST_WAIT_SECONDS, 1.0 + 0.1 * self._refused_in_a_row)
        error.retry_after_seconds = random.uniform(0.5, longest)
        return error


def smallest_stream_bytes(spec: NetworkSpec) -> int:
    """Bank memory of one stream with one object, at the networks' own short side and 16:9."""
    tokens = (spec.short_side // spec.stride) * (spec.short_side * 16 // 9 // spec.stride)
    return 4 * spec.capacity * (spec.key_channels + spec.value_channels) * tokens

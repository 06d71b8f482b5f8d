"""A model that is being served: networks, what they call themselves, and how many frames they take at once.

There may be two for a while: after a hot swap new streams get the new one and the old one lives as long as its streams.
"""

from collections.abc import Callable
from dataclasses import dataclass

from maskstream.networks import Networks
from serve.metrics import Identity


@dataclass(eq=False)
class Model:
    """`max_batch` frames of different streams go through the networks in one run at most."""

    networks: Networks
    identity: Identity
    max_batch: int = 1


Load = Callable[[], Model]


def identity_of(networks: Networks, model_version: str, server_version: str) -> Identity:
    """Model name, engine and precision are what the networks say of themselves."""
    return Identity(server_version, networks.spec.name, model_version, networks.engine, networks.precision)

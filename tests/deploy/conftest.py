"""Fixtures of the tests of deploy/."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from proxies import Proxy, channel, envoy, make_keys, nginx

from maskstream.v1 import maskstream_pb2_grpc as pb_grpc
from serve.http_endpoint import split_address

Behind = Callable[..., Proxy]


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a throwaway authority and what it signed."""
    return make_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def behind_nginx(tmp_path: Path, keys: Path) -> Iterator[Behind]:
    """Starts nginx in front of addresses HOST:PORT; keywords are those of `proxies.nginx`."""
    yield from behind(nginx, tmp_path, keys)


@pytest.fixture
def behind_envoy(tmp_path: Path, keys: Path) -> Iterator[Behind]:
    """Envoy, likewise."""
    yield from behind(envoy, tmp_path, keys)


def behind(balancer: Any, folder: Path, keys: Path) -> Iterator[Behind]:
    with ExitStack() as stack:

        def start_proxy(*replicas: str, **options: Any) -> Proxy:
            ports = [split_address(replica)[1] for replica in replicas]
            proxy: Proxy = stack.enter_context(balancer(folder, keys, ports, **options))
            return proxy

        yield start_proxy


@pytest.fixture
def connect(keys: Path) -> Iterator[Callable[..., Any]]:
    """Stubs of connections through a proxy."""
    channels: list[grpc.Channel] = []

    def stub(proxy: Proxy, **options: Any) -> Any:
        channels.append(channel(proxy, keys, **options))
        return pb_grpc.MaskStreamServiceStub(channels[-1])

    yield stub
    for each in channels:
        each.close()

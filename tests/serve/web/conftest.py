"""Browsers that are none, for the tests of the gateway."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from fake_browser import FakeBrowser
from served import Running
from websockets.sync.client import connect


@pytest.fixture
def browse() -> Iterator[Any]:
    """Opens WebSockets to a running server, as a page of its own would."""
    with ExitStack() as opened:

        def browse_one(running: Running, **options: Any) -> FakeBrowser:
            address = running.server.http
            options = {"origin": f"http://{address}", "subprotocols": ["maskstream.v1"], **options}
            connecting = connect(f"ws://{address}/v1/stream", max_size=None, compression=None, **options)
            return FakeBrowser(opened.enter_context(connecting))

        yield browse_one

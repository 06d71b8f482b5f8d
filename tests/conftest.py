"""Fixtures that more than one room uses."""

import signal
from collections.abc import Iterator

import pytest
from certificates import authority, client_pair, server_pair
from exported import combined_artifact, copied_artifact, small_artifact, small_checkpoint_file
from hypothesis import settings
from served import event_loop_thread, running, start

__all__ = [
    "authority",
    "client_pair",
    "combined_artifact",
    "copied_artifact",
    "event_loop_thread",
    "running",
    "server_pair",
    "small_artifact",
    "small_checkpoint_file",
    "start",
]

settings.register_profile("maskstream", deadline=None)  # a busy machine is no failure
settings.load_profile("maskstream")


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_is_heard() -> Iterator[None]:
    """A program that a shell runs in the background ignores Ctrl-C from the start, and so do those that it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session", autouse=True)
def own_cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is kept between runs is kept in a folder of the tests', by the programs that they start too: nothing is
    written into a home, and engines are tried once for each artifact.
    """
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield

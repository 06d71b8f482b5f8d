"""A new model serves new streams while those of the old one finish on it."""

import asyncio
import gc
import weakref

import pytest
from fakes import FakeNetworks
from prometheus_client import CollectorRegistry
from served import CONFIG, TIMEOUT, Running, assert_shows, eventually, prompt, square

from maskstream.errors import ArtifactError
from maskstream.v1 import maskstream_pb2 as pb
from serve.model import Model, identity_of
from serve.server import build_server

A, B = square(16, 16), square(32, 64)


@pytest.fixture
def swappable(event_loop_thread):
    """A server whose next model is `models[-1]`; an exception there is raised."""
    models, registry = [], CollectorRegistry()

    def load():
        if isinstance(models[-1], Exception):
            raise models[-1]
        return models[-1]

    async def build():
        server = build_server(FakeNetworks(), CONFIG, registry, model_version="one", server_version="1.2", load=load)
        await server.start()
        return server

    server = asyncio.run_coroutine_threadsafe(build(), event_loop_thread).result(TIMEOUT)
    running = Running(server, server.model.networks, registry, event_loop_thread)
    yield running, models
    running.networks.gate.set()
    running.close()


def model_of(version):
    networks = FakeNetworks()
    return Model(networks, identity_of(networks, version, "1.2"))


def version_of(running):
    return running.stub.GetServerInfo(pb.GetServerInfoRequest()).model_version


def test_new_streams_get_the_new_model_and_open_ones_keep_theirs(swappable):
    running, models = swappable
    old = running.stream()
    old.frame(prompts=[prompt(1, A)])
    assert_shows(old.receive("result"), {1: A})
    models.append(model_of("two"))
    running.run(running.server.swap_model())
    assert version_of(running) == "two"
    assert running.sample(
        "build_info", version="1.2", model="fake", model_version="two", backend="fake", precision="fp32"
    )
    new = running.stream()
    assert (old.opened.model_version, new.opened.model_version) == ("one", "two")
    while models[-1].networks.entered.acquire(blocking=False):
        pass
    new.frame(prompts=[prompt(2, B)])
    assert_shows(new.receive("result"), {2: B})
    assert models[-1].networks.entered.acquire(timeout=5), "the new networks ran"
    old.frame()
    assert_shows(old.receive("result"), {1: A})
    assert not models[-1].networks.entered.acquire(blocking=False), "the old stream's frame ran elsewhere"


def test_the_old_model_goes_with_its_last_stream(swappable):
    running, models = swappable
    old = running.stream()
    gone = weakref.ref(running.networks)
    models.append(model_of("two"))
    running.run(running.server.swap_model())
    running.networks = models[-1].networks
    gc.collect()
    assert gone() is not None
    old.half_close()
    old.rest()
    eventually(lambda: gc.collect() >= 0 and gone() is None)


def test_a_model_that_cannot_be_loaded_changes_nothing(swappable):
    running, models = swappable
    models.append(ArtifactError("segment.onnx is missing"))
    with pytest.raises(ArtifactError, match="missing"):
        running.run(running.server.swap_model())
    models.append(model_of("two"))
    models[-1].networks.failure = RuntimeError("it does not run")
    with pytest.raises(RuntimeError, match="does not run"):
        running.run(running.server.swap_model())
    assert version_of(running) == "one"
    stream = running.stream()
    stream.frame(prompts=[prompt(1, A)])
    assert_shows(stream.receive("result"), {1: A})


def test_streams_go_on_while_a_model_warms_up(swappable):
    running, models = swappable
    stream = running.stream()
    stream.frame(prompts=[prompt(1, A)])
    stream.receive("result")
    models.append(model_of("two"))
    models[-1].networks.delay_seconds = 0.1
    swapping = asyncio.run_coroutine_threadsafe(running.server.swap_model(), running.loop)
    answered = 0
    while not swapping.done():
        stream.frame()
        assert_shows(stream.receive("result"), {1: A})
        answered += 1
    assert answered >= 3


def test_loading_the_same_model_again_does_nothing(swappable):
    running, models = swappable
    models.append(model_of("one"))
    running.run(running.server.swap_model())
    assert running.server.model is not models[-1]

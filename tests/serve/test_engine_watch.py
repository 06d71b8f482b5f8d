"""A stuck or broken engine is told to everyone: streams, health, liveness, new clients. One bad frame is not."""

import urllib.error
import urllib.request

import grpc
import numpy as np
import pytest
from fakes import FakeNetworks
from grpc_health.v1 import health_pb2, health_pb2_grpc
from served import assert_shows, eventually, prompt, square

from maskstream.networks import FrameFeatures
from maskstream.v1 import maskstream_pb2 as pb

A = square(16, 16)


class Dying(FakeNetworks):
    """Fails every frame once `dead` is set."""

    dead = False

    def encode_frame(self, frame_BHW3: np.ndarray) -> FrameFeatures:
        if self.dead:
            raise RuntimeError("the device fell off")
        return super().encode_frame(frame_BHW3)


def health_of(running):
    answer = health_pb2_grpc.HealthStub(running.channel).Check(health_pb2.HealthCheckRequest(service=""))
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


def probe_of(running, path):
    try:
        return urllib.request.urlopen(f"http://{running.server.http}{path}", timeout=5).status
    except urllib.error.HTTPError as error:
        return error.code


def ended(stream):
    with pytest.raises(grpc.RpcError) as caught:
        stream.rest()
    metadata = {item.key: item.value for item in caught.value.trailing_metadata()}
    return caught.value.code(), metadata["maskstream-reason"]


def refusal(running):
    stream = running.stream(opened=False)
    stream.send(open=pb.Open())
    return ended(stream)


def test_a_stuck_engine_ends_its_streams_and_says_so_until_it_works_again(start, caplog):
    networks = FakeNetworks()
    running = start(networks, stall_seconds=0.3)
    stuck, idle = running.stream(), running.stream()
    networks.gate.clear()
    stuck.frame(prompts=[prompt(1, A)])
    assert ended(stuck) == ended(idle) == (grpc.StatusCode.INTERNAL, "ENGINE_STUCK")
    assert refusal(running)[0] is grpc.StatusCode.INTERNAL
    eventually(lambda: health_of(running) == "NOT_SERVING")
    assert (probe_of(running, "/livez"), probe_of(running, "/readyz")) == (503, 503)
    assert "more than 0 s" in caplog.text
    networks.gate.set()
    eventually(lambda: health_of(running) == "SERVING")
    assert (probe_of(running, "/livez"), probe_of(running, "/readyz")) == (200, 200)
    stream = running.stream()
    stream.frame(prompts=[prompt(1, A)])
    assert_shows(stream.receive("result"), {1: A})
    eventually(lambda: running.sample("streams_active") == 1)


def test_an_engine_that_fails_on_a_good_frame_too_is_broken(start):
    networks = Dying()
    running = start(networks)
    victim, idle = running.stream(), running.stream()
    networks.dead = True
    victim.frame(prompts=[prompt(1, A)])
    assert ended(victim) == ended(idle) == (grpc.StatusCode.INTERNAL, "ENGINE_FAILED")
    eventually(lambda: health_of(running) == "NOT_SERVING")
    assert probe_of(running, "/livez") == 503
    assert refusal(running) == (grpc.StatusCode.INTERNAL, "ENGINE_FAILED")


def test_a_frame_that_breaks_the_engine_once_breaks_its_stream_alone(start):
    networks = FakeNetworks()
    running = start(networks)
    good, bad = running.stream(), running.stream()
    for _ in range(3):
        networks.failure = RuntimeError("provoked")
        bad.frame(prompts=[prompt(1, A)])
        assert ended(bad) == (grpc.StatusCode.INTERNAL, "ENGINE_FAILED")
        bad = running.stream()
    good.frame(prompts=[prompt(1, A)])
    assert_shows(good.receive("result"), {1: A})
    assert (health_of(running), probe_of(running, "/livez")) == ("SERVING", 200)

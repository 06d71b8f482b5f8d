"""deploy/envoy/envoy.yaml: its figures against the server's, and in a real Envoy where one is installed.

Envoy is no Debian package; where none is on the PATH, only the figures are checked, and the tests say so.
"""

import subprocess
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from queue import Queue
from typing import Any

import grpc
import pytest
import yaml
from proxies import ENVOY_YAML, Proxy, envoy_yaml, free_ports, need, status_of
from served import Start, WireStream, assert_shows, eventually, picture, png, prompt, square

from maskstream.v1 import maskstream_pb2 as pb
from serve.config import Limits, ServeConfig
from serve.service import SERVICE_NAME

Behind = Callable[..., Proxy]
MTLS, TLS = {"#mtls: ": ""}, {"#tls: ": ""}


@pytest.fixture(scope="module")
def config() -> Any:
    return yaml.safe_load(ENVOY_YAML.read_text())["static_resources"]


def seconds(duration: str) -> float:
    return float(duration.removesuffix("s"))


def test_no_timer_ends_a_stream_before_the_server_does(config: Any) -> None:
    manager = config["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    stream = manager["route_config"]["virtual_hosts"][0]["routes"][0]
    assert stream["match"]["path"] == f"/{SERVICE_NAME}/Propagate"
    assert seconds(stream["route"]["timeout"]) == seconds(manager["request_timeout"]) == 0, "0 is none"
    assert set(map(seconds, stream["route"]["max_stream_duration"].values())) == {0}
    for timer in (manager["stream_idle_timeout"], stream["route"]["idle_timeout"]):
        assert seconds(timer) > 10 * Limits().idle_timeout_seconds


def test_the_cluster_knows_health_slots_and_how_often_it_may_ping(config: Any) -> None:
    (cluster,) = config["clusters"]
    replicas = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    assert cluster["health_checks"][0]["grpc_health_check"]["service_name"] == SERVICE_NAME
    (threshold,) = cluster["circuit_breakers"]["thresholds"]
    assert threshold["max_requests"] > ServeConfig().max_streams * len(replicas)
    (options,) = cluster["typed_extension_protocol_options"].values()
    keepalive = options["explicit_http_config"]["http2_protocol_options"]["connection_keepalive"]
    assert seconds(keepalive["interval"]) > 10, "the server takes a ping every 10 s"


@pytest.mark.parametrize("changes", [{}, MTLS, TLS, {**MTLS, **TLS}], ids=["plain", "mtls", "tls", "both"])
def test_envoy_takes_the_file_as_it_is_and_with_its_variants(keys: Path, tmp_path: Path, changes: Any) -> None:
    text = envoy_yaml(free_ports(1)[0], [50051, 50052, 50053], keys, changes)
    (tmp_path / "envoy.yaml").write_text(text)
    endpoints = yaml.safe_load(text)["static_resources"]["clusters"][0]["load_assignment"]["endpoints"]
    assert len(endpoints[0]["lb_endpoints"]) == 3
    command = [need("envoy"), "--mode", "validate", "-c", str(tmp_path / "envoy.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr.lower()


def test_masks_and_reasons_come_through(start: Start, behind_envoy: Behind, connect: Any) -> None:
    stub = connect(behind_envoy(start(limits=Limits(idle_timeout_seconds=0.5)).server.listen))
    stream, mask = WireStream(stub), square(16, 32)
    stream.frame(prompts=[prompt(1, mask)])
    assert_shows(stream.receive("result"), {1: mask})
    assert status_of(stream.rpc) == (grpc.StatusCode.ABORTED, "IDLE_TIMEOUT")
    assert stub.GetServerInfo(pb.GetServerInfoRequest()).model == "fake"


OFF = "max_stream_duration: {max_stream_duration: 0s}"
SHORTENED = {
    "idle": {" idle_timeout: 3600s\n": " idle_timeout: 1s\n"},
    "longest": {OFF: OFF.replace("0s", "1s")},
    "after the last frame": {OFF: "#", " timeout: 0s\n": " timeout: 1s\n"},
}


@pytest.mark.parametrize("timer", list(SHORTENED))
def test_the_timers_of_the_file_are_what_lets_a_stream_last(
    start: Start, behind_envoy: Behind, connect: Any, timer: str
) -> None:
    """Shortened to a second, each of them ends a stream; Envoy's own defaults would, later. No deadline is set here, as
    the client library sets none: it would stand in for the timers.
    """
    running = start()
    running.networks.gate.clear()
    changes = SHORTENED[timer]
    stub = connect(behind_envoy(running.server.listen, changes=changes))
    frame = pb.Frame(png=png(picture()), prompts=pb.SetObjects(objects=[prompt(1, square(16, 32))]))
    requests = [pb.PropagateRequest(seq=1, open=pb.Open()), pb.PropagateRequest(seq=2, frame=frame)]
    last_word = timer == "after the last frame"
    stream = stub.Propagate(iter(requests) if last_word else chain(requests, iter(Queue[Any]().get, None)))
    code, reason = status_of(stream)
    running.networks.gate.set()
    assert code is not grpc.StatusCode.OK
    assert reason == ""


def test_a_stream_that_one_replica_refuses_is_opened_on_another(
    start: Start, behind_envoy: Behind, connect: Any
) -> None:
    full, free = start(max_streams=1), start()
    stub = connect(behind_envoy(full.server.listen, free.server.listen))
    streams = [WireStream(stub) for _ in range(7)]
    assert [replica.sample("streams_active") for replica in (full, free)] == [1, 6]
    assert full.sample("stream_rejected_total", reason="SERVER_FULL") > 0, "it was asked, and no client saw it"
    assert len(streams) == 7


def test_a_draining_replica_gets_no_new_streams_and_keeps_its_own(
    start: Start, behind_envoy: Behind, connect: Any
) -> None:
    leaving, staying = start(grace_seconds=8.0), start()
    stub = connect(behind_envoy(leaving.server.listen, staying.server.listen))
    streams = [WireStream(stub) for _ in range(2)]
    while not all(replica.sample("streams_active") for replica in (leaving, staying)):
        streams.append(WireStream(stub))
    drain, before = leaving.start_drain(), staying.sample("streams_active")
    eventually(lambda: leaving.sample("admission_phase", phase="draining") == 1)
    streams += [WireStream(stub) for _ in range(3)]
    assert staying.sample("streams_active") == before + 3
    told: list[str | None] = []
    for stream in streams:
        stream.frame(prompts=[prompt(1, square(16, 32))])
        stream.half_close()
        told += [answer.WhichOneof("kind") for answer in stream.rest()]
    assert told.count("result") == len(streams), "those that were open there are still answered"
    assert told.count("draining") == len(streams) - before - 3
    drain.result(10)

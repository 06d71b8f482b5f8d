"""deploy/nginx/maskstream.conf in a real nginx: what it lets through, what it ends, and what it says then.

The replicas are real servers with fake networks, or a bare gRPC service that tells what it was called with.
"""

import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from proxies import NGINX_CONF, REPLICA_NAME, Proxy, channel, free_ports, need, nginx_conf, status_of
from served import Start, WireStream, assert_shows, eventually, picture, prompt, square

from maskstream.v1 import maskstream_pb2 as pb
from serve.config import Limits

Behind = Callable[..., Proxy]
PROPAGATE = "/maskstream.v1.MaskStreamService/Propagate"
MTLS, TLS = {"#mtls: ": ""}, {"#tls: ": "", "grpc://": "grpcs://"}


@pytest.mark.parametrize("changes", [{}, MTLS, TLS, {**MTLS, **TLS}], ids=["plain", "mtls", "tls", "both"])
def test_nginx_takes_the_file_as_it_is_and_with_its_variants(keys: Path, tmp_path: Path, changes: Any) -> None:
    program = need("nginx")
    (tmp_path / "maskstream.conf").write_text(nginx_conf(free_ports(1)[0], [50051, 50052], keys, changes))
    around = f"pid nginx.pid; events {{}} http {{ include {tmp_path}/maskstream.conf; }}"
    (tmp_path / "nginx.conf").write_text(around)
    command = [program, "-t", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf"), "-e", str(tmp_path / "log")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr


def test_masks_come_through_tls(start: Start, behind_nginx: Behind, connect: Any) -> None:
    stub = connect(behind_nginx(start().server.listen))
    stream, mask = WireStream(stub), square(16, 32)
    stream.frame(prompts=[prompt(1, mask)])
    assert_shows(stream.receive("result"), {1: mask})
    stream.half_close()
    assert stream.receive("closed").frames_answered == 1
    assert stub.GetServerInfo(pb.GetServerInfoRequest()).model == "fake"


def test_an_error_keeps_its_code_its_reason_and_its_details(start: Start, behind_nginx: Behind, connect: Any) -> None:
    stream = WireStream(connect(behind_nginx(start().server.listen)), opened=False)
    stream.send(open=pb.Open(model="another"))
    with pytest.raises(grpc.RpcError) as caught:
        stream.receive()
    told = {item.key: item.value for item in caught.value.trailing_metadata()}
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert told["maskstream-reason"] == "MODEL_NOT_FOUND"
    assert b"MODEL_NOT_FOUND" in told["grpc-status-details-bin"]


def test_a_raw_frame_of_5_mb_comes_through_whole(start: Start, behind_nginx: Behind, connect: Any) -> None:
    size = (1088, 1616)  # 5.3 MB, far over nginx's own limit of 1 MiB
    stream = WireStream(connect(behind_nginx(start(short_side=size[0]).server.listen)))
    mask = square(160, 320, 64, size)
    for prompts in ([prompt(1, mask)], []):
        raw = pb.RawImage(format=pb.PIXEL_FORMAT_RGB8, width=size[1], height=size[0], data=picture(size).tobytes())
        stream.frame({"raw": raw}, prompts)
        assert_shows(stream.receive("result"), {1: mask})


# ---- what ends a stream --------------------------------------------------------------------------------------------


def test_an_idle_stream_is_ended_by_the_server_which_says_why(start: Start, behind_nginx: Behind, connect: Any) -> None:
    proxy = behind_nginx(start(limits=Limits(idle_timeout_seconds=0.5)).server.listen)
    assert status_of(WireStream(connect(proxy)).rpc) == (grpc.StatusCode.ABORTED, "IDLE_TIMEOUT")


@pytest.mark.parametrize("timer", ["client_body_timeout", "grpc_read_timeout"])
def test_the_timers_of_the_file_are_what_lets_a_stream_idle(
    start: Start, behind_nginx: Behind, connect: Any, timer: str
) -> None:
    """Shortened to a second, each of them ends an idle stream; nginx's default of 60 s would do the same."""
    proxy = behind_nginx(start().server.listen, changes={f"{timer} 1h;": f"{timer} 1s;"})
    began = time.monotonic()
    code, reason = status_of(WireStream(connect(proxy)).rpc)
    assert code is not grpc.StatusCode.OK
    assert reason == ""
    assert 0.9 < time.monotonic() - began < 10


def test_every_timer_of_a_stream_is_longer_than_the_servers_own() -> None:
    location = NGINX_CONF.read_text().partition("location = " + PROPAGATE)[2].partition("}")[0]
    hours = {line.split()[0]: line.split()[1] for line in location.splitlines() if "_timeout " in line}
    wanted = ("client_body_timeout", "send_timeout", "grpc_read_timeout", "grpc_send_timeout")
    assert {timer: hours.get(timer) for timer in wanted} == dict.fromkeys(wanted, "1h;")
    assert Limits().idle_timeout_seconds <= 600  # an hour is longer than anybody's setting in the documents


SLOW_READER = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_536)]
LARGE = (1088, 1600)


def stalled_reader(stub: Any) -> WireStream:
    """12 answers of 1.7 MB that nobody reads yet: more than all buffers on the way take."""
    stream = WireStream(stub, output=pb.OutputOptions(encoding=pb.MASK_ENCODING_RAW), max_in_flight=8)
    for index in range(12):
        raw = pb.RawImage(
            format=pb.PIXEL_FORMAT_GRAY8, width=LARGE[1], height=LARGE[0], data=bytes(LARGE[0] * LARGE[1])
        )
        stream.frame({"raw": raw}, [prompt(1, square(160, 320, 64, LARGE))] if index == 0 else [])
    return stream


def test_a_slow_reader_gets_every_answer_in_order(start: Start, behind_nginx: Behind, connect: Any) -> None:
    stream = stalled_reader(connect(behind_nginx(start().server.listen), more=SLOW_READER))
    time.sleep(1.5)
    stream.half_close()
    answers = stream.rest()
    assert [answer.result.seq for answer in answers[:-1]] == list(range(2, 14))
    assert answers[-1].closed.frames_answered == 12


def test_the_timer_of_the_file_is_what_lets_a_reader_be_slow(start: Start, behind_nginx: Behind, connect: Any) -> None:
    proxy = behind_nginx(start().server.listen, changes={"send_timeout 1h;        ": "send_timeout 500ms;"})
    stream = stalled_reader(connect(proxy, more=SLOW_READER))
    time.sleep(2)
    assert status_of(stream.rpc)[0] is not grpc.StatusCode.OK


# ---- which replica -------------------------------------------------------------------------------------------------


def test_a_replica_that_is_gone_is_passed_over(start: Start, behind_nginx: Behind, connect: Any) -> None:
    (nobody,) = free_ports(1)
    stub = connect(behind_nginx(f"127.0.0.1:{nobody}", start().server.listen))
    began = time.monotonic()
    for _ in range(4):
        assert WireStream(stub).opened.model == "fake"
    assert time.monotonic() - began < 5


def test_streams_go_where_the_fewest_are_and_full_replicas_are_not_asked(
    start: Start, behind_nginx: Behind, connect: Any
) -> None:
    first, second = start(max_streams=8), start(max_streams=8)
    proxy = behind_nginx(first.server.listen, second.server.listen, changes={"max_conns=8": "max_conns=2"})
    stub = connect(proxy)
    open_now = [WireStream(stub) for _ in range(4)]
    assert [replica.sample("streams_active") for replica in (first, second)] == [2, 2]
    refused = WireStream(stub, opened=False)
    refused.send(open=pb.Open())
    assert status_of(refused.rpc) == (grpc.StatusCode.UNAVAILABLE, "SERVER_FULL")
    assert sum(replica.sample("stream_rejected_total", reason="SERVER_FULL") for replica in (first, second)) == 0
    assert stub.GetServerInfo(pb.GetServerInfoRequest()).active_streams == 2, "calls are answered all the same"
    open_now[0].half_close()
    open_now[0].rest()
    assert WireStream(stub).opened.model == "fake"


def test_one_address_has_only_so_many_streams(start: Start, behind_nginx: Behind, connect: Any) -> None:
    changes = {"limit_conn maskstream_clients 32;": "limit_conn maskstream_clients 1;"}
    stub = connect(behind_nginx(start().server.listen, changes=changes))
    stream, refused = WireStream(stub), WireStream(stub, opened=False)
    refused.send(open=pb.Open())
    assert status_of(refused.rpc) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "CLIENT_STREAM_LIMIT")
    stream.frame(prompts=[prompt(1, square(16, 32))])
    stream.receive("result")


def test_a_replica_taken_out_by_a_reload_keeps_its_streams(
    start: Start, behind_nginx: Behind, connect: Any, keys: Path
) -> None:
    """How a replica is taken down on purpose: docs/operations.md."""
    old, new = start(), start()
    proxy = behind_nginx(old.server.listen)
    port = int(proxy.target.rpartition(":")[2])
    stream, mask = WireStream(connect(proxy)), square(16, 32)
    stream.frame(prompts=[prompt(1, mask)])
    stream.receive("result")
    proxy.reload(nginx_conf(port, [new.server.port], keys))
    later = WireStream(connect(proxy))
    deadline = time.monotonic() + 10
    while not new.sample("streams_active"):
        assert time.monotonic() < deadline, "new streams still go to the old replica"
        later.half_close()
        later.rest()
        later = WireStream(connect(proxy))
    later.frame(prompts=[prompt(1, mask)])
    assert_shows(later.receive("result"), {1: mask})
    stream.frame()
    assert_shows(stream.receive("result"), {1: mask})
    assert old.sample("streams_active") >= 1


# ---- who and what is let through -----------------------------------------------------------------------------------


class Listening:
    """A bare gRPC service at every path, which keeps the metadata of its calls and answers what it is sent."""

    def __init__(self, credentials: grpc.ServerCredentials | None = None) -> None:
        self.calls: list[dict[str, str | bytes]] = []
        self._server = grpc.server(ThreadPoolExecutor(2))
        self._server.add_generic_rpc_handlers((self._handler(),))
        add = self._server.add_insecure_port
        port = self._server.add_secure_port("127.0.0.1:0", credentials) if credentials else add("127.0.0.1:0")
        self.address = f"127.0.0.1:{port}"
        self._server.start()

    def _handler(self) -> grpc.GenericRpcHandler:
        def echo(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            self.calls.append({item.key: item.value for item in context.invocation_metadata()})
            yield from requests

        class Handler(grpc.GenericRpcHandler):
            def service(self, _details: object) -> Any:
                return grpc.stream_stream_rpc_method_handler(echo)

        return Handler()

    def close(self) -> None:
        self._server.stop(None).wait()


@pytest.fixture
def listening() -> Iterator[Listening]:
    service = Listening()
    yield service
    service.close()


def echo(connection: grpc.Channel, path: str = PROPAGATE, metadata: tuple[tuple[str, str], ...] = ()) -> list[bytes]:
    with connection:
        return list(connection.stream_stream(path)(iter([b"one", b"two"]), metadata=metadata, timeout=10))


def test_token_and_trace_context_reach_the_replica(listening: Listening, behind_nginx: Behind, keys: Path) -> None:
    trace = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    proxy = behind_nginx(listening.address)
    assert echo(channel(proxy, keys, token="of-nobody"), metadata=(trace,)) == [b"one", b"two"]
    assert listening.calls[0]["authorization"] == "Bearer of-nobody"
    assert listening.calls[0]["traceparent"] == trace[1]
    eventually(lambda: "grpc=0" in (proxy.folder / "access.log").read_text())
    assert all("of-nobody" not in log.read_text() for log in proxy.folder.glob("*.log"))


@pytest.mark.parametrize("path", ["/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", "/metrics", "/"])
def test_nothing_else_is_reached_from_outside(
    listening: Listening, behind_nginx: Behind, keys: Path, path: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        echo(channel(behind_nginx(listening.address), keys), path)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert listening.calls == []


def test_clients_without_a_certificate_are_refused_where_one_is_asked_for(
    listening: Listening, behind_nginx: Behind, keys: Path
) -> None:
    proxy = behind_nginx(listening.address, changes=MTLS)
    with pytest.raises(grpc.RpcError):
        echo(channel(proxy, keys))
    assert listening.calls == []
    assert echo(channel(proxy, keys, certificate=True)) == [b"one", b"two"]


def test_replicas_may_have_tls_of_their_own_and_ask_nginx_for_its_certificate(behind_nginx: Behind, keys: Path) -> None:
    pair = tuple((keys / f"{REPLICA_NAME}.{kind}").read_bytes() for kind in ("key", "pem"))
    ca = (keys / "ca.pem").read_bytes()
    credentials = grpc.ssl_server_credentials([(pair[0], pair[1])], ca, require_client_auth=True)
    service = Listening(credentials)
    try:
        assert echo(channel(behind_nginx(service.address, changes=TLS), keys)) == [b"one", b"two"]
    finally:
        service.close()


def test_the_slots_in_the_file_are_those_of_the_server() -> None:
    from serve.config import ServeConfig

    assert f"max_conns={ServeConfig().max_streams} " in NGINX_CONF.read_text()


def test_idle_seconds_in_the_comment_are_the_servers() -> None:
    assert np.isclose(Limits().idle_timeout_seconds, 60)
    assert "idle_timeout_seconds,\n        # 60 s" in NGINX_CONF.read_text()

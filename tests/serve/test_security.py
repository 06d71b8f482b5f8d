"""TLS, client certificates and tokens, each over a real socket; and what a stranger gets to see."""

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from served import WireStream, assert_shows, eventually, prompt, square

from maskstream.client_security import Access, ClientTls
from maskstream.v1 import maskstream_pb2 as pb
from serve import listener
from serve.config import AuthSettings, ConfigError, Limits, TlsSettings
from serve.security import address_of
from serve.tokens import new_token

A = square(16, 16)


def follows(stub):
    """A whole stream works."""
    stream = WireStream(stub)
    stream.frame(prompts=[prompt(1, A)])
    assert_shows(stream.receive("result"), {1: A})
    stream.half_close()
    stream.rest()


def refused(stub):
    """Status and reason of an attempt to open a stream; GetServerInfo must fare alike."""
    stream = WireStream(stub, opened=False)
    stream.send(open=pb.Open())
    with pytest.raises(grpc.RpcError) as caught:
        stream.receive()
    stream.half_close()
    with pytest.raises(grpc.RpcError) as info:
        stub.GetServerInfo(pb.GetServerInfoRequest(), timeout=10)
    assert info.value.code() is caught.value.code()
    metadata = {item.key: item.value for item in caught.value.trailing_metadata() or ()}
    return caught.value.code(), metadata.get("maskstream-reason")


def tls_of(pair, authority=None):
    return TlsSettings(pair.certificate, pair.key, authority.certificate if authority else None)


def test_a_stream_over_tls_works_and_a_client_that_trusts_another_authority_stays_out(
    start, authority, server_pair, tmp_path
):
    running = start(tls=tls_of(server_pair))
    follows(running.connect(Access(ClientTls(authority.certificate))))
    other = type(authority)(tmp_path / "other")
    assert refused(running.connect(Access(ClientTls(other.certificate))))[0] is grpc.StatusCode.UNAVAILABLE
    assert refused(running.connect(Access()))[0] is grpc.StatusCode.UNAVAILABLE, "plain text to a TLS port"


def test_with_a_client_authority_only_its_certificates_get_in(start, authority, server_pair, client_pair, caplog):
    caplog.set_level("INFO")
    running = start(tls=tls_of(server_pair, authority))
    mine = ClientTls(authority.certificate, client_pair.certificate, client_pair.key)
    follows(running.connect(Access(mine)))
    assert "of certificate:gate-camera ended" in caplog.text
    assert refused(running.connect(Access(ClientTls(authority.certificate))))[0] is grpc.StatusCode.UNAVAILABLE


def test_a_renewed_certificate_is_taken_up_without_a_restart(start, authority, tmp_path):
    first, second = authority.pair("first.test"), authority.pair("second.test")
    certificate, key = tmp_path / "server.pem", tmp_path / "server.key"

    def install(pair):
        shutil.copy(pair.certificate, certificate)
        shutil.copy(pair.key, key)

    install(first)
    running = start(tls=TlsSettings(certificate, key))

    def reached_as(name):
        try:
            tls = ClientTls(authority.certificate, server_name=name)
            running.connect(Access(tls)).GetServerInfo(pb.GetServerInfoRequest(), timeout=5)
        except grpc.RpcError:
            return False
        return True

    assert (reached_as("first.test"), reached_as("second.test")) == (True, False)
    key.write_text("half written")
    os.utime(key, ns=(1, 1))
    assert reached_as("first.test"), "a file that cannot be used changes nothing"
    install(second)
    assert (reached_as("first.test"), reached_as("second.test")) == (False, True)


def test_a_file_that_goes_away_while_it_is_read_changes_nothing(
    start, authority, server_pair, tmp_path, monkeypatch, caplog
):
    certificate, key = tmp_path / "server.pem", tmp_path / "server.key"
    shutil.copy(server_pair.certificate, certificate)
    shutil.copy(server_pair.key, key)
    running = start(tls=TlsSettings(certificate, key))
    monkeypatch.setattr(listener, "_try", lambda tls: key.unlink())
    os.utime(certificate, ns=(1, 1))
    follows(running.connect(Access(ClientTls(authority.certificate))))
    assert not key.exists()
    assert "the certificate stays as it was" in caplog.text


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda files: files[0].unlink(), "cannot read .*server.pem"),
        (lambda files: files[0].write_text("no certificate"), "server.pem"),
        (lambda files: files[1].write_text("no key"), "server.key"),
        (lambda files: shutil.copy(files[2], files[1]), "does not belong"),
    ],
)
def test_files_that_cannot_be_used_are_named_at_the_start(
    start, authority, server_pair, client_pair, tmp_path, spoil, words
):
    files = (tmp_path / "server.pem", tmp_path / "server.key", client_pair.key)
    shutil.copy(server_pair.certificate, files[0])
    shutil.copy(server_pair.key, files[1])
    spoil(files)
    with pytest.raises(ConfigError, match=words):
        start(tls=TlsSettings(files[0], files[1]))


@pytest.fixture
def tokens(tmp_path):
    """A token file, and a token for `camera-1` in it."""
    token, line = new_token("camera-1")
    file = tmp_path / "tokens.toml"
    file.write_text(line + "\n")
    return file, token


def test_a_call_needs_a_good_token_and_a_probe_needs_none(start, tokens, caplog):
    caplog.set_level("DEBUG")
    # gRPC logs a server while it is being destroyed; a record of it that is kept, as here, ends the process later.
    caplog.set_level("INFO", "grpc._cython.cygrpc")
    file, token = tokens
    running = start(auth=AuthSettings(file))
    follows(running.connect(Access(token=token)))
    assert "of token:camera-1 ended" in caplog.text
    assert refused(running.connect(Access())) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_REQUIRED")
    assert refused(running.connect(Access(token=token + "x"))) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID")
    stub = health_pb2_grpc.HealthStub(running.channel)
    assert stub.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING
    assert token not in caplog.text
    assert running.sample("stream_rejected_total", reason="TOKEN_REQUIRED") == 2, "the stream and GetServerInfo"
    assert running.sample("streams_active") == 0


def test_a_revoked_token_opens_nothing_more_and_its_stream_goes_on(start, tokens):
    file, token = tokens
    running = start(auth=AuthSettings(file))
    stub = running.connect(Access(token=token))
    stream = WireStream(stub)
    other, line = new_token("camera-2")
    file.write_text(line + "\n")
    eventually(lambda: _reason(stub) == "TOKEN_INVALID")
    follows(running.connect(Access(token=other)))
    stream.frame(prompts=[prompt(1, A)])
    assert_shows(stream.receive("result"), {1: A})
    stream.half_close()
    stream.rest()


def _reason(stub):
    try:
        stub.GetServerInfo(pb.GetServerInfoRequest(), timeout=5)
    except grpc.RpcError as error:
        return {item.key: item.value for item in error.trailing_metadata()}["maskstream-reason"]
    time.sleep(0.05)
    return None


def test_the_streams_of_one_client_do_not_take_those_of_another(start, tokens):
    file, token = tokens
    other, line = new_token("camera-2")
    file.write_text(file.read_text() + line + "\n")
    running = start(auth=AuthSettings(file), limits=Limits(max_streams_per_client=2))
    mine, theirs = (running.connect(Access(token=each)) for each in (token, other))
    streams = [WireStream(mine) for _ in range(2)]
    stream = WireStream(mine, opened=False)
    stream.send(open=pb.Open())
    with pytest.raises(grpc.RpcError) as caught:
        stream.receive()
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "camera-1" in caught.value.details()
    follows(theirs)
    streams[0].half_close()
    streams[0].rest()
    eventually(lambda: running.sample("streams_active") == 1)
    follows(mine)
    streams[1].rpc.cancel()


def test_reflection_needs_a_token_too(start, tokens):
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

    running = start(auth=AuthSettings(tokens[0]), reflection=True)
    with pytest.raises(grpc.RpcError) as caught:
        ProtoReflectionDescriptorDatabase(running.channel).get_services()
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_connection_that_is_asked_to_move_on_keeps_its_streams(start):
    running = start(max_connection_age_seconds=1.0)
    stream = running.stream()
    stream.frame(prompts=[prompt(1, A)])
    for _ in range(5):
        assert_shows(stream.receive("result"), {1: A})
        time.sleep(0.4)
        stream.frame()
    follows(running.stub)
    assert_shows(stream.receive("result"), {1: A})
    stream.half_close()
    stream.rest()


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:10.0.0.7:4711", "10.0.0.7"),
        ("ipv6:%5B::1%5D:4711", "::1"),
        ("ipv6:[fe80::1%25eth0]:80", "fe80::1%eth0"),
        ("unix:/run/maskstream.sock", "unix:/run/maskstream.sock"),
    ],
)
def test_an_address_is_told_without_its_port(peer, address):
    assert address_of(peer) == address


def test_the_guide_to_certificates_works_as_it_is_written(tmp_path, start):
    """The commands of docs/security.md, run as they stand."""
    if shutil.which("openssl") is None:
        pytest.skip("the openssl program is not here: the guide was NOT tried")
    guide = (Path(__file__).resolve().parents[2] / "docs" / "security.md").read_text()
    blocks = [
        block for block in re.findall(r"^```sh\n(.*?)^```", guide, re.MULTILINE | re.DOTALL) if "openssl" in block
    ]
    assert blocks
    for block in blocks:
        subprocess.run(["bash", "-euc", block], cwd=tmp_path, check=True, capture_output=True)
    running = start(tls=TlsSettings(tmp_path / "server.pem", tmp_path / "server.key", tmp_path / "ca.pem"))
    mine = ClientTls(tmp_path / "ca.pem", tmp_path / "camera-1.pem", tmp_path / "camera-1.key")
    follows(running.connect(Access(mine)))

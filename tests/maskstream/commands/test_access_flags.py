"""The flags that let a command in: TLS and tokens on the command line, as a user would give them."""

import argparse

import pytest
from certificates import authority, client_pair, server_pair
from served import picture, square

from maskstream import cli
from maskstream.commands.remote import access_of, add_server_arguments, client_of
from maskstream.errors import AccessError, ServerUnavailable, StreamError
from maskstream.pictures import write_id_map
from maskstream.video import VideoWriter
from serve.config import AuthSettings, TlsSettings
from serve.tokens import new_token

__all__ = ["authority", "client_pair", "server_pair"]


def parsed(*words):
    parser = argparse.ArgumentParser()
    add_server_arguments(parser)
    return parser.parse_args([str(word) for word in words])


@pytest.fixture
def guarded(start, authority, server_pair, tmp_path):
    """A server that wants TLS, a client's certificate and a token; and the token in a file."""
    token, line = new_token("gate")
    (tmp_path / "tokens.toml").write_text(line)
    (tmp_path / "token").write_text(token + "\n")
    tls = TlsSettings(server_pair.certificate, server_pair.key, client_ca=authority.certificate)
    return start(tls=tls, auth=AuthSettings(tokens=tmp_path / "tokens.toml"))


def flags(authority, client_pair, tmp_path):
    pair = ["--tls-certificate", client_pair.certificate, "--tls-key", client_pair.key]
    return ["--tls-ca", authority.certificate, *pair, "--token-file", tmp_path / "token"]


def test_track_is_let_in(guarded, authority, client_pair, tmp_path):
    with VideoWriter(tmp_path / "clip.mp4") as video:
        for _ in range(3):
            video.write(picture())
    write_id_map(tmp_path / "prompt.png", square(16, 32))
    words = ["track", tmp_path / "clip.mp4", "--prompt", tmp_path / "prompt.png", "--out", tmp_path / "out"]
    words += ["--server", guarded.server.listen, *flags(authority, client_pair, tmp_path)]
    assert cli.main([str(word) for word in words]) == 0
    assert len(list((tmp_path / "out/masks").iterdir())) == 3


def test_without_the_token_or_the_certificate_nobody_is(guarded, authority, client_pair, tmp_path, monkeypatch):
    monkeypatch.delenv("MASKSTREAM_TOKEN", raising=False)
    server = ["--server", guarded.server.listen]
    all_flags = flags(authority, client_pair, tmp_path)
    with client_of(parsed(*server, *all_flags[:-2])) as client:
        with pytest.raises(StreamError) as caught:
            client.open()
        assert caught.value.reason == "TOKEN_REQUIRED"
    monkeypatch.setenv("MASKSTREAM_TOKEN", (tmp_path / "token").read_text().strip())
    with client_of(parsed(*server, *all_flags[:-2])) as client:
        assert client.info().model == "fake"
    with client_of(parsed(*server, *all_flags[:2])) as client, pytest.raises(ServerUnavailable):
        client.open()


def test_a_token_file_is_read_for_each_call(guarded, authority, client_pair, tmp_path):
    with client_of(parsed("--server", guarded.server.listen, *flags(authority, client_pair, tmp_path))) as client:
        client.open().close()
        (tmp_path / "token").write_text("revoked")
        with pytest.raises(StreamError) as caught:
            client.open()
        assert caught.value.reason == "TOKEN_INVALID"
        (tmp_path / "token").unlink()
        with pytest.raises(AccessError, match="token-file"):
            client.open()


def test_what_cannot_be_used_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("MASKSTREAM_TOKEN", raising=False)
    missing, empty = tmp_path / "missing.pem", tmp_path / "empty"
    empty.write_text("\n")
    for words, message in (
        (["--tls-ca", missing], r"--tls-ca .*missing\.pem"),
        (["--token-file", missing], r"--token-file .*missing\.pem"),
        (["--token-file", empty], "is empty"),
        (["--tls-certificate", empty], "belong together"),
    ):
        with pytest.raises(AccessError, match=message):
            access_of(parsed(*words))
    assert access_of(parsed()).tls is None
    assert access_of(parsed("--tls")).tls is not None
    monkeypatch.setenv("MASKSTREAM_TOKEN", "hush")
    with pytest.raises(AccessError, match="plain text") as caught:
        client_of(parsed("--server", "camera.example.com:50051"))
    assert "hush" not in str(caught.value)

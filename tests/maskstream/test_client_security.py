"""A token goes nowhere in plain text, and shows up in no message."""

import pytest

from maskstream.client_security import Access, ClientTls, secure_channel
from maskstream.v1 import maskstream_pb2 as pb
from serve.config import AuthSettings
from serve.tokens import new_token


@pytest.mark.parametrize(
    "target", ["10.0.0.7:50051", "camera.example:443", "dns:///camera.example:443", "[2001:db8::1]:1"]
)
def test_a_token_is_not_sent_to_another_machine_in_plain_text(target):
    with pytest.raises(ValueError, match="plain text") as caught:
        secure_channel(target, [], Access(token="hush"))
    assert "hush" not in str(caught.value)
    secure_channel(target, [], Access(token="hush", insecure_token=True)).close()


@pytest.mark.parametrize("target", ["127.0.0.1:1", "localhost:1", "[::1]:1", "unix:/run/x.sock"])
def test_on_this_machine_it_may_be(target):
    secure_channel(target, [], Access(token="hush")).close()


def test_a_token_is_in_no_repr():
    assert "hush" not in repr(Access(token="hush"))


def test_a_certificate_without_its_key_is_refused():
    with pytest.raises(ValueError, match="both"):
        ClientTls(certificate="mine.pem")


@pytest.mark.parametrize("token", ["", "\n", "hush hush", "hush\nhush", "hush\u00e9", "hush\x00"])
def test_what_cannot_be_a_token_is_refused_without_showing_it(token):
    with pytest.raises(ValueError, match="another file") as caught:
        secure_channel("localhost:1", [], Access(token=token))
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("as_function", [False, True])
def test_the_end_of_a_tokens_line_is_no_part_of_it(start, tmp_path, as_function):
    token, line = new_token("gate")
    (tmp_path / "tokens.toml").write_text(line)
    running = start(auth=AuthSettings(tmp_path / "tokens.toml"))
    said = token + "\r\n"
    stub = running.connect(Access(token=(lambda: said) if as_function else said))
    assert stub.GetServerInfo(pb.GetServerInfoRequest(), timeout=10).server_version == "1.2"


def test_files_that_are_no_pem_or_do_not_belong_together_are_named(authority, client_pair, server_pair, tmp_path):
    (tmp_path / "notes.txt").write_text("no pem")
    ca = authority.certificate
    for tls, words in (
        (ClientTls(tmp_path / "notes.txt"), r"notes\.txt.*expected CA"),
        (ClientTls(ca, client_pair.certificate, server_pair.key), r"maskstream\.test\.key.*MISMATCH"),
        (ClientTls(ca, tmp_path / "notes.txt", client_pair.key), r"notes\.txt.*expected a certificate"),
    ):
        with pytest.raises(ValueError, match=words):
            secure_channel("localhost:1", [], Access(tls))


def test_a_missing_file_is_named():
    with pytest.raises(OSError, match=r"nowhere\.pem"):
        secure_channel("localhost:1", [], Access(ClientTls(ca="nowhere.pem")))

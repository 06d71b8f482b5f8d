"""A token goes nowhere in plain text, and shows up in no message."""

import pytest

from maskstream.client_security import Access, ClientTls, secure_channel


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


def test_a_missing_file_is_named():
    with pytest.raises(OSError, match=r"nowhere\.pem"):
        secure_channel("localhost:1", [], Access(ClientTls(ca="nowhere.pem")))

"""Pauses and names of servers."""

import grpc
import pytest

from maskstream.client_opening import Targets, pause_seconds
from maskstream.client_security import Access
from maskstream.errors import ServerFull, ServerUnavailable, StreamError
from maskstream.remote_call import stream_error


def test_pauses_are_random_and_grow_up_to_five_seconds():
    for failures, longest in ((1, 0.4), (2, 0.8), (3, 1.6), (5, 5.0), (1000, 5.0)):
        drawn = [pause_seconds(failures, 0.0) for _ in range(300)]
        assert 0 <= min(drawn) < 0.1 * longest, "clients that lost one server do not come back together"
        assert 0.9 * longest < max(drawn) <= longest


def test_no_pause_is_shorter_than_a_server_asks_for():
    drawn = [pause_seconds(1, 2.0) for _ in range(100)]
    assert 2.0 <= min(drawn) < max(drawn) <= 2.4


@pytest.mark.parametrize(
    ("targets", "count"),
    [("a:1", 1), ("a:1, b:2", 2), (["a:1", "b:2", "c:3"], 3), ("ipv4:10.0.0.1:1,10.0.0.2:1", 1), ("dns:///a:1", 1)],
)
def test_how_many_servers_are_named(targets, count):
    named = Targets(targets, Access())
    assert len(named.stubs) == count
    named.close()


class Status(grpc.RpcError):
    """What gRPC raises, as far as we look at it."""

    def __init__(self, code, **metadata):
        self._code, self._metadata = code, metadata

    def code(self):
        return self._code

    def details(self):
        return "details"

    def trailing_metadata(self):
        class Item:
            def __init__(self, key, value):
                self.key, self.value = key, value

        return [Item(f"maskstream-{name}".replace("_", "-"), value) for name, value in self._metadata.items()]


@pytest.mark.parametrize(
    ("milliseconds", "seconds"),
    [("1500", 1.5), ("0", 0.0), ("-5", 0.0), ("nan", 0.0), ("inf", 30.0), ("soon", 0.0), ("9999999", 30.0)],
)
def test_what_a_server_asks_for_is_read_within_reason(milliseconds, seconds):
    error = stream_error(Status(grpc.StatusCode.UNAVAILABLE, reason="SERVER_FULL", retry_after_ms=milliseconds))
    assert type(error) is ServerFull
    assert error.retry_after_seconds == seconds


def test_what_a_status_means():
    code = grpc.StatusCode
    assert type(stream_error(Status(code.UNAVAILABLE))) is ServerUnavailable
    assert stream_error(Status(code.INTERNAL)).reason == "CONNECTION_BROKEN"
    failed = stream_error(Status(code.INTERNAL, reason="ENGINE_FAILED"))
    assert (type(failed), failed.reason, str(failed)) == (StreamError, "ENGINE_FAILED", "ENGINE_FAILED: details")
    assert stream_error(Status(code.PERMISSION_DENIED)).reason == "PERMISSION_DENIED"

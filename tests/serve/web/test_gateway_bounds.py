"""The page's WebSocket under browsers, sites and programs that mean no good."""

import contextlib
import http.client
import socket

import numpy as np
import pytest
from fake_browser import closed_after, mask_prompt, packed
from fakes import FakeNetworks
from served import TIMEOUT, eventually, jpeg, picture, png, square
from websockets.exceptions import ConnectionClosed, InvalidStatus

from maskstream.v1 import maskstream_pb2 as pb
from serve.config import Limits
from serve.http_endpoint import listening_socket
from serve.web import connections, gateway, page_server

CAT, DOG = square(16, 16), square(32, 64)


@pytest.mark.parametrize(
    "message",
    [
        "not json",
        "[]",
        '{"type": "open"}',
        '{"type": "reset", "seq": -1}',
        '{"type": "remove_objects", "seq": 1, "ids": [1.5]}',
        '{"type": "set_objects", "seq": 1, "objects": [{"id": 1, "box": [1, 2, 3]}]}',
        '{"type": "set_objects", "seq": 1, "objects": [{"id": 1, "mask": {"width": 1, "height": 1, "values": [256], '
        '"lengths": [1]}}]}',
        "[" * 100_000,
        b"",
        b"\xff\xff\xff\xffshort",
        packed({"type": "frame", "seq": 1, "image": "gif"}, b""),
    ],
)
def test_what_cannot_be_read_ends_the_stream_and_says_so(start, browse, message):
    running = start(web=True)
    browser = browse(running)
    browser.open()
    browser.socket.send(message)
    heard, code = closed_after(browser)
    assert [(each["type"], each["reason"]) for each in heard] == [("ended", "BAD_MESSAGE")]
    assert code == 1000
    eventually(lambda: not running.server._service.streams)


def test_a_message_of_any_size_is_refused(start, browse):
    browser = browse(start(web=True, limits=Limits(max_message_mib=1, max_snapshot_mib=1)))
    browser.open()
    browser.socket.send(bytes(2**20 + 1))
    heard, _ = closed_after(browser)
    assert [(each["code"], each["reason"]) for each in heard] == [("RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE")]


def test_the_first_message_must_open_and_be_short(start, browse, monkeypatch):
    running = start(web=True)
    with monkeypatch.context() as patched:
        patched.setattr(gateway, "OPEN_SECONDS", 0.2)
        silent = browse(running)
        assert closed_after(silent)[0][0]["reason"] == "OPEN_REQUIRED"
    hasty = browse(running)
    hasty.frame()
    assert closed_after(hasty)[0][0]["reason"] == "BAD_MESSAGE"
    large = browse(running)
    large.socket.send("x" * connections.MOST_BYTES_BEFORE_OPEN)
    assert closed_after(large) == ([], None)
    assert browse(running).open()["type"] == "opened"


def test_a_program_cannot_say_that_it_calls_for_somebody_else(start):
    running = start(web=True, limits=Limits(max_streams_per_client=1))
    running.stream()
    opening = pb.PropagateRequest(seq=1, open=pb.Open())
    call = running.stub.Propagate(iter([opening]), metadata=[("maskstream-browser", "10.0.0.9")], timeout=TIMEOUT)
    assert call.code().name == "RESOURCE_EXHAUSTED"
    assert "127.0.0.1" in call.details()


def test_a_page_of_another_site_is_refused(start, browse):
    running = start(web=True)
    for origin in ("http://evil.example", "null", f"http://{running.server.http}.evil.example"):
        with pytest.raises(InvalidStatus) as refused:
            browse(running, origin=origin)
        assert refused.value.response.status_code == 403
    assert browse(running, origin=None).open()["type"] == "opened"  # a program on this machine


@pytest.mark.parametrize(
    ("name", "more", "welcome"),
    [
        ("localhost", {}, True),
        ("evil.example", {}, False),  # a name that its owner lets point to this machine
        ("video.example", {"X-Forwarded-For": "10.0.0.7"}, True),  # a proxy on this machine
    ],
)
def test_a_name_from_elsewhere_does_not_make_a_page_ours(start, browse, name, more, welcome):
    running = start(web=True)
    host = f"{name}:{running.server.http.rpartition(':')[2]}"
    handshake = {
        "Host": host, "Origin": f"http://{host}", "Upgrade": "websocket", "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", **more,
    }  # fmt: skip
    connection = http.client.HTTPConnection(running.server.http, timeout=TIMEOUT)
    connection.request("GET", "/v1/stream", headers=handshake)
    status = connection.getresponse().status
    connection.close()
    assert status == (101 if welcome else 403)


def test_lossless_slows_a_browser_that_sends_without_end(start, browse):
    """Neither the gateway nor the server takes the flood in: the browser's own buffers fill."""
    networks = FakeNetworks()
    running = start(networks, web=True)
    browser = browse(running)
    browser.open()
    networks.gate.clear()
    noise = png(np.random.default_rng(0).integers(0, 255, (400, 600, 3), np.uint8))  # 700 KB
    browser.frame(noise, prompts=[mask_prompt(1, square(16, 16, size=(400, 600)))])
    browser.socket.socket.settimeout(1.0)
    with contextlib.suppress(TimeoutError, ConnectionClosed):
        for _ in range(200):
            browser.frame(noise)
    assert browser.seq < 60
    networks.gate.set()


def test_a_browser_that_reads_nothing_is_cut_off(start, browse, monkeypatch):
    """Its socket is full; the others go on, and its place is given back."""

    def listening(*args):
        server = listening_socket(*args)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # so that few answers fill it
        return server

    monkeypatch.setattr(page_server, "listening_socket", listening)
    running = start(web=True, limits=Limits(idle_timeout_seconds=1.5))
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    narrow.connect(("127.0.0.1", int(running.server.http.rpartition(":")[2])))
    deaf = browse(running, max_queue=1, sock=narrow)
    deaf.open()
    size = (480, 640)
    stripes = (np.arange(size[0])[:, None] // 16 + np.arange(size[1])[None] // 16) % 2
    frame = picture(size)
    deaf.frame(jpeg(frame), image="jpeg", prompts=[mask_prompt(1, stripes.astype(np.uint8))])
    deaf.socket.socket.settimeout(2.0)
    with contextlib.suppress(ConnectionClosed, OSError):
        for _ in range(3000):
            deaf.frame(jpeg(frame), image="jpeg")
    other = browse(running)
    other.open()
    other.frame(prompts=[mask_prompt(1, CAT)])
    assert set(np.unique(other.result().id_map)) == {0, 1}
    other.socket.close()
    eventually(lambda: not running.server._service.streams)


def test_too_many_sockets_are_refused(start, browse):
    running = start(web=True, max_streams=1)
    held = [browse(running) for _ in range(18)]
    with pytest.raises(InvalidStatus):
        browse(running)
    held[0].socket.close()
    eventually(lambda: _opens(browse, running))


def _opens(browse, running):
    try:
        browse(running)
    except InvalidStatus:
        return False
    return True


def test_pieces_without_end_are_cut_off(start, browse, monkeypatch):
    monkeypatch.setattr(connections, "MOST_FRAGMENTS", 50)
    browser = browse(start(web=True))
    browser.open()
    with pytest.raises(ConnectionClosed):
        browser.socket.send(b"" for _ in range(100_000))

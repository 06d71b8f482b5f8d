"""The page's port under clients that behave and clients that do not."""

import contextlib
import gzip
import socket
import ssl
import sys
import threading
import time

import cv2
import numpy as np
import pytest
from fake_browser import ask, mask_prompt
from fakes import FakeNetworks
from served import TIMEOUT, eventually, square

from serve.config import AuthSettings, ServeConfig, TlsSettings
from serve.tokens import new_token
from serve.web import clip, connections
from serve.web.files import read_files
from serve.web.wanted import why_no_page


@pytest.fixture
def small_clip(monkeypatch):
    monkeypatch.setattr(clip, "NUM_FRAMES", 3)
    monkeypatch.setattr(clip, "SIZE", (48, 64))


@pytest.fixture
def address(start):
    return start(web=True).server.http


def connected(address, sent=b""):
    host, _, port = address.rpartition(":")
    client = socket.create_connection((host, int(port)), timeout=10)
    client.sendall(sent)
    return client


def test_the_page_and_its_files_say_what_a_browser_may_do(address):
    status, headers, body = ask(address, "/")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert b"<title>maskstream" in body
    for path in ("/", "/static/app.js", "/v1/info", "/livez", "/nothing"):
        _, headers, _ = ask(address, path)
        policy = headers["Content-Security-Policy"]
        assert "default-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Server"] is None


def test_a_file_is_sent_once_and_compared_after_that(address):
    _, headers, body = ask(address, "/static/style.css")
    assert headers["Content-Type"] == "text/css; charset=utf-8"
    assert headers["Cache-Control"] == "no-cache"
    again = ask(address, "/static/style.css", **{"If-None-Match": headers["ETag"]})
    assert (again[0], again[2]) == (304, b"")
    assert again[1]["ETag"] == headers["ETag"]
    zipped = ask(address, "/static/style.css", **{"Accept-Encoding": "gzip"})
    assert gzip.decompress(zipped[2]) == body
    assert ask(address, "/static/style.css", "HEAD")[2] == b""


def test_every_file_of_the_page_is_served(address):
    page = ask(address, "/")[2]
    for name, file in read_files().items():
        assert ask(address, f"/static/{name}")[::2] == (200, file.content)
    assert read_files()["index.html"].content == page


@pytest.mark.parametrize("path", ["/static/../page.py", "/static/%2e%2e/page.py", "/static//etc/passwd", "/static/"])
def test_nothing_else_is_served(address, path):
    assert ask(address, path)[0] == 404


def test_probes_and_metrics_are_as_ever(address):
    assert ask(address, "/livez")[::2] == (200, b"ok\n")
    assert ask(address, "/readyz?verbose")[::2] == (200, b"ok\n")
    _, headers, text = ask(address, "/metrics")
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert b"maskstream_streams_active 0.0" in text
    assert b"maskstream_streams_active 0.0" in gzip.decompress(
        ask(address, "/metrics", **{"Accept-Encoding": "gzip"})[2]
    )
    assert ask(address, "/metrics", "POST")[0] == 405
    status, headers, body = ask(address, "/livez", "HEAD")
    assert (status, headers["Content-Length"], body) == (200, "3", b"")


def test_the_server_says_what_it_is(start, tmp_path):
    token, line = new_token("camera")
    (tmp_path / "tokens.toml").write_text(line)
    running = start(web=True, max_streams=3, auth=AuthSettings(tmp_path / "tokens.toml"))
    status, _, body = ask(running.server.http, "/v1/info")
    assert status == 200
    for part in (b'"model":"fake"', b'"max_streams":3', b'"streams":0', b'"token_required":true', b'"max_objects":32'):
        assert part in body
    assert token.encode() not in body


def test_the_clip_is_there_frame_by_frame(small_clip, address):
    _, headers, body = ask(address, "/v1/clip")
    assert headers["Content-Type"] == "application/json"
    assert b'"frames":3,"fps":24.0,"width":64,"height":48,"objects":[1,2,3]' in body
    pictures = [ask(address, f"/v1/clip/{index}.jpg") for index in (2, 0, 1)]
    assert {headers["Content-Type"] for _, headers, _ in pictures} == {"image/jpeg"}
    decoded = [cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR) for _, _, body in pictures]
    assert {picture.shape for picture in decoded} == {(48, 64, 3)}
    assert np.abs(decoded[0].astype(int) - decoded[1]).mean() > 1  # things have moved
    ids = cv2.imdecode(np.frombuffer(ask(address, "/v1/clip/masks/0.png")[2], np.uint8), cv2.IMREAD_UNCHANGED)
    assert set(np.unique(ids)) == {0, 1, 2, 3}
    assert ask(address, "/v1/clip/3.jpg")[0] == 404


def test_probes_answer_while_the_engine_and_the_event_loop_are_stuck(start, browse):
    networks = FakeNetworks()
    running = start(networks, web=True, stall_seconds=0.3)
    browser = browse(running)
    browser.open()
    networks.gate.clear()
    browser.frame(prompts=[mask_prompt(1, square(16, 16))])
    networks.entered.acquire(timeout=TIMEOUT)
    eventually(lambda: ask(running.server.http, "/livez")[0] == 503)
    blocked = threading.Event()
    running.loop.call_soon_threadsafe(blocked.wait, 5)
    assert ask(running.server.http, "/livez")[0] == 503
    assert ask(running.server.http, "/")[0] == 200
    blocked.set()
    networks.gate.set()


def test_who_says_nothing_or_trickles_is_cut_off(address, monkeypatch):
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.5)
    silent = connected(address)
    kept = connected(address, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = b""
    while not answer.endswith(b"ok\n"):
        answer += kept.recv(1000)
    assert answer.startswith(b"HTTP/1.1 200")
    began = time.monotonic()
    trickling = connected(address, b"GET /livez HTTP/1.1\r\n")
    with contextlib.suppress(OSError):
        while time.monotonic() < began + 10:
            trickling.sendall(b"X-Y: z\r\n")
            time.sleep(0.02)
    assert time.monotonic() - began < 3
    assert silent.recv(10) == b""
    assert kept.recv(10) == b""
    for client in (silent, kept, trickling):
        client.close()


def test_the_oldest_idle_connection_makes_room(address, monkeypatch):
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 4)
    crowd = [connected(address) for _ in range(8)]
    assert ask(address, "/livez")[0] == 200
    assert crowd[0].recv(10) == b""
    for client in crowd:
        client.close()


def test_a_header_of_any_size_is_refused(address):
    client = connected(address)
    sent = 0
    with client, contextlib.suppress(OSError):
        for _ in range(100_000):
            client.sendall(b"X-Large: " + b"x" * 1000 + b"\r\n")
            sent += 1
    assert sent < 100_000
    assert ask(address, "/livez")[0] == 200


@pytest.mark.parametrize("sent", [b"nonsense\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\n\r\n"])
def test_what_is_no_request_is_no_news(address, sent, caplog):
    with connected(address, sent) as client:
        assert b"400" in client.recv(1000)
    assert [record for record in caplog.records if record.levelname != "DEBUG"] == []


def test_a_browser_on_tls_gets_no_answer_that_hurts(address):
    host, _, port = address.rpartition(":")
    context = ssl.create_default_context()
    with pytest.raises(OSError), socket.create_connection((host, int(port)), timeout=5) as plain:  # noqa: PT011
        context.wrap_socket(plain, server_hostname="localhost")
    assert ask(address, "/livez")[0] == 200


def test_an_address_that_is_taken_is_an_error(start, address):
    with pytest.raises(OSError, match="ddress already in use"):
        start(web=True, http=address)


def test_a_server_that_stops_leaves_no_folder_and_no_thread(start, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = threading.active_count()
    running = start(web=True)
    assert len(list(tmp_path.iterdir())) == 1
    running.running = False
    running.run(running.server.stop())
    running.server._page.stop()  # as a second signal may do
    assert list(tmp_path.iterdir()) == []
    eventually(lambda: threading.active_count() <= before + 3)  # the pools of the event loop stay
    assert not [thread for thread in threading.enumerate() if thread.name == "page"]


# ---- where there is no page ------------------------------------------------------------------------------------------


def test_without_the_extra_the_small_server_says_how_to_get_the_page(start, monkeypatch):
    found = sys.modules["serve.web.wanted"].find_spec
    monkeypatch.setattr("serve.web.wanted.find_spec", lambda name: None if name == "uvicorn" else found(name))
    running = start(web=True)
    assert type(running.server._http).__name__ == "HttpEndpoint"
    status, _, body = ask(running.server.http, "/")
    assert (status, body) == (200, b"the page needs uvicorn: pip install 'maskstream[web]'\n")
    assert ask(running.server.http, "/livez")[0] == 200
    assert ask(running.server.http, "/static/app.js")[0] == 404


def test_without_a_folder_for_temporary_files_it_serves_on(start, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    running = start(web=True)
    assert b"temporary files" in ask(running.server.http, "/")[2]
    assert ask(running.server.http, "/readyz")[0] == 200


def test_switched_off_it_is_off(start):
    running = start(web=False)
    assert b"switched off" in ask(running.server.http, "/")[2]
    assert b"maskstream_streams_active" in ask(running.server.http, "/metrics")[2]


def test_where_certificates_are_demanded_the_page_needs_tokens(tmp_path):
    tls = TlsSettings(tmp_path / "c.pem", tmp_path / "k.pem", tmp_path / "ca.pem")
    assert "certificates" in str(why_no_page(ServeConfig(tls=tls)))
    assert why_no_page(ServeConfig(tls=tls, auth=AuthSettings(tmp_path / "tokens.toml"))) is None
    assert why_no_page(ServeConfig()) is None


def test_a_page_without_its_files_is_not_there(start, monkeypatch):
    monkeypatch.setattr("serve.web.page.read_files", dict)
    running = start(web=True)
    assert ask(running.server.http, "/")[0] == 404

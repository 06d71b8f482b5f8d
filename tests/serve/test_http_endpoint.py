"""The HTTP side under clients that behave and clients that do not."""

import gzip
import socket
import threading
import time
import urllib.error
import urllib.request

import pytest
from prometheus_client import CollectorRegistry, Gauge
from served import eventually

from serve import http_endpoint
from serve.http_endpoint import MOST_CONNECTIONS, PAGES_AT_ONCE, HttpEndpoint, MetricsPage, split_address


@pytest.fixture
def endpoint():
    registry = CollectorRegistry()
    Gauge("answer", "To all questions.", registry=registry).set(42)
    started = HttpEndpoint("127.0.0.1:0", registry, alive=lambda: True, ready=lambda: False)
    started.start()
    yield started
    started.stop()


def ask(endpoint, path, method="GET", **headers):
    request = urllib.request.Request(f"http://127.0.0.1:{endpoint.port}{path}", method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def connected(endpoint, sent=b""):
    client = socket.create_connection(("127.0.0.1", endpoint.port), timeout=10)
    client.sendall(sent)
    return client


def trickle(client, line):
    """Send it again and again for ten seconds."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        client.sendall(line)
        time.sleep(0.02)


def num_threads(endpoint):
    return sum("process_request_thread" in thread.name for thread in threading.enumerate())


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [("/livez", 200, b"ok\n"), ("/readyz", 503, b"not now\n"), ("/livez?verbose", 200, b"ok\n")],
)
def test_probes(endpoint, path, status, body):
    assert ask(endpoint, path)[::2] == (status, body)


def test_what_is_not_there_is_404_and_other_methods_are_refused(endpoint):
    status, _, body = ask(endpoint, "/healthz")
    assert status == 404
    assert b"/metrics, /livez and /readyz" in body
    assert ask(endpoint, "/metrics", "POST")[0] == 501


@pytest.mark.parametrize("path", ["/metrics", "/livez", "/readyz", "/nothing"])
def test_head_has_the_headers_of_get_and_no_body(endpoint, path):
    status, headers, body = ask(endpoint, path)
    head_status, head_headers, head_body = ask(endpoint, path, "HEAD")
    assert (head_status, head_body) == (status, b"")
    assert head_headers["Content-Length"] == str(len(body))
    assert head_headers["Content-Type"] == headers["Content-Type"]


def test_metrics_are_text_whatever_is_accepted_and_compressed_when_asked(endpoint):
    _, plain, page = ask(endpoint, "/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert plain["Content-Type"].startswith("text/plain; version=0.0.4")
    assert b"answer 42.0\n" in page
    _, zipped, body = ask(endpoint, "/metrics", **{"Accept-Encoding": "deflate, gzip"})
    assert zipped["Content-Encoding"] == "gzip"
    assert gzip.decompress(body) == page


def test_what_serves_is_not_told(endpoint):
    assert ask(endpoint, "/livez")[1]["Server"].strip() == "maskstream"


def test_clients_that_say_nothing_leave_room_for_probes(endpoint):
    # each of them has begun a request and sends no more, as slow clients and port scanners do
    idle = [connected(endpoint, b"GET /livez HT") for _ in range(4 * MOST_CONNECTIONS)]
    for _ in range(3):
        assert ask(endpoint, "/livez")[0] == 200
    eventually(lambda: num_threads(endpoint) <= MOST_CONNECTIONS)
    for client in idle:
        client.close()
    eventually(lambda: num_threads(endpoint) == 0)


def test_headers_that_trickle_in_end_in_time(endpoint, monkeypatch):
    # no single read takes long, so a limit on reads alone would let this go on for hours
    monkeypatch.setattr(http_endpoint, "LONGEST_SECONDS", 0.3)
    client = connected(endpoint, b"GET /livez HTTP/1.0\r\n")
    started = time.monotonic()
    with pytest.raises(OSError, match=r"Broken pipe|Connection reset"):
        trickle(client, b"X-Slow: 1\r\n")
    assert time.monotonic() - started < 5
    client.close()


def test_a_client_that_goes_away_or_talks_nonsense_is_no_news(endpoint, capfd, caplog):
    for sent in (
        b"",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET\r\n\r\n",
        b"GET /metrics HTTP/9.9\r\n\r\n",
        b"\n" * 70_000,
    ):
        connected(endpoint, sent).close()
    eventually(lambda: num_threads(endpoint) == 0)
    assert ask(endpoint, "/livez")[0] == 200
    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.records if record.levelname != "DEBUG"] == []


def test_a_gauge_that_fails_is_news_and_costs_no_more_than_its_page(caplog):
    registry = CollectorRegistry()
    Gauge("broken", "Raises.", registry=registry).set_function(lambda: 1 / 0)
    endpoint = HttpEndpoint("127.0.0.1:0", registry, alive=lambda: True, ready=lambda: True)
    endpoint.start()
    client = connected(endpoint, b"GET /metrics HTTP/1.0\r\n\r\n")
    assert client.recv(100) == b""
    client.close()
    assert ask(endpoint, "/livez")[0] == 200
    endpoint.stop()
    assert "was not answered" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_the_page_is_fresh_for_who_asks_in_reason_and_kept_for_who_does_not(monkeypatch):
    made, now = [], [100.0]
    monkeypatch.setattr(http_endpoint, "generate_latest", lambda _: made.append(1) or str(len(made)).encode())
    monkeypatch.setattr(http_endpoint.time, "monotonic", lambda: now[0])
    page = MetricsPage(CollectorRegistry())
    assert [page.read()[0] for _ in range(3)] == [b"1", b"2", b"3"]
    for _ in range(1000):
        page.read()
    assert len(made) == PAGES_AT_ONCE
    now[0] += 0.25  # ten a second: two more
    assert {page.read()[0] for _ in range(100)} == {b"21", b"22"}


def test_an_ipv6_address_is_an_address():
    if not socket.has_ipv6:
        pytest.skip("no IPv6 on this machine")
    endpoint = HttpEndpoint("[::1]:0", CollectorRegistry(), alive=lambda: True, ready=lambda: True)
    try:
        endpoint.start()
    except OSError as error:
        pytest.skip(f"no IPv6 on this machine: {error}")
    with urllib.request.urlopen(f"http://[::1]:{endpoint.port}/livez", timeout=5) as response:
        assert response.read() == b"ok\n"
    endpoint.stop()


def test_an_address_is_host_and_port():
    assert split_address("127.0.0.1:9464") == ("127.0.0.1", 9464)
    assert split_address(":0") == ("", 0)
    for wrong in ("9464", "host:", "host:http", "host:70000"):
        with pytest.raises(ValueError, match="is not HOST:PORT"):
            split_address(wrong)

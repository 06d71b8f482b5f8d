"""What the log says, and that nothing it meets holds the server up: hostile text, floods, full disks, dead readers."""

import contextlib
import fcntl
import io
import json
import logging
import os
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry
from served import eventually

from serve import logs
from serve.logs import LONGEST, QUEUE_RECORDS, LineHandler, RateLimited, configure_logging, lost_records
from serve.metrics import Metrics

log = logging.getLogger("serve.test")


@pytest.fixture
def lines(tmp_path, monkeypatch):
    """Configure with a form; what was written comes back, after a flush."""
    monkeypatch.setattr(logging, "raiseExceptions", True)
    before, path = logging.getLogger().level, tmp_path / "log"
    handlers = []

    def configured(form="text", level="INFO"):
        with path.open("wb") as file:
            handlers.append(configure_logging(level, form, file.fileno()))

        def written():
            handlers[-1].close()
            return path.read_text().splitlines()

        return written

    yield configured
    for handler in handlers:
        logging.getLogger().removeHandler(handler)
        handler.close()
    logging.getLogger().setLevel(before)


def test_text_is_a_line_with_time_level_logger_message_and_fields(lines):
    written = lines()
    log.debug("unseen")
    log.warning("stream %s ended", 7, extra={"client": "10.0.0.1", "frames": 3})
    (line,) = written()
    time_, level, name, message = line.split(" ", 3)
    assert abs((datetime.fromisoformat(time_) - datetime.now(UTC)).total_seconds()) < 60
    assert time_.endswith("Z")
    assert (level, name) == ("WARNING", "serve.test:")
    assert message == "stream 7 ended client=10.0.0.1 frames=3"


def test_json_is_an_object_a_line_with_the_same(lines):
    written = lines("json")
    log.warning("stream %s ended", 7, extra={"client": "10.0.0.1", "frames": 3, "ratio": 0.5, "bad": float("nan")})
    (line,) = written()
    record = json.loads(line)
    assert datetime.fromisoformat(record.pop("time")).tzinfo is UTC
    assert record == {
        "level": "WARNING", "logger": "serve.test", "message": "stream 7 ended",
        "client": "10.0.0.1", "frames": 3, "ratio": 0.5, "bad": "nan",
    }  # fmt: skip


@pytest.mark.parametrize("form", logs.FORMS)
def test_a_client_cannot_forge_a_line_or_fill_the_disk_with_one(lines, form):
    hostile = "x\n2026-01-01T00:00:00.000Z CRITICAL serve: all is lost\r\x1b[2J\u202e\ud800" + "y" * 10_000_000
    written = lines(form)
    log.info("stream %s opened", hostile, extra={"client": hostile})
    (line,) = written()
    assert len(line) < 3 * LONGEST
    assert line.isprintable()
    if form == "json":
        assert json.loads(line)["message"].startswith("stream x\n2026")


def test_an_extra_field_cannot_take_the_place_of_a_fixed_one(lines):
    written = lines("json")
    log.info("hello", extra={"level": "DEBUG", "time": 0, "logger": "else"})
    (line,) = written()
    assert (json.loads(line)["level"], json.loads(line)["logger"]) == ("INFO", "serve.test")


@pytest.mark.parametrize("form", logs.FORMS)
def test_a_traceback_is_kept(lines, form):
    written = lines(form)
    try:
        raise ValueError("odd\nnumber")
    except ValueError:
        log.exception("failed")
    first, *rest = written()
    text = json.loads(first)["traceback"] if form == "json" else "\n".join(rest)
    assert text.lstrip().startswith("Traceback (most recent call last)")
    assert "ValueError: odd" in text
    assert all(line.startswith("    ") for line in rest), "no line of it may look like a record"


def test_a_record_that_cannot_be_formatted_is_dropped_in_silence(lines, capfd):
    written = lines()
    log.info("%d frames", "three")
    log.info("after")
    assert lost_records()["dropped"] == 1
    assert [line.split(": ")[1] for line in written()] == ["after"]
    assert capfd.readouterr().err == ""


def test_configuring_again_replaces_the_handler_and_no_other(lines):
    other = logging.StreamHandler(io.StringIO())
    logging.getLogger().addHandler(other)
    try:
        lines()
        written = lines()
        log.info("once")
        assert len(written()) == 1
        assert other in logging.getLogger().handlers
    finally:
        logging.getLogger().removeHandler(other)


def test_a_flood_of_one_message_is_cut_and_summed_up(lines):
    written = lines("json")
    for number in range(500):
        log.warning("client %d knocks", number)
        log.info("another %d", number) if number < 5 else None
    assert lost_records()["suppressed"] == 500 - logs.PER_SECOND
    records = list(map(json.loads, wait_for(written, "suppressed")))
    assert sum(record["message"].startswith("client") for record in records) == logs.PER_SECOND
    assert sum(record["message"].startswith("another") for record in records) == 5
    (summary,) = [record for record in records if "suppressed" in record]
    assert summary["suppressed"] == 480
    assert summary["message"] == "suppressed 480 more of: client %d knocks"
    assert (summary["level"], summary["logger"]) == ("WARNING", "serve.test")


def wait_for(written, word):
    """The lines, once the second of the flood is over."""
    time.sleep(1.2)
    found = written()
    assert any(word in line for line in found)
    return found


def test_the_limit_is_per_second_and_its_memory_is_bounded(monkeypatch):
    now = [50.0]
    monkeypatch.setattr(logs.time, "monotonic", lambda: now[0])
    limit = RateLimited(per_second=2)

    def passes(message):
        return limit.filter(logging.LogRecord("a", logging.INFO, "", 0, message, (), None))

    assert [passes("x") for _ in range(4)] == [True, True, False, False]
    assert passes("y")
    assert limit.take_summaries() == []
    now[0] += 1.5
    assert [summary.getMessage() for summary in limit.take_summaries()] == ["suppressed 2 more of: x"]
    assert passes("x")
    for number in range(10_000):
        passes(f"made of a client's words {number}")
    assert len(limit._windows) == logs.MOST_TEMPLATES


def test_a_pipe_that_nobody_reads_holds_nothing_up():
    reader, writer = os.pipe()
    handler = LineHandler(writer)
    handler.setFormatter(logs.TextFormatter())
    record = logging.LogRecord("a", logging.INFO, "", 0, "x" * 1000, (), None)
    slowest = 0.0
    for _ in range(3 * QUEUE_RECORDS):
        began = time.perf_counter()
        handler.handle(record)
        slowest = max(slowest, time.perf_counter() - began)
    assert handler.lost["dropped"] > QUEUE_RECORDS / 2
    assert slowest < 0.5, "a record waited for the reader"
    os.close(reader)  # ends the write that hangs, with EPIPE
    os.close(writer)
    handler.close()


def test_a_full_disk_is_counted_and_writing_goes_on():
    full = os.open("/dev/full", os.O_WRONLY)
    handler = LineHandler(full)
    os.close(full)
    handler.setFormatter(logs.TextFormatter())
    for _ in range(5):
        handler.handle(logging.LogRecord("a", logging.INFO, "", 0, "lost", (), None))
    eventually(lambda: handler.lost["dropped"] == 5)
    handler.close()


def test_what_is_lost_is_a_metric(lines):
    lines()
    registry = CollectorRegistry()
    Metrics(registry)
    log.info("%d frames", "three")
    for _ in range(logs.PER_SECOND + 7):
        log.info("again")
    assert registry.get_sample_value("maskstream_log_records_dropped_total") == 1
    assert registry.get_sample_value("maskstream_log_records_suppressed_total") == 7


STUCK = """
import logging, sys
from serve.logs import configure_logging
configure_logging("INFO")
for number in range(5000):
    logging.info("%s %d" % ("x" * 500, number))
print("done", flush=True)
"""


def test_a_process_whose_stderr_is_stuck_works_and_ends():
    # with a lock of Python's around the write, the interpreter would wait for it at its end, or abort
    reader, writer = os.pipe()
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", STUCK], stdout=subprocess.PIPE, stderr=writer, timeout=60, check=True)
    assert done.stdout == b"done\n"
    assert time.monotonic() - began < 30
    os.close(reader)
    os.close(writer)


def test_a_process_flushes_its_log_at_its_end():
    program = "import logging; from serve.logs import configure_logging; configure_logging('INFO'); logging.info('bye')"
    done = subprocess.run([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True, timeout=60, check=True)
    assert done.stderr.endswith(" INFO root: bye\n")


TLS_SERVER = """
import sys
import serve.__main__ as program
from fakes import FakeNetworks
from prometheus_client import CollectorRegistry
from serve.server import build_server
program.load_server = lambda config: build_server(FakeNetworks(), config, CollectorRegistry(), "abc", "1.2")
sys.exit(program.main(sys.argv[1:]))
"""


def full_pipe():
    """Both ends of a pipe that takes nothing more: the next write waits for a reader."""
    reader, writer = os.pipe()
    flags = fcntl.fcntl(writer, fcntl.F_GETFL)
    fcntl.fcntl(writer, fcntl.F_SETFL, flags | os.O_NONBLOCK)
    for size in (4096, 1):
        try:
            while os.write(writer, b"x" * size):
                pass
        except BlockingIOError:
            pass
    fcntl.fcntl(writer, fcntl.F_SETFL, flags)
    return reader, writer


def test_strangers_cannot_stop_a_server_whose_stderr_is_stuck(server_pair, authority, tmp_path, pytestconfig):
    # gRPC's core writes of each failed handshake to standard error itself, and would wait there with its threads
    config, announce, (reader, writer) = tmp_path / "serve.toml", tmp_path / "server.json", full_pipe()
    config.write_text(f'[tls]\ncertificate = "{server_pair.certificate}"\nkey = "{server_pair.key}"\n')
    flags = ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--announce", announce, "--config", config]
    path = f"{pytestconfig.rootpath}:{pytestconfig.rootpath / 'tests'}"
    process = subprocess.Popen([sys.executable, "-c", TLS_SERVER, *flags], env={"PYTHONPATH": path}, stderr=writer)
    try:
        eventually(announce.exists)
        address = json.loads(announce.read_text())["listen"]
        for _ in range(200):
            with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), timeout=0.05) as stranger:
                stranger.sendall(b"GET / HTTP/1.0\r\n\r\n")
                with contextlib.suppress(OSError):
                    stranger.recv(100)
        credentials = grpc.ssl_channel_credentials(authority.certificate.read_bytes())
        with grpc.secure_channel(address, credentials) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            assert health.Check(health_pb2.HealthCheckRequest(), timeout=5).status == 1
    finally:
        process.kill()
        process.wait()
        os.close(reader)
        os.close(writer)

"""The program as a parent process sees it: what it announces, its exit status, SIGTERM."""

import hashlib
import json
import os
import signal
import struct
import subprocess
import sys
import time
import urllib.request
import zlib
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from served import TIMEOUT, picture, square

from maskstream.client import MaskStreamClient, Prompt
from serve import __main__ as program
from serve.__main__ import build_parser, main, warn_of_open_doors
from serve.config import AuthSettings, ServeConfig, TlsSettings
from serve.server import build_server

FAKE_SERVER = """
import sys
from fakes import FakeNetworks
from prometheus_client import CollectorRegistry
import serve.__main__ as program
from serve.server import build_server
program.load_server = lambda config: build_server(FakeNetworks(), config, CollectorRegistry(), "abc", "1.2")
sys.exit(program.main(sys.argv[1:]))
"""


@pytest.fixture
def process(tmp_path, pytestconfig):
    """The program with fake networks on free ports; its announcement, once it is ready."""
    announce = tmp_path / "server.json"
    flags = ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--announce", str(announce), "--grace-seconds", "60"]
    environment = {"PYTHONPATH": f"{pytestconfig.rootpath}:{pytestconfig.rootpath / 'tests'}"}
    command = [sys.executable, "-c", FAKE_SERVER, *flags]
    running = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + TIMEOUT
    while not announce.exists() and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert announce.exists(), running.communicate(timeout=5)
    yield running, json.loads(announce.read_text())
    running.kill()
    running.communicate()


def test_it_says_where_it_is_and_serves_there(process):
    running, facts = process
    ready = running.stdout.readline()
    assert ready.startswith(
        f"ready listen={facts['listen']} http={facts['http']} engine=fake precision=fp32 model=fake"
    )
    with urllib.request.urlopen(f"http://{facts['http']}/readyz", timeout=5) as response:
        assert response.status == 200
    with MaskStreamClient(facts["listen"]) as client, client.open() as stream:
        assert len(list(stream.propagate([picture()] * 3, {0: [Prompt(1, square(16, 16))]}))) == 3


def test_sigterm_drains_and_ends_with_status_0(process):
    running, facts = process
    with MaskStreamClient(facts["listen"]) as client, client.open(resumes=0) as stream:
        stream.send(picture(), [Prompt(1, square(16, 16))])
        answers = stream.answers()
        next(answers)
        stream.send(picture())
        running.send_signal(signal.SIGTERM)
        assert next(answers).id_map is not None
        assert stream.close().answered == 2
    assert running.wait(TIMEOUT) == 0


def test_a_second_sigterm_ends_it_at_once(process):
    running, facts = process
    with MaskStreamClient(facts["listen"]) as client:
        client.open()
        running.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert running.poll() is None
        running.send_signal(signal.SIGTERM)
        assert running.wait(TIMEOUT) == 0


@pytest.mark.parametrize(
    "flags",
    [["--listen", "50051"], ["--http", "localhost:http"], ["--max-streams", "0"], ["--config", "nowhere.toml"]],
)
def test_settings_that_cannot_be_used_end_it_with_status_2(flags, capsys):
    assert main(flags) == 2
    assert capsys.readouterr().err.startswith("maskstream-serve: ")


def test_a_missing_artifact_ends_it_with_status_1(capsys, tmp_path):
    assert main(["--artifact", str(tmp_path / "nothing")]) == 1
    assert "no such artifact folder" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--listen", "--http"])
def test_a_taken_port_ends_it_with_status_1(flag, capsys, running, monkeypatch):
    taken = running.server.listen if flag == "--listen" else running.server.http

    def load_server(config):
        return build_server(running.networks, config, CollectorRegistry())

    monkeypatch.setattr(program, "load_server", load_server)
    flags = {"--listen": "127.0.0.1:0", "--http": "127.0.0.1:0", flag: taken}
    assert main([word for pair in flags.items() for word in pair]) == 1
    assert "ddress" in capsys.readouterr().err


def test_help_teaches_by_example():
    text = build_parser().format_help()
    assert "maskstream-serve --artifact my_model/" in text
    assert "127.0.0.1:50051" in text


def test_a_new_token_is_printed_with_its_line(capsys):
    assert main(["--new-token", "camera-1"]) == 0
    shown = capsys.readouterr().out
    token, line = (row.partition(":")[2].strip() for row in shown.splitlines())
    assert line == f'"camera-1" = "sha256:{hashlib.sha256(token.encode()).hexdigest()}"'


@pytest.mark.parametrize("subject", ["", "two\nlines"])
def test_a_token_for_nobody_is_refused_and_no_server_starts(subject, capsys, monkeypatch):
    monkeypatch.setattr(program, "load_server", lambda config: pytest.fail("a server starts"))
    assert main(["--new-token", subject]) == 2
    assert "--new-token" in capsys.readouterr().err


def test_opencv_has_a_wall_of_its_own_and_limits_beyond_it_are_refused(tmp_path):
    """In a process of its own: OpenCV reads the variable when it is imported."""
    chunks = (b"IHDR" + struct.pack(">IIBBBBB", 9000, 9000, 8, 2, 0, 0, 0), b"IDAT")
    picture = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks
    )
    (tmp_path / "large.toml").write_text("[limits]\nmax_width = 9000\nmax_height = 9000\n")
    code = f"""
import serve.__main__, cv2, numpy
try:
    print("decoded", cv2.imdecode(numpy.frombuffer({picture!r}, numpy.uint8), cv2.IMREAD_COLOR))
except cv2.error as error:
    print("wall", error.err)
serve.__main__.load_server = lambda config: 1 / 0
print("status", serve.__main__.main(["--config", {str(tmp_path / "large.toml")!r}]))
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENCV_")}
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, env=environment, cwd=root, capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    assert "wall" in done.stdout, done
    assert "MAX_IMAGE_PIXELS" in done.stdout
    assert "status 2" in done.stdout
    assert "81000000 pixels" in done.stderr


@pytest.mark.parametrize(
    ("settings", "warnings"),
    [
        ({}, 0),
        ({"listen": "localhost:1", "http": "[::1]:2"}, 0),
        ({"listen": "0.0.0.0:1"}, 2),
        ({"listen": ":1"}, 2),
        ({"listen": "10.0.0.7:1", "tls": TlsSettings(Path("a"), Path("b"))}, 1),
        ({"listen": "10.0.0.7:1", "tls": TlsSettings(Path("a"), Path("b"), Path("c"))}, 0),
        ({"listen": "10.0.0.7:1", "tls": TlsSettings(Path("a"), Path("b")), "auth": AuthSettings(Path("t"))}, 0),
        ({"auth": AuthSettings(Path("t"))}, 1),
        ({"http": "0.0.0.0:9464"}, 1),
    ],
)
def test_each_open_door_is_a_warning(settings, warnings, caplog):
    warn_of_open_doors(ServeConfig(**settings))
    assert len(caplog.records) == warnings

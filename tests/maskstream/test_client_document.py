"""docs/client.md: its examples run as they are, and its tables hold every option and field with its default."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from certificates import authority, server_pair
from served import picture, square

from maskstream import client_journal
from maskstream.client import FrameAnswer, Stream, StreamOptions
from serve.config import AuthSettings, TlsSettings
from serve.tokens import new_token

__all__ = ["authority", "server_pair"]

TEXT = (Path(__file__).resolve().parents[2] / "docs/client.md").read_text()
WHOLE, VIEWS, AWAITED, SERVERS, STEPS, ASIDE = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def table(heading):
    """Rows of the first table after these words."""
    rows = TEXT.split(heading, 1)[1].split("|---|", 1)[1].split("\n\n", 1)[0].splitlines()[1:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def run(example, running, **names):
    """Run it against this server; returns what it printed."""
    printed = []
    known = {
        "frames": [picture()] * 42, "frame": picture(), "next_frame": picture(),
        "mask": square(16, 16), "other_mask": square(32, 64), "print": lambda *words: printed.append(words), **names,
    }  # fmt: skip
    exec(compile(example.replace("localhost:50051", running.server.listen), "docs/client.md", "exec"), known)
    return printed


def test_the_first_example(running):
    shown = {}
    frame = picture(colour=(10, 10, 10))
    frame[20:68, 10:74] = (250, 200, 20)
    run(WHOLE, running, show=shown.__setitem__, frames=[frame] * 42)
    assert list(shown) == list(range(42))
    assert ((shown[0] == 1) == (square(16, 16) > 0)).mean() > 0.99
    assert (shown[41] == 2).any()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of supervision's own imports
def test_the_results_in_other_forms(running, tmp_path):
    pytest.importorskip("supervision", reason="needs the package supervision")
    shown = []
    frame = picture(colour=(10, 10, 10))
    frame[20:68, 10:74] = (250, 200, 20)
    run(VIEWS, running, show=lambda *views: shown.append(views), frames=[frame] * 3, folder=tmp_path)
    assert len(shown) == len(list(tmp_path.glob("*.png"))) == 3
    for overlay, detections, annotations, mask in shown:
        assert overlay.shape == frame.shape
        assert detections.area.tolist() == [annotations[0]["area"]] == [np.count_nonzero(mask)]


def test_the_example_for_asyncio(running):
    assert run(AWAITED, running) == [(index, [(1, 256)]) for index in range(42)]


def test_step_by_step(running):
    printed = run(STEPS, running)
    assert [words[0] for words in printed] == [0, 1]
    assert all(words[1:] == (None, None) for words in printed)


def test_putting_a_stream_aside(start, tmp_path):
    key = tmp_path / "key"
    key.write_bytes(b"0123456789abcdef" * 2)
    key.chmod(0o600)
    assert run(ASIDE, start(snapshot_key=key)) == [(index, [1]) for index in range(42)]


def test_several_servers_with_tls_and_a_token(start, authority, server_pair, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    token, line = new_token("camera")
    Path("tokens.toml").write_text(line)
    Path("token").write_text(token + "\n")
    Path("ca.pem").write_bytes(authority.certificate.read_bytes())
    tls = TlsSettings(certificate=server_pair.certificate, key=server_pair.key)
    running = start(tls=tls, auth=AuthSettings(tokens=Path("tokens.toml")))
    example = SERVERS.replace("gpu-1.example.com:50051", "127.0.0.1:1")
    assert run(example.replace("gpu-2.example.com:50051", running.server.listen), running) == [("fake",)]


def test_every_option_is_there_with_its_default():
    shown = {
        name: default for names, default, _ in table("## Options of `open`") for name in re.findall(r"`(\w+)`", names)
    }
    fields = {field.name: field.default for field in dataclasses.fields(StreamOptions)}
    assert set(shown) == {*fields, "resume_state"}
    for name, default in fields.items():
        words = f'`"{default}"`' if isinstance(default, str) and default else str(default or "empty")
        assert shown[name] == (words if default or default == "" else str(default)), name


def test_every_field_of_an_answer_is_there():
    shown = [re.findall(r"`(\w+)`", row[0])[0] for row in table("exactly one `FrameAnswer`:")]
    assert shown == [field.name for field in dataclasses.fields(FrameAnswer) if field.name != "seq"]


def test_the_bounds_of_memory_are_those_of_the_code():
    assert f"{client_journal.MOST_KEPT_FRAMES} or {client_journal.MOST_KEPT_BYTES // 2**20} MiB" in TEXT


@pytest.mark.parametrize("name", [name for name in vars(Stream) if not name.startswith("_") and name != "resumed"])
def test_every_way_to_use_a_stream_is_there(name):
    assert f"`{name}`" in TEXT or f"stream.{name}(" in TEXT

"""Ports with their listener, cameras, weights, extras, limits of a container: against places made for the test."""

import os
import shutil
import socket
import tomllib
from pathlib import Path

import pytest

from maskstream.artifact import default_artifact
from maskstream.doctor import machine, surroundings
from maskstream.doctor.findings import FAILED, MISSING, NOTE, OK

ROOT = Path(__file__).resolve().parents[3]


def test_a_taken_port_names_its_listener() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        (finding,) = surroundings.ports({port: "gRPC"})
        assert finding.state == NOTE
        assert f"({os.getpid()})" in finding.detail
        assert "--listen" in finding.advice
    assert surroundings.ports({port: "gRPC"})[0].state == OK
    assert surroundings.listener(port) is None


def test_cameras_by_their_number(tmp_path: Path) -> None:
    assert "none here" in surroundings.cameras(tmp_path)[0].detail
    for name in ("video10", "video2", "vga"):
        (tmp_path / name).touch()
    (finding,) = surroundings.cameras(tmp_path)
    assert finding.detail == "2, 10 (maskstream track 2 ...)"


def test_damaged_weights_are_named(tmp_path: Path) -> None:
    assert surroundings.weights()[0].state == OK
    folder = Path(shutil.copytree(default_artifact(), tmp_path / "model"))
    with (folder / "segment.onnx").open("r+b") as file:
        file.write(b"damage")
    (finding,) = surroundings.weights(folder)
    assert finding.state == FAILED
    assert "segment.onnx" in finding.detail


def test_extras_are_those_of_the_distribution() -> None:
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    others = {"dev", "docs", "gpu", "tensorrt", "rtx"}  # tools, and what is told of under GPU
    assert set(surroundings.EXTRAS) == set(known) - others


def test_a_missing_extra_says_what_it_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(surroundings.EXTRAS, "web", surroundings.Extra(("starlette", "no_such.module"), "the page"))
    found = {finding.name: finding for finding in surroundings.extras()}
    assert (found["[web]"].state, found["[web]"].detail) == (MISSING, "no no_such.module")
    assert found["[web]"].advice.startswith("the page: pip install")


def test_both_builds_of_onnxruntime_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surroundings, "driver_version", lambda: "580.65")
    monkeypatch.setattr(surroundings, "installed", lambda names: dict.fromkeys(names, "1.31"))
    found = {finding.name: finding for finding in surroundings.graphics()}
    assert found["ONNX Runtime"].state == FAILED
    assert found["ONNX Runtime"].advice.startswith("pip uninstall -y onnxruntime onnxruntime-gpu")


def test_h264_is_read_here() -> None:
    decoders, _ = surroundings.video()
    assert decoders.state == OK
    assert "h264" in decoders.detail


@pytest.mark.parametrize(("text", "limit"), [("max 100000", None), ("150000 100000", 1.5)])
def test_limit_of_a_container(text: str, limit: float | None, tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text(text + "\n")
    assert machine.cpu_limit(tmp_path) == limit
    assert machine.cpu_limit(tmp_path / "nothing") is None


def test_a_limited_container_gets_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cpu_limit", lambda: 0.5)
    cores = next(finding for finding in machine.processor() if finding.name == "cores")
    assert cores.state == NOTE
    assert "--threads 1" in cores.advice


def test_a_full_memory_group_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text(f"{2**30}\n")
    (tmp_path / "memory.current").write_text(f"{2**29}\n")
    monkeypatch.setattr(machine, "_GROUP", tmp_path)
    (finding,) = machine.memory()
    assert finding.state == NOTE
    assert finding.detail == "0.5 GiB left of 1.0 GiB"

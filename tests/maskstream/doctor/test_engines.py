"""Engines as the doctor sees them: what is tried, in which words it failed, that time is bounded; one really runs."""

import subprocess
import sys
from collections.abc import Sequence

import pytest

from maskstream.doctor import engines as module
from maskstream.doctor.engines import Answers, engines, try_engine
from maskstream.doctor.findings import FAILED, MISSING, NOTE, OK
from maskstream.engines import ENGINES


@pytest.fixture
def all_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_installed", lambda package: True)
    monkeypatch.setattr(module, "driver_version", lambda: None)


def good(names: Sequence[str]) -> Answers:
    return {name: {"precision": name.partition(":")[2] or "fp32", "ms": 12.5} for name in names}


@pytest.mark.usefixtures("all_installed")
def test_each_engine_in_each_precision() -> None:
    found = {finding.name: finding for finding in engines(good)}
    assert list(found) == ["onnxruntime", "onnxruntime:int8", "openvino", "openvino:int8", "torch"]
    assert {finding.state for finding in found.values()} == {OK}
    assert found["openvino:int8"].detail.startswith("int8, 12.5 ms a frame of 160x96")


@pytest.mark.usefixtures("all_installed")
def test_a_card_brings_its_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "driver_version", lambda: "580.65")
    monkeypatch.setattr(module, "installed", lambda names: {"onnxruntime-gpu": "1.31"})
    assert {"onnxruntime_cuda", "torch_cuda"} <= {finding.name for finding in engines(good)}


@pytest.mark.usefixtures("all_installed")
def test_time_is_bounded_once_one_runs() -> None:
    states = [finding.state for finding in engines(good, all_seconds=-1.0)]
    assert states == [OK, OK, NOTE, NOTE, NOTE]
    refused = engines(lambda names: {name: {"refused": "no"} for name in names}, all_seconds=-1.0)
    assert [finding.state for finding in refused] == [FAILED] * 5  # all are tried until one runs


def test_what_is_not_installed_is_told_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_installed", lambda package: package == "onnxruntime")
    found = {finding.name: finding for finding in engines(good)}
    assert (found["openvino"].state, found["torch"].state) == (MISSING, MISSING)
    assert found["openvino"].advice.endswith('[cpu]"')
    assert found["torch"].advice.endswith('[train]"')


def test_an_engine_that_dies_keeps_what_ran_before(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = 'a library says hello\n{"engine": "openvino", "precision": "fp32", "ms": 9.0}\n'

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, -4, printed, "Illegal instruction\n")

    monkeypatch.setattr(module.subprocess, "run", run)
    answers = try_engine(["openvino", "openvino:int8"])
    assert answers["openvino"]["ms"] == 9.0
    assert answers["openvino:int8"]["refused"] == "its process ended with status -4: Illegal instruction"


def test_an_engine_that_hangs_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ONE_SECONDS", 0.1)
    monkeypatch.setattr(
        module.own_program, "command", lambda *words: [sys.executable, "-c", "import time; time.sleep(60)"]
    )
    assert "no answer within" in try_engine(["openvino"])["openvino"]["refused"]


def test_an_engine_really_runs() -> None:
    answer = try_engine(["onnxruntime", "nonsense"])
    assert answer["onnxruntime"]["precision"] == "fp32"
    assert answer["onnxruntime"]["ms"] > 0
    assert "nonsense" in answer["nonsense"]["refused"]
    assert set(module._GIVES) <= set(ENGINES)

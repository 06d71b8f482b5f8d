"""Engines are looked up by name; what cannot be had is refused with what to install."""

import ast
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from maskstream import engines
from maskstream.artifact import Artifact, seal
from maskstream.engines.choice import Measured
from maskstream.errors import ArtifactError, EngineUnavailable

pytestmark = pytest.mark.timeout(600)  # the first test exports the small model


def test_auto_tries_what_is_installed_takes_one_says_why_and_remembers(
    small_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real thing once: each candidate in a process of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    told: list[str] = []
    networks = engines.load_networks(small_artifact, threads=1, tell=told.append)
    assert networks.engine in engines.auto_candidates()
    assert networks.spec.name == "small"
    assert told[0] == "auto: tries onnxruntime, openvino on this machine, which takes some seconds"
    assert told[1].startswith(f"auto: {networks.engine} {networks.precision} ")
    assert told[1].count(" ms a step") == len(engines.auto_candidates())
    assert "does not run" not in told[1]
    again: list[str] = []
    assert engines.load_networks(small_artifact, threads=1, tell=again.append).engine == networks.engine
    assert again == [f"{told[1]} (timed at an earlier start; {tmp_path}/maskstream/engine_choice.json)"]


def test_a_second_precision_is_named_after_a_colon(combined_artifact: Path) -> None:
    second = engines.load_networks(combined_artifact, "onnxruntime:int8", threads=1)
    assert (second.engine, second.precision) == ("onnxruntime", "int8")
    assert engines.load_networks(combined_artifact, "onnxruntime", threads=1).precision == "fp32"
    with pytest.raises(ArtifactError, match="holds fp32, int8 and no fp16"):
        engines.load_networks(combined_artifact, "onnxruntime:fp16", threads=1)


@pytest.fixture
def trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Trials without processes, OpenVINO the faster; the engines that were tried, in turn. Nothing is remembered."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tried: list[str] = []

    def run_trial(folder: Path, engine: str, threads: int | None) -> Measured:
        tried.append(engine)
        mask = np.ones((2, 2), np.float32)
        return Measured("fp32", 0.1 if engine == "openvino" else 0.2, mask, mask)

    monkeypatch.setattr(engines, "run_trial", run_trial)
    return tried


def test_auto_tries_each_engine_in_both_precisions_of_an_artifact(combined_artifact: Path, trials: list[str]) -> None:
    engines.load_networks(combined_artifact, threads=1)
    assert trials == ["onnxruntime", "openvino", "onnxruntime:int8", "openvino:int8"]


def test_only_the_winner_is_opened_and_the_log_says_why(
    small_artifact: Path, trials: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    unwanted = engines.Engine("no.such.module", "onnxruntime", "any")
    monkeypatch.setitem(engines.ENGINES, "onnxruntime", unwanted)
    with caplog.at_level("INFO", "maskstream.engines"):
        assert engines.load_networks(small_artifact, threads=1).engine == "openvino"
    assert trials == ["onnxruntime", "openvino"]
    assert caplog.messages[-1] == "auto: openvino fp32 100 ms a step; onnxruntime fp32 200 ms a step"


def test_engines_are_tried_again_for_other_threads_libraries_or_weights(
    copied_artifact: Path, trials: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def choose(threads: int) -> int:
        """How often engines were tried for this."""
        trials.clear()
        engines.choose_engine(Artifact.load(copied_artifact), threads)
        return len(trials)

    assert [choose(1), choose(1), choose(2), choose(2)] == [2, 0, 2, 0]
    monkeypatch.setattr(engines.choice_cache, "versions", lambda: {"openvino": "2031.1"})
    assert [choose(1), choose(1)] == [2, 0]
    monkeypatch.setattr(engines.choice_cache, "cpu_flags", lambda: ("amx_int8",))
    assert [choose(1), choose(1)] == [2, 0]
    artifact = Artifact.load(copied_artifact)
    (copied_artifact / "more.bin").write_bytes(b"content")
    seal(copied_artifact, artifact.spec, artifact.manifest)
    assert [choose(1), choose(1)] == [2, 0]


def test_one_candidate_is_opened_without_a_trial(
    small_artifact: Path, trials: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(engines.ENGINES, "openvino", engines.Engine("none", "no_such_package", "none"))
    told: list[str] = []
    assert engines.load_networks(small_artifact, threads=1, tell=told.append).engine == "onnxruntime"
    assert trials == []
    assert told == ["auto: onnxruntime, not timed: no other is installed that auto may take"]


def test_engines_for_a_gpu_are_tried_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for driver, expected in ((None, set()), ("580.65.06", {"onnxruntime_cuda", "torch_cuda"})):
        monkeypatch.setattr(engines, "driver_version", lambda driver=driver: driver)
        found = engines.auto_candidates()
        assert found[0] == "onnxruntime", "what the gate checked comes first"
        assert {name for name in found if engines.ENGINES[name].gpu} == expected


@pytest.mark.parametrize("name", engines.ENGINES)
def test_every_engine_has_a_module_that_opens_it(name: str) -> None:
    engine = engines.ENGINES[name]
    spec = importlib.util.find_spec(engine.module)
    assert spec is not None
    assert spec.origin is not None
    source = ast.parse(Path(spec.origin).read_text())
    functions = {node.name for node in source.body if isinstance(node, ast.FunctionDef)}
    imported = {one.name for node in source.body if isinstance(node, ast.ImportFrom) for one in node.names}
    assert engine.opener in functions | imported


@pytest.mark.parametrize("name", ["onnxruntime", "torch"])
def test_an_engine_is_opened_by_name(small_artifact: Path, name: str) -> None:
    networks = engines.load_networks(small_artifact, name, threads=1)
    assert (networks.engine, networks.precision) == (name, "fp32")


def test_an_unknown_engine_is_refused_with_those_that_are_known(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match=r"'tensorflow'; known engines: auto, onnxruntime, openvino, torch, "):
        engines.load_networks(tmp_path, "tensorflow")


def test_an_engine_that_is_not_installed_names_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = engines.Engine("maskstream.engines.onnxruntime_networks", "no_such_package", "maskstream[cpu]")
    monkeypatch.setitem(engines.ENGINES, "onnxruntime", absent)
    with pytest.raises(EngineUnavailable, match=r"needs the package no_such_package; pip install 'maskstream\[cpu\]'"):
        engines.load_networks(tmp_path, "onnxruntime")


def test_auto_knows_torch_only_where_there_is_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = engines.Engine("none", "no_such_package", "none")
    assert engines.auto_candidates()[0] == "onnxruntime"
    assert "torch" not in engines.auto_candidates()
    monkeypatch.setitem(engines.ENGINES, "onnxruntime", absent)
    assert "onnxruntime" not in engines.auto_candidates()
    monkeypatch.setitem(engines.ENGINES, "openvino", absent)
    assert engines.auto_candidates() == ("torch",)
    monkeypatch.setitem(engines.ENGINES, "torch", absent)
    with pytest.raises(EngineUnavailable, match=r"maskstream\[cpu\]"):
        engines.auto_candidates()


def test_a_bad_artifact_is_refused_before_an_engine_starts(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="missing"):
        engines.load_networks(tmp_path, "onnxruntime")

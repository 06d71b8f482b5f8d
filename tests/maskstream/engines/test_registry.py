"""Engines are looked up by name; what cannot be had is refused with what to install."""

from pathlib import Path

import pytest

from maskstream import engines
from maskstream.errors import ArtifactError, EngineUnavailable

pytestmark = pytest.mark.timeout(600)  # the first test exports the small model


def test_auto_takes_what_the_gate_checked(small_artifact: Path) -> None:
    networks = engines.load_networks(small_artifact, threads=1)
    assert networks.engine == "onnxruntime"


def test_fastest_takes_an_engine_and_says_why(small_artifact: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "maskstream.engines"):
        networks = engines.load_networks(small_artifact, "fastest", threads=1)
    assert networks.engine in engines.auto_candidates()
    assert networks.spec.name == "small"
    (said,) = caplog.messages
    assert said.startswith(f"fastest: {networks.engine} {networks.precision} ")
    assert all(name in said for name in engines.auto_candidates())


@pytest.mark.parametrize("name", ["onnxruntime", "torch"])
def test_an_engine_is_opened_by_name(small_artifact: Path, name: str) -> None:
    networks = engines.load_networks(small_artifact, name, threads=1)
    assert (networks.engine, networks.precision) == (name, "fp32")


def test_an_unknown_engine_is_refused_with_those_that_are_known(tmp_path: Path) -> None:
    with pytest.raises(
        EngineUnavailable, match=r"'tensorflow'; known engines: auto, fastest, onnxruntime, openvino, torch"
    ):
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

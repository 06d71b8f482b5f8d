"""The command that makes a batch: its table, its exit status, and the list of targets that is shipped."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from export import __main__ as command
from export import batch as batch_module
from export import build as build_module
from export.batch_report import NEEDS_GPU, PASSED
from export.graphs import GraphDefinition
from maskstream.errors import EngineUnavailable

pytestmark = pytest.mark.timeout(600)  # the first test exports the small model

EXAMPLE = Path(__file__).resolve().parents[2] / "targets.example.toml"
TARGETS = '[[target]]\nname = "cpu"\nengine = ["onnxruntime"]\n'


@pytest.mark.usefixtures("exports")
def test_the_command_makes_a_batch_and_ends_with_its_table(
    copied_batch: Path, small_checkpoint_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "targets.toml").write_text(TARGETS)
    words = [str(small_checkpoint_file), "--out", str(copied_batch), "--targets", str(tmp_path / "targets.toml")]
    assert command.main(words) == 0
    told = capsys.readouterr()
    assert "cpu-onnxruntime-fp32  passed (kept)" in told.out
    assert f"{copied_batch}: 2 passed" in told.out
    assert "[2/2] cpu-onnxruntime-fp32: passed (kept)" in told.err


@pytest.mark.usefixtures("exports", "on_a_gpu")
def test_the_command_ends_with_1_when_a_build_failed(
    copied_batch: Path,
    small_checkpoint_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(batch_module.importlib, "import_module", _no_tensorrt(batch_module.importlib.import_module))
    (tmp_path / "targets.toml").write_text(
        '[[target]]\nname = "gpu"\nengine = ["tensorrt"]\nsize = ["96x128"]\n' + TARGETS
    )
    words = [str(small_checkpoint_file), "--out", str(copied_batch), "--targets", str(tmp_path / "targets.toml")]
    assert command.main(words) == 1
    told = capsys.readouterr().out
    assert "gpu-tensorrt-fp32-96x128-o1-b1: no tensorrt here" in told
    assert "2 passed, 1 failed" in told


def _no_tensorrt(real: Callable[[str], Any]) -> Callable[[str], Any]:
    def import_module(name: str) -> Any:
        if "tensorrt" in name:
            raise EngineUnavailable("no tensorrt here")
        return real(name)

    return import_module


@pytest.mark.usefixtures("exports")
def test_the_list_that_is_shipped_is_made_on_a_machine_without_a_gpu(
    small_checkpoint_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its sizes are those of cameras, which take the small networks long enough: smaller ones here."""
    monkeypatch.setattr(batch_module, "gpu_is_here", lambda: False)
    monkeypatch.setattr(batch_module.importlib, "import_module", _no_tensorrt(batch_module.importlib.import_module))
    text = EXAMPLE.read_text()
    assert "480x854" in text
    (tmp_path / "targets.toml").write_text(text.replace("480x854", "96x160"))
    words = [str(small_checkpoint_file), "--out", str(tmp_path / "out"), "--targets", str(tmp_path / "targets.toml")]
    assert command.main(words) == 0
    report = json.loads((tmp_path / "out/report.json").read_text())
    statuses = {build["name"]: build["status"] for build in report["builds"]}
    assert {name for name, status in statuses.items() if status == NEEDS_GPU} == {
        f"gpu-480p-tensorrt-fp16-96x160-o{objects}-b{streams}" for objects in (1, 4) for streams in (1, 8)
    }
    assert set(statuses.values()) == {PASSED, NEEDS_GPU}
    assert "left for a machine with a GPU" in capsys.readouterr().out


@pytest.mark.parametrize("what", ["targets", "checkpoint", "folder"])
def test_the_command_ends_with_2_for_wrong_input(
    what: str, small_checkpoint_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "targets.toml").write_text("" if what == "targets" else TARGETS)
    checkpoint = tmp_path / "none.pt" if what == "checkpoint" else small_checkpoint_file
    out = tmp_path if what == "folder" else tmp_path / "out"
    assert command.main([str(checkpoint), "--out", str(out), "--targets", str(tmp_path / "targets.toml")]) == 2
    expected = {"targets": "no target in it", "checkpoint": "no such checkpoint", "folder": "is no batch"}
    assert expected[what] in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_stopping_the_command_tells_how_to_go_on(
    small_checkpoint_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(graph: GraphDefinition, file: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(build_module, "export_graph", stop)
    (tmp_path / "targets.toml").write_text(TARGETS)
    words = [str(small_checkpoint_file), "--out", str(tmp_path / "out"), "--targets", str(tmp_path / "targets.toml")]
    assert command.main(words) == 130
    told = capsys.readouterr()
    assert "2 pending" in told.out
    assert "Go on with the same command" in told.err
    assert not (tmp_path / "out/onnx-fp32/artifact").exists()

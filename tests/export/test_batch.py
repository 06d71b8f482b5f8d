"""A batch keeps what is finished, makes again what is not; one failure leaves the others alone."""

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from batches import CPU, GPU, RTX, SIZED, Watcher, broken_builder, fake_builder, recording_builder, run
from exported import small_checkpoint

from export import __main__ as command
from export import batch as batch_module
from export import build as build_module
from export.batch import Batch, BatchError
from export.batch_report import BUILT, FAILED, NEEDS_GPU, PASSED, PENDING
from export.graphs import GraphDefinition
from export.targets import Build
from export.verify import ParityError
from maskstream.artifact import GRAPHS, Artifact
from maskstream.engine_sidecar import EngineSidecar
from maskstream.errors import ArtifactError, EngineUnavailable
from maskstream.networks import Networks

pytestmark = pytest.mark.timeout(600)  # the first test exports the small model


def test_graphs_are_made_once_and_every_engine_is_held_to_torch_on_them(finished_batch: Path) -> None:
    content = json.loads((finished_batch / "report.json").read_text())
    rows = {entry["name"]: entry for entry in content["builds"]}
    assert list(rows) == ["onnx-fp32", "cpu-onnxruntime-fp32", "sized-torch-fp32-96x128-o3-b2"]
    assert {row["status"] for row in rows.values()} == {PASSED}
    assert {row["artifact"] for row in rows.values()} == {"onnx-fp32/artifact"}
    sized = rows["sized-torch-fp32-96x128-o3-b2"]["parity"]
    assert {row["case"] for row in sized["outputs"]} == {"96x128, 3 objects, 2 streams"}
    assert sized["mask_iou"]["least"] == 1.0
    size = sum(file.stat().st_size for file in (finished_batch / "onnx-fp32/artifact").iterdir())
    assert rows["onnx-fp32"]["bytes"] == size
    assert content["passed"] == 3
    assert content["versions"]["maskstream"]


def test_what_is_finished_is_kept(copied_batch: Path, small_checkpoint_file: Path, exports: list[str]) -> None:
    watcher = Watcher()
    batch = Batch(small_checkpoint_file, [CPU, SIZED], copied_batch)
    batch.run(watcher)
    assert exports == []
    assert watcher.steps == 0
    assert [result.kept for result in batch.report.results] == [True, True, True]
    assert batch.report.count(PASSED) == 3


def test_a_changed_target_is_made_and_the_others_are_kept(
    copied_batch: Path, small_checkpoint_file: Path, exports: list[str]
) -> None:
    rows = run(small_checkpoint_file, copied_batch, [CPU, Build("sized", "torch", "fp32", (96, 128), 1, 1)])
    assert exports == []
    assert [row["kept"] for row in rows.values()] == [True, True, False]


def test_another_checkpoint_makes_everything_anew(copied_batch: Path, tmp_path: Path, exports: list[str]) -> None:
    checkpoint = small_checkpoint()
    checkpoint.provenance["data"] = "the same weights from elsewhere"
    checkpoint.save(tmp_path / "other.pt")
    rows = run(tmp_path / "other.pt", copied_batch, [CPU])
    assert len(exports) == 3
    assert [(row["status"], row["kept"]) for row in rows.values()] == [(PASSED, False)] * 2


def test_a_damaged_artifact_is_made_again_with_all_that_was_checked_on_it(
    copied_batch: Path, small_checkpoint_file: Path, exports: list[str]
) -> None:
    (copied_batch / "onnx-fp32/artifact/segment.onnx").write_bytes(b"cut")
    rows = run(small_checkpoint_file, copied_batch, [CPU])
    assert len(exports) == 3
    assert [row["status"] for row in rows.values()] == [PASSED, PASSED]
    Artifact.load(copied_batch / "onnx-fp32/artifact")


@pytest.mark.usefixtures("exports", "on_a_gpu")
def test_a_failure_is_reported_and_the_rest_goes_on(copied_batch: Path, small_checkpoint_file: Path) -> None:
    rows = run(small_checkpoint_file, copied_batch, [GPU, CPU], broken_builder)
    failed = rows[GPU.name]
    assert (failed["status"], failed["error"]) == (FAILED, "tensorrt is not installed; pip install it")
    assert rows[CPU.name]["status"] == PASSED
    assert f"**{GPU.name}**: tensorrt is not installed" in (copied_batch / "report.md").read_text()


@pytest.mark.usefixtures("exports")
def test_what_needs_a_gpu_is_left_to_a_machine_that_has_one_and_is_no_failure(
    copied_batch: Path, small_checkpoint_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(batch_module, "gpu_is_here", lambda: False)
    rows = run(small_checkpoint_file, copied_batch, [GPU, CPU, RTX], broken_builder)
    assert rows[GPU.name]["status"] == NEEDS_GPU
    assert rows[GPU.name]["error"].endswith("goes on there (tensorrt is not installed; pip install it)")
    assert rows[CPU.name]["status"] == PASSED
    assert rows[RTX.name]["status"] == FAILED  # it could have been built here
    report = json.loads((copied_batch / "report.json").read_text())
    assert (report["needs_a_gpu"], report["failed"]) == (1, 1)
    assert f"| {GPU.name} | needs a GPU |" in (copied_batch / "report.md").read_text()
    assert f"**{GPU.name}**: left for a machine with a GPU" in (copied_batch / "report.md").read_text()
    assert command.main(["verify", str(copied_batch)]) == 0
    assert f"not finished, so not checked: {GPU.name}, {RTX.name}" in capsys.readouterr().out


@pytest.mark.usefixtures("exports", "tensorrt_runs")
def test_what_needed_a_gpu_is_made_where_there_is_one(
    copied_batch: Path, small_checkpoint_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_module, "gpu_is_here", lambda: False)
    run(small_checkpoint_file, copied_batch, [GPU], broken_builder)
    rows = run(small_checkpoint_file, copied_batch, [GPU])
    assert (rows[GPU.name]["status"], rows["onnx-fp32"]["kept"]) == (PASSED, True)


@pytest.mark.usefixtures("exports")
def test_another_version_of_a_library_makes_again_what_it_made(
    copied_batch: Path, small_checkpoint_file: Path, exports: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorRT's is of no concern to ONNX Runtime, that of ONNX is to all."""
    real = batch_module.installed
    monkeypatch.setattr(batch_module, "installed", lambda names: {**real(names), **_among(names, "tensorrt")})
    assert all(row["kept"] for row in run(small_checkpoint_file, copied_batch, [CPU]).values())
    monkeypatch.setattr(batch_module, "installed", lambda names: {**real(names), **_among(names, "onnx")})
    rows = run(small_checkpoint_file, copied_batch, [CPU])
    assert len(exports) == 3
    assert not any(row["kept"] for row in rows.values())


def _among(names: Iterable[str], updated: str) -> dict[str, str]:
    return dict.fromkeys({updated} & set(names), "2031.1")


@pytest.mark.usefixtures("exports")
def test_any_error_of_a_library_fails_one_build_alone(copied_batch: Path, small_checkpoint_file: Path) -> None:
    def crash(onnx_files: dict[str, Path], out: Path, build: Build) -> None:
        raise RuntimeError("out of memory")

    rows = run(small_checkpoint_file, copied_batch, [GPU, CPU], crash)
    assert rows[GPU.name]["error"] == "RuntimeError: out of memory"
    assert "in crash" in (copied_batch / GPU.name / "traceback.txt").read_text()
    assert rows[CPU.name]["status"] == PASSED


def test_engines_need_graphs_that_passed(
    small_checkpoint_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(graph: GraphDefinition, file: Path) -> None:
        raise ParityError("graph segment differs")

    monkeypatch.setattr(build_module, "export_graph", refuse)
    rows = run(small_checkpoint_file, tmp_path / "out", [CPU])
    assert rows["onnx-fp32"]["error"] == "graph segment differs"
    assert rows[CPU.name]["error"] == "it needs the graphs in fp32, which failed; see onnx-fp32"
    assert not (tmp_path / "out/onnx-fp32/artifact").exists()


@pytest.mark.usefixtures("exports", "tensorrt_runs")
def test_an_engine_that_was_built_is_checked_and_kept_until_it_is_damaged(
    copied_batch: Path, small_checkpoint_file: Path
) -> None:
    built: list[str] = []

    def count(onnx_files: dict[str, Path], out: Path, build: Build) -> None:
        built.append(build.name)
        fake_builder(onnx_files, out, build)

    for _ in range(2):
        rows = run(small_checkpoint_file, copied_batch, [GPU], count)
    assert built == [GPU.name]
    assert (rows[GPU.name]["status"], rows[GPU.name]["artifact"]) == (PASSED, f"{GPU.name}/artifact")
    assert rows[GPU.name]["parity"]["mask_iou"]["least"] > 0.995
    assert Artifact.load(copied_batch / GPU.name / "artifact").manifest["engine"] == GPU.settings()
    (copied_batch / GPU.name / "artifact/segment.engine").write_text("spoilt")
    run(small_checkpoint_file, copied_batch, [GPU], count)
    assert built == [GPU.name] * 2


@pytest.mark.usefixtures("exports", "tensorrt_runs")
def test_the_record_of_an_engine_gets_the_iou_that_was_measured(
    copied_batch: Path, small_checkpoint_file: Path
) -> None:
    rows = run(small_checkpoint_file, copied_batch, [GPU], recording_builder)
    artifact = copied_batch / GPU.name / "artifact"
    found = {name: EngineSidecar.read(artifact / f"{name}.engine").golden_mask_iou for name in GRAPHS}
    assert set(found.values()) == {rows[GPU.name]["parity"]["mask_iou"]["least"]}
    assert Artifact.load(artifact).version == rows[GPU.name]["artifact_version"], "the records are sealed as they are"


@pytest.mark.usefixtures("exports", "on_a_gpu")
def test_an_engine_for_another_machine_is_built_but_not_called_passed(
    copied_batch: Path, small_checkpoint_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(folder: Path, engine: str) -> Networks:
        raise EngineUnavailable("there is no GPU")

    monkeypatch.setattr(batch_module, "load_networks", load)
    rows = run(small_checkpoint_file, copied_batch, [RTX, GPU], recording_builder)
    assert (rows[RTX.name]["status"], rows[RTX.name]["parity"]) == (BUILT, None)
    assert EngineSidecar.read(copied_batch / RTX.name / "artifact/segment.engine").golden_mask_iou is None
    assert rows[RTX.name]["error"] == "built, but not compared with torch here: there is no GPU"
    assert rows[GPU.name]["status"] == FAILED  # TensorRT builds for the GPU at hand, so it must run on it


@pytest.mark.usefixtures("exports")
def test_a_batch_that_was_stopped_goes_on_where_it_was(small_checkpoint_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        Batch(small_checkpoint_file, [CPU, SIZED], out).run(Watcher(stop_at=1))
    statuses = [entry["status"] for entry in json.loads((out / "report.json").read_text())["builds"]]
    assert statuses == [PASSED, PENDING, PENDING]
    rows = run(small_checkpoint_file, out, [CPU, SIZED])
    assert [(row["status"], row["kept"]) for row in rows.values()] == [(PASSED, True), (PASSED, False), (PASSED, False)]


def test_a_folder_of_something_else_is_refused(small_checkpoint_file: Path, tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"dear")
    with pytest.raises(BatchError, match="exists and is no batch; choose another --out"):
        Batch(small_checkpoint_file, [CPU], tmp_path)
    (tmp_path / "report.json").write_text('{"format": "holidays"}')
    with pytest.raises(ArtifactError, match=r"report\.json: not the report of a batch export"):
        Batch(small_checkpoint_file, [CPU], tmp_path)
    assert (tmp_path / "holiday.jpg").exists()

"""A batch keeps what is finished, makes again what is not; one failure leaves the others alone. And its check."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from exported import small_checkpoint
from rich.console import Console

from export import __main__ as command
from export import batch as batch_module
from export import build as build_module
from export.batch import Batch, BatchError, Builder, claims
from export.batch_report import BUILT, FAILED, PASSED, PENDING, BatchReport, Lines, LiveTable, Result
from export.graphs import GraphDefinition
from export.targets import Build
from export.verify import ParityError
from maskstream.artifact import Artifact
from maskstream.engines import load_networks
from maskstream.errors import ArtifactError, EngineUnavailable
from maskstream.networks import Networks

pytestmark = pytest.mark.timeout(600)  # the first test exports the small model

CPU = Build("cpu", "onnxruntime", "fp32")
SIZED = Build("sized", "torch", "fp32", (96, 128), 3, 2)
GPU = Build("gpu", "tensorrt", "fp32", (96, 128), 2, 1)
RTX = Build("gpu", "tensorrt_rtx", "fp32", (96, 128), 2, 1)


class Watcher:
    """A view that remembers what ran, and may interrupt it."""

    def __init__(self, stop_at: int = -1) -> None:
        self.begun: list[int] = []
        self.steps = 0
        self._stop_at = stop_at

    def begin(self, place: int, steps: int) -> None:
        self.begun.append(place)
        if place == self._stop_at:
            raise KeyboardInterrupt

    def step(self) -> None:
        self.steps += 1

    def end(self) -> None: ...


@pytest.fixture
def exports(small_artifact: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The small artifact's graphs come out of the exporter at once; what was exported is listed."""
    listed: list[str] = []

    def copy(graph: GraphDefinition, file: Path) -> None:
        listed.append(graph.name)
        shutil.copyfile(small_artifact / file.name, file)

    monkeypatch.setattr(build_module, "export_graph", copy)
    return listed


@pytest.fixture
def tensorrt_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What opens as TensorRT here is ONNX Runtime."""

    def load(folder: Path, engine: str) -> Networks:
        return load_networks(folder, "onnxruntime" if engine.startswith("tensorrt") else engine, threads=1)

    monkeypatch.setattr(batch_module, "load_networks", load)


def fake_builder(onnx_files: dict[str, Path], out: Path, build: Build) -> None:
    for name in onnx_files:
        (out / f"{name}.engine").write_text(build.name)


def broken_builder(onnx_files: dict[str, Path], out: Path, build: Build) -> None:
    raise EngineUnavailable("tensorrt is not installed; pip install it")


def run(
    checkpoint_file: Path, out: Path, builds: list[Build], builder: Builder = fake_builder
) -> dict[str, dict[str, Any]]:
    """Run a batch; its report, by name."""
    builders = dict.fromkeys(("tensorrt", "tensorrt_rtx"), builder)
    Batch(checkpoint_file, builds, out, builders).run(Watcher())
    content = json.loads((out / "report.json").read_text())
    return {entry["name"]: entry for entry in content["builds"]}


@pytest.fixture(scope="session")
def finished_batch(small_artifact: Path, small_checkpoint_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A batch of two engines, made once. Read it; a test that goes on with one takes `copied_batch`."""
    out = tmp_path_factory.mktemp("batch") / "out"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            build_module, "export_graph", lambda graph, file: shutil.copyfile(small_artifact / file.name, file)
        )
        run(small_checkpoint_file, out, [CPU, SIZED])
    return out


@pytest.fixture
def copied_batch(finished_batch: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished_batch, tmp_path / "batch"))


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


@pytest.mark.usefixtures("exports")
def test_a_failure_is_reported_and_the_rest_goes_on(copied_batch: Path, small_checkpoint_file: Path) -> None:
    rows = run(small_checkpoint_file, copied_batch, [GPU, CPU], broken_builder)
    failed = rows[GPU.name]
    assert (failed["status"], failed["error"]) == (FAILED, "tensorrt is not installed; pip install it")
    assert rows[CPU.name]["status"] == PASSED
    assert f"**{GPU.name}**: tensorrt is not installed" in (copied_batch / "report.md").read_text()


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


@pytest.mark.usefixtures("exports")
def test_an_engine_for_another_machine_is_built_but_not_called_passed(
    copied_batch: Path, small_checkpoint_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(folder: Path, engine: str) -> Networks:
        raise EngineUnavailable("there is no GPU")

    monkeypatch.setattr(batch_module, "load_networks", load)
    rows = run(small_checkpoint_file, copied_batch, [RTX, GPU])
    assert (rows[RTX.name]["status"], rows[RTX.name]["parity"]) == (BUILT, None)
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


@pytest.mark.usefixtures("exports")
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


def test_verify_names_the_file_that_was_altered(copied_batch: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = copied_batch / "onnx-fp32/artifact/encode_mask.onnx"
    file.write_bytes(file.read_bytes() + b"\0")
    assert command.main(["verify", str(copied_batch)]) == 1
    assert f"{file}: its SHA-256 is not the manifest's" in capsys.readouterr().out


def test_verify_takes_each_build_with_the_engine_it_was_made_for(
    finished_batch: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert {claim.name: claim.engine for claim in claims(finished_batch)} == {
        "onnx-fp32": "auto",
        CPU.name: "onnxruntime",
        SIZED.name: "torch",
    }
    assert {claim.engine for claim in claims(finished_batch, "openvino")} == {"openvino"}
    assert command.main(["verify", str(finished_batch), "--engine", "onnxruntime"]) == 0
    assert capsys.readouterr().out.count("holds") == 3


def test_verify_names_what_was_not_finished(copied_batch: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = json.loads((copied_batch / "report.json").read_text())
    report["builds"][0]["status"] = report["builds"][1]["status"] = FAILED
    (copied_batch / "report.json").write_text(json.dumps(report))
    assert command.main(["verify", str(copied_batch)]) == 0
    assert f"not finished, so not checked: onnx-fp32, {CPU.name}" in capsys.readouterr().out


def test_an_artifact_put_in_the_place_of_another_is_seen(copied_batch: Path) -> None:
    report = json.loads((copied_batch / "report.json").read_text())
    report["builds"][1]["artifact_version"] = "0123456789ab"
    (copied_batch / "report.json").write_text(json.dumps(report))
    held = claims(copied_batch)[1].check(lambda: None)
    assert "not the artifact that the report is about" in held.error


@pytest.mark.parametrize("what", ["nothing", "pending"])
def test_verify_of_nothing_fails(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if what == "pending":
        about = {"model": "m", "checkpoint": {"file": "c.pt", "sha256": "00"}}
        BatchReport(tmp_path, about, [Result("a", {"precision": "fp32"})]).write()
    assert command.main(["verify", str(tmp_path)]) == 1
    assert "nothing to check" in capsys.readouterr().err


def rows_of_a_long_batch(tmp_path: Path) -> BatchReport:
    results = [Result(f"build-{i}", {}, PASSED, seconds=1.0) for i in range(20)]
    results += [Result(f"build-{i}", {}) for i in range(20, 40)]
    return BatchReport(tmp_path, {}, results)


def test_the_table_on_a_terminal_shows_what_runs_however_long_it_is(tmp_path: Path) -> None:
    shown = LiveTable(rows_of_a_long_batch(tmp_path), height=16)
    shown.begin(20, 9)
    shown.step()
    console = Console(width=120, height=16, color_system=None)
    with console.capture() as captured:
        console.print(shown.render())
    lines = captured.get().splitlines()
    assert len(lines) <= 16
    assert any("build-20" in line and "1/9 steps" in line for line in lines)
    assert "20 passed, 20 pending" in captured.get()
    assert "build-23" in captured.get()


def test_a_log_gets_one_line_for_each_build(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(rows_of_a_long_batch(tmp_path))
    lines.begin(3, 2)
    lines.step()
    lines.end()
    assert capsys.readouterr().err == "[4/40] build-3: passed, 1.0 s\n"

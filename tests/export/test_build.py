"""What passes the gate is written whole; what does not leaves everything as it was."""

import shutil
from pathlib import Path

import onnx
import pytest
from exported import small_checkpoint

from export import __main__ as command
from export import build
from export.graphs import GraphDefinition
from export.verify import ParityError
from maskstream.artifact import GRAPHS, Artifact
from maskstream.checkpoint import Checkpoint
from maskstream.engines import load_networks
from maskstream.errors import ArtifactError

pytestmark = pytest.mark.timeout(600)  # the first test exports the small model


@pytest.fixture
def graphs_of_small(small_artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the checkpoint, the small artifact's graphs come out of the exporter, at once."""

    def copy(graph: GraphDefinition, file: Path) -> None:
        shutil.copyfile(small_artifact / file.name, file)

    monkeypatch.setattr(build, "export_graph", copy)


def export(checkpoint: Checkpoint, folder: Path, out: Path) -> None:
    file = folder / "exported_from.pt"
    checkpoint.save(file)
    build.build_artifact(file, checkpoint, out, "fp32", lambda: None)


@pytest.mark.parametrize("graph", GRAPHS)
def test_exact_weights_are_stored_in_half_precision(small_artifact: Path, graph: str) -> None:
    weights = onnx.load(small_artifact / f"{graph}.onnx").graph.initializer
    large = {w.name: w.data_type for w in weights if len(w.raw_data) > 4096}
    assert large
    assert set(large.values()) == {onnx.TensorProto.FLOAT16}


@pytest.mark.parametrize("graph", GRAPHS)
def test_axes_have_names(small_artifact: Path, graph: str) -> None:
    loaded = onnx.load(small_artifact / f"{graph}.onnx").graph
    names = {d.dim_param for p in (*loaded.input, *loaded.output) for d in p.type.tensor_type.shape.dim if d.dim_param}
    assert "B" in names
    assert names <= {"B", "O", "h", "w", "h*w", "2*h", "2*w", "4*h", "4*w", "16*h", "16*w"}


@pytest.mark.usefixtures("graphs_of_small")
def test_an_artifact_of_another_checkpoint_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ParityError, match=r"graph encode_frame, output key, case '.*': relative error .* nothing was"):
        export(small_checkpoint(seed=1), tmp_path, tmp_path / "out" / "artifact")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.usefixtures("graphs_of_small")
def test_weights_that_are_not_finite_fail_the_gate(tmp_path: Path) -> None:
    checkpoint = small_checkpoint()
    checkpoint.weights["frame_encoder.key_head.2.weight"][0, 0] = float("nan")
    with pytest.raises(ParityError, match=r"graph encode_frame, output key, .* not finite"):
        export(checkpoint, tmp_path, tmp_path / "out" / "artifact")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.usefixtures("graphs_of_small")
def test_a_failed_export_leaves_the_artifact_that_was_there(copied_artifact: Path, tmp_path: Path) -> None:
    before = Artifact.load(copied_artifact).version
    with pytest.raises(ParityError):
        export(small_checkpoint(seed=1), tmp_path, copied_artifact)
    assert Artifact.load(copied_artifact).version == before


@pytest.mark.usefixtures("graphs_of_small")
def test_an_older_artifact_is_replaced(copied_artifact: Path, tmp_path: Path) -> None:
    (copied_artifact / "left_over.txt").write_text("of the older one")
    export(small_checkpoint(), tmp_path, copied_artifact)
    assert Artifact.load(copied_artifact).model_name == "small"
    assert not (copied_artifact / "left_over.txt").exists()
    assert [path.name for path in copied_artifact.parent.iterdir() if path.name.startswith(".")] == []


def test_a_folder_of_something_else_is_not_touched(small_checkpoint_file: Path, tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"dear")
    with pytest.raises(ArtifactError, match="exists and is no artifact"):
        build.build_artifact(
            small_checkpoint_file, Checkpoint.load(small_checkpoint_file), tmp_path, "fp32", lambda: None
        )
    assert (tmp_path / "holiday.jpg").read_bytes() == b"dear"


@pytest.mark.usefixtures("graphs_of_small")
def test_the_command_prints_the_parity_of_every_output(
    small_checkpoint_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main([str(small_checkpoint_file), "--out", str(tmp_path / "artifact")]) == 0
    printed = capsys.readouterr().out
    for output in ("key", "context", "skip8", "skip4", "value", "decoded", "coarse"):
        assert f"  {output} " in printed
    assert "fp32: mask IoU with torch along a clip: mean 1.0000" in printed


def test_the_command_says_what_is_wrong_with_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([str(tmp_path / "none.pt"), "--out", str(tmp_path / "artifact")]) == 1
    assert "none.pt: no such checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [["--precision", "int4"], ["--precision", "fp32,fp7"]])
def test_what_is_not_built_is_refused(
    flags: list[str], small_checkpoint_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command.main([str(small_checkpoint_file), "--out", str(tmp_path / "artifact"), *flags])
    assert "not built" in capsys.readouterr().err
    assert not (tmp_path / "artifact").exists()


def test_an_engine_is_put_beside_the_graphs_it_was_built_from(small_artifact: Path, tmp_path: Path) -> None:
    source = Artifact.load(small_artifact)

    def make(onnx_files: dict[str, Path], folder: Path) -> None:
        assert onnx_files == source.graphs
        assert list(folder.iterdir()) == []
        (folder / "segment.engine").write_bytes(b"plan")

    checked: list[Path] = []
    build.add_engine(source, tmp_path / "made", {"engine": "any"}, make, checked.append)
    made = Artifact.load(tmp_path / "made")
    assert made.manifest["engine"] == {"engine": "any"}
    assert {"segment.engine", "segment.onnx", "checkpoint.pt"} <= set(made.manifest["files"])
    assert len(checked) == 1
    (tmp_path / "made" / "segment.engine").write_bytes(b"spoilt")
    with pytest.raises(ArtifactError, match=r"segment\.engine: its SHA-256 is not the manifest's"):
        Artifact.load(tmp_path / "made")


def test_an_engine_that_fails_its_check_is_not_written(small_artifact: Path, tmp_path: Path) -> None:
    def refuse(folder: Path) -> None:
        raise ParityError("differs")

    with pytest.raises(ParityError, match="differs"):
        build.add_engine(
            Artifact.load(small_artifact), tmp_path / "a", {}, lambda _, out: out.joinpath("x").touch(), refuse
        )
    with pytest.raises(ArtifactError, match="no engine was built"):
        build.add_engine(Artifact.load(small_artifact), tmp_path / "a", {}, lambda _, out: None, lambda folder: None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("graphs_of_small")
def test_a_checkpoint_called_verify_is_exported(
    small_checkpoint_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copyfile(small_checkpoint_file, tmp_path / "verify")
    monkeypatch.chdir(tmp_path)
    assert command.main(["./verify", "--out", "artifact"]) == 0
    assert Artifact.load(tmp_path / "artifact").model_name == "small"


def test_the_help_teaches_both_commands(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--help"], ["verify", "--help"]):
        with pytest.raises(SystemExit):
            command.main(words)
    told = capsys.readouterr().out
    assert "maskstream-export CHECKPOINT --out ARTIFACT" in told
    assert "maskstream-export verify DIR" in told
    assert "against torch" in told


def test_precision_beside_targets_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["any.pt", "--out", "any", "--targets", "targets.toml", "--precision", "fp16"])
    assert "the targets name their own" in capsys.readouterr().err


@pytest.mark.slow
def test_half_precision_passes_its_own_gate(small_checkpoint_file: Path, tmp_path: Path) -> None:
    build.build_artifact(
        small_checkpoint_file, Checkpoint.load(small_checkpoint_file), tmp_path / "half", "fp16", lambda: None
    )
    networks = load_networks(tmp_path / "half", "onnxruntime")
    assert networks.precision == "fp16"

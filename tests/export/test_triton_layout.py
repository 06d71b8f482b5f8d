"""A model repository: its configurations hold to Triton's own schema and to the graphs, and the calls, in the order of
its README, give the tracker's masks.

triton_descriptor.json is the schema as record_triton_descriptor.py found it in tritonclient.
"""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory, text_format

from export import __main__ as command
from export import build as build_module
from export import triton_layout
from export.triton_layout import build_repository, config_text, fill_repository
from export.verify import ParityError, ParityReport
from maskstream.artifact import GRAPHS, Artifact, sha256_of
from maskstream.engines import load_networks
from maskstream.engines.graph_inputs import encode_mask_inputs, segment_inputs
from maskstream.errors import ArtifactError
from maskstream.moving_shapes import render
from maskstream.networks import F32, FrameFeatures, MemoryView, Networks, SoftMasks
from maskstream.tracker import Prompt, Tracker

pytestmark = pytest.mark.timeout(600)  # the first test exports the small model

TYPES = {"TYPE_UINT8": "tensor(uint8)", "TYPE_FP32": "tensor(float)"}


@pytest.fixture(scope="module")
def model_config() -> Any:
    """The message class `inference.ModelConfig`; parsing into it refuses what Triton's parser refuses."""
    recorded = json.loads(Path(__file__).with_name("triton_descriptor.json").read_text())
    pool = descriptor_pool.DescriptorPool()
    pool.Add(json_format.ParseDict(recorded, descriptor_pb2.FileDescriptorProto()))
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("inference.ModelConfig"))


@pytest.fixture(scope="module")
def repository(small_artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    fill_repository(folder, Artifact.load(small_artifact))
    return folder


def parsed(model_config: Any, file: Path) -> Any:
    return text_format.Parse(file.read_text(), model_config())


def test_the_schema_refuses_what_triton_would(model_config: Any) -> None:
    for text in ('title: "a"', "input [ { dims: [ a ] } ]", "input [ { data_type: TYPE_FLOAT } ]", "name: 3"):
        with pytest.raises(text_format.ParseError):
            text_format.Parse(text, model_config())


@pytest.mark.parametrize("graph", GRAPHS)
def test_a_configuration_is_the_graphs_own_inputs_and_outputs(repository: Path, model_config: Any, graph: str) -> None:
    config = parsed(model_config, repository / graph / "config.pbtxt")
    assert (config.name, config.platform, config.max_batch_size) == (graph, "onnxruntime_onnx", 0)
    session = onnxruntime.InferenceSession(
        repository / graph / "1" / config.default_model_filename, providers=["CPUExecutionProvider"]
    )
    for told, found in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
        kinds = told[0].DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number
        described = [(port.name, TYPES[kinds[port.data_type].name], list(port.dims)) for port in told]
        expected = [
            (port.name, port.type, [side if isinstance(side, int) else -1 for side in port.shape]) for port in found
        ]
        assert described == expected


def test_a_repository_holds_models_and_nothing_that_looks_like_one(repository: Path, small_artifact: Path) -> None:
    """Triton takes every folder for a model; files beside them do not concern it."""
    assert {path.name for path in repository.iterdir() if path.is_dir()} == set(GRAPHS)
    for graph, file in Artifact.load(small_artifact).graphs.items():
        assert {path.name for path in (repository / graph).iterdir()} == {"1", "config.pbtxt"}
        assert sha256_of(repository / graph / "1/model.onnx") == sha256_of(file)
    assert json.loads((repository / "maskstream.json").read_text())["spec"]["capacity"] == 4


class Client:
    """What README.txt asks of a client: three calls, by the names and shapes of the configurations alone."""

    engine, precision = "triton", "fp32"

    def __init__(self, repository: Path, model_config: Any, like: Networks) -> None:
        self.spec = like.spec
        self.called: list[str] = []
        self._configs = {name: parsed(model_config, repository / name / "config.pbtxt") for name in GRAPHS}
        self._sessions = {
            name: onnxruntime.InferenceSession(repository / name / "1/model.onnx", providers=["CPUExecutionProvider"])
            for name in GRAPHS
        }

    def encode_frame(self, frame_BHW3: np.ndarray) -> FrameFeatures:
        return FrameFeatures(*self._infer("encode_frame", {"frame": frame_BHW3}))

    def encode_mask(self, features: FrameFeatures, soft_BOHW: F32) -> F32:
        return self._infer("encode_mask", encode_mask_inputs(features, soft_BOHW))[0]

    def segment(self, features: FrameFeatures, memory: MemoryView) -> SoftMasks:
        return SoftMasks(*self._infer("segment", segment_inputs(features, memory)))

    def _infer(self, model: str, inputs: dict[str, Any]) -> list[F32]:
        self.called.append(model)
        config = self._configs[model]
        for port in config.input:
            shape = inputs[port.name].shape
            assert len(shape) == len(port.dims), port.name
            assert all(told in (-1, side) for told, side in zip(port.dims, shape, strict=True)), port.name
        wanted = [port.name for port in config.output]
        outputs: list[F32] = self._sessions[model].run(wanted, {port.name: inputs[port.name] for port in config.input})
        return outputs


def test_a_client_of_the_three_models_follows_as_the_engine_does(
    repository: Path, small_artifact: Path, model_config: Any
) -> None:
    engine = load_networks(small_artifact, "onnxruntime", threads=1)
    client = Client(repository, model_config, engine)
    clip = render(4, (96, 160), num_objects=2)
    prompts = [Prompt(number, clip.id_maps[0] == number) for number in (1, 2)]
    answers = []
    for networks in (engine, client):
        tracker = Tracker(networks)
        answers.append([tracker.step(frame, prompts if i == 0 else []).id_map for i, frame in enumerate(clip.frames)])
        tracker.close()
    assert np.array_equal(*answers)
    assert client.called[:4] == ["encode_frame", "encode_mask", "encode_frame", "segment"], "the README's order"


def test_the_readme_names_every_port_and_fills_in_every_figure(repository: Path) -> None:
    told = (repository / "README.txt").read_text()
    manifest = json.loads((repository / "maskstream.json").read_text())
    for graph in manifest["graphs"].values():
        for port in (*graph["inputs"], *graph["outputs"]):
            assert re.search(rf"(<-|->) {port['name']} +{port['dtype']} +\[", told), port["name"]
    assert "{" not in told
    assert max(map(len, told.splitlines())) <= 120


def test_a_type_that_triton_is_not_told_how_to_call_is_refused() -> None:
    port = {"name": "frame", "dtype": "complex64", "shape": ["B"]}
    with pytest.raises(ArtifactError, match="port frame is of type 'complex64'; expected one of uint8, float32"):
        config_text("any", {"inputs": [port], "outputs": []})


def copying(small_artifact: Path) -> Callable[[Path], ParityReport]:
    def make(folder: Path) -> ParityReport:
        shutil.copytree(small_artifact, folder)
        return ParityReport((), 1.0, 1.0)

    return make


def test_a_repository_is_replaced_and_anything_else_is_not(small_artifact: Path, tmp_path: Path) -> None:
    out = tmp_path / "models"
    for _ in range(2):
        build_repository(out, copying(small_artifact))
        assert (out / "segment/1/model.onnx").is_file()
        (out / "left_over").mkdir(exist_ok=False)
    (out / triton_layout.MARK).unlink()
    with pytest.raises(ArtifactError, match="models: exists and is no model repository of ours; choose another --out"):
        build_repository(out, copying(small_artifact))
    with pytest.raises(ArtifactError, match="exists and is no model repository"):
        build_repository(small_artifact, copying(small_artifact))
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_nothing_is_written_when_the_gate_does_not_pass(small_artifact: Path, tmp_path: Path) -> None:
    out = tmp_path / "models"
    build_repository(out, copying(small_artifact))
    before = {path: sha256_of(path) for path in out.rglob("*") if path.is_file()}

    def refuse(folder: Path) -> ParityReport:
        raise ParityError("differs; nothing was written")

    for target in (out, tmp_path / "other"):
        with pytest.raises(ParityError):
            build_repository(target, refuse)
    assert {path: sha256_of(path) for path in out.rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_the_command_writes_a_repository_and_says_how_to_go_on(
    small_artifact: Path,
    small_checkpoint_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(
        build_module, "export_graph", lambda graph, file: shutil.copyfile(small_artifact / file.name, file)
    )
    assert command.main([str(small_checkpoint_file), "--out", str(tmp_path / "m"), "--layout", "triton"]) == 0
    assert f"{tmp_path}/m/README.txt tells how a client calls it" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "m").iterdir()} == {*GRAPHS, "maskstream.json", "README.txt"}


def test_a_layout_beside_targets_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["any.pt", "--out", "any", "--targets", "targets.toml", "--layout", "triton"])
    assert "a batch is of plain artifacts" in capsys.readouterr().err

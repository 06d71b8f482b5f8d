"""Engines from graphs. TensorRT-RTX builds them for real, without a GPU; full TensorRT is a double here."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from exported import small_checkpoint
from fake_tensorrt import FakeCudart
from fake_tensorrt_builder import fake_full_tensorrt
from onnx import TensorProto, helper

from export import to_tensorrt
from export.graphs import graph_definitions
from export.targets import Build
from export.to_onnx import export_graph
from export.to_tensorrt import BuildSettings, EngineBuildError, build_engine, build_engines, ensure_engine
from maskstream.artifact import GRAPHS, Artifact, sha256_of
from maskstream.engine_sidecar import (
    AxisRange,
    EngineMismatch,
    EngineOptions,
    EngineProfile,
    EngineSidecar,
    InvalidProfile,
    sidecar_file,
)
from maskstream.engines.cuda_runtime import Cuda
from maskstream.engines.tensorrt_library import Messages, library_log
from maskstream.errors import ArtifactError, EngineUnavailable

pytestmark = pytest.mark.timeout(600)  # the first test exports the small model
rtx: Any = pytest.importorskip("tensorrt_rtx")

ONE = AxisRange(1, 1, 1)
FIXED = EngineProfile("fixed", ONE, ONE, AxisRange(6, 6, 6), AxisRange(8, 8, 8))
DYNAMIC = EngineProfile("dynamic", AxisRange(1, 2, 4), AxisRange(1, 3, 16), AxisRange(2, 6, 8), AxisRange(2, 8, 14))
PLAIN = BuildSettings()


@pytest.fixture(scope="module")
def half_graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The graphs of the small model in half precision, which the gate need not have seen here."""
    folder = tmp_path_factory.mktemp("half")
    for definition in graph_definitions(small_checkpoint().segmenter().half()):
        export_graph(definition, folder / f"{definition.name}.onnx")
    return {name: folder / f"{name}.onnx" for name in GRAPHS}


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """A graph that builds at once: bytes [B, 16*h, 3] -> their doubled values."""
    return written_graph(tmp_path / "graph.onnx")


def written_graph(file: Path, axis: str = "16*h", operator: str = "Add", kind: int = TensorProto.FLOAT) -> Path:
    shape = ["B", axis, 3]
    nodes = [
        helper.make_node("Cast", ["frame"], ["x"], name="to_float", to=TensorProto.FLOAT),
        helper.make_node(operator, ["x", "x"], ["y"], name="twice"),
    ]
    ports = [helper.make_tensor_value_info(n, t, shape) for n, t in (("frame", TensorProto.UINT8), ("y", kind))]
    made = helper.make_graph(nodes, "graph", ports[:1], ports[1:])
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), file)
    return file


@pytest.mark.parametrize("profile", [FIXED, DYNAMIC], ids=lambda profile: profile.name)
@pytest.mark.parametrize("name", GRAPHS)
def test_every_graph_builds(small_artifact: Path, tmp_path: Path, name: str, profile: EngineProfile) -> None:
    onnx_file = Artifact.load(small_artifact).graphs[name]
    built = build_engine(onnx_file, tmp_path / "e.engine", profile, PLAIN, rtx)
    assert built.file.stat().st_size > 1000
    assert built.sidecar.activation_bytes is not None


@pytest.mark.slow
@pytest.mark.parametrize("name", GRAPHS)
def test_every_graph_builds_in_half_precision(half_graphs: dict[str, Path], tmp_path: Path, name: str) -> None:
    built = build_engine(half_graphs[name], tmp_path / "e.engine", DYNAMIC, PLAIN, rtx)
    assert built.sidecar.onnx_sha256 == sha256_of(half_graphs[name])


def test_a_build_of_a_batch_fills_its_folder(small_artifact: Path, tmp_path: Path) -> None:
    build = Build("gpu", "tensorrt_rtx", "fp32", (96, 128), objects=3, streams=2)
    build_engines(Artifact.load(small_artifact).graphs, tmp_path, build)
    wanted = {f"{name}.engine{end}" for name in GRAPHS for end in ("", ".json")}
    assert {file.name for file in tmp_path.iterdir()} == wanted
    profile = EngineSidecar.read(tmp_path / "segment.engine").profile
    assert profile.lengths("most") == {"B": 2, "O": 3, "h": 6, "w": 8}
    assert profile.lengths("least") == {"B": 1, "O": 1, "h": 6, "w": 8}


def test_a_larger_profile_needs_more_memory(small_artifact: Path, tmp_path: Path) -> None:
    onnx_file = Artifact.load(small_artifact).graphs["segment"]
    needed = [
        build_engine(onnx_file, tmp_path / "e.engine", profile, PLAIN, rtx).sidecar.activation_bytes or 0
        for profile in (FIXED, DYNAMIC)
    ]
    assert needed[1] > 4 * needed[0]


def test_the_record_says_what_was_built_from_what(graph: Path, tmp_path: Path) -> None:
    out = tmp_path / "e.engine"
    built = build_engine(graph, out, DYNAMIC, PLAIN, rtx)
    assert EngineSidecar.read(out) == built.sidecar
    record = json.loads(sidecar_file(out).read_text())
    assert record["onnx_sha256"] == sha256_of(graph)
    assert record["engine_sha256"] == sha256_of(out)
    assert record["built_on"]["flavour"] == "tensorrt_rtx"
    assert record["built_on"]["version"] == rtx.__version__
    assert record["golden_mask_iou"] is None
    assert record["profile"]["objects"] == {"least": 1, "usual": 3, "most": 16}
    assert "8.9" in record["runs_on"]
    assert "7.5" not in record["runs_on"]


def test_a_list_of_compute_capabilities_is_built_for(graph: Path, tmp_path: Path) -> None:
    options = EngineOptions(compute_capabilities=("7.5", "8.9"))
    built = build_engine(graph, tmp_path / "e.engine", FIXED, BuildSettings(options), rtx)
    assert built.sidecar.runs_on == ("7.5", "8.9")
    unknown = BuildSettings(EngineOptions(compute_capabilities=("9.0",)))
    with pytest.raises(EngineBuildError, match=r"builds for no compute capability 9\.0, only 7\.5, 8\.0, 8\.6"):
        build_engine(graph, tmp_path / "e.engine", FIXED, unknown, rtx)


@pytest.mark.parametrize("content", [b"", b"not a graph", None], ids=["empty", "damaged", "cut"])
def test_a_damaged_graph_is_named_and_nothing_is_written(graph: Path, tmp_path: Path, content: bytes | None) -> None:
    graph.write_bytes(graph.read_bytes()[:-9] if content is None else content)
    with pytest.raises(EngineBuildError, match=r"graph\.onnx: tensorrt_rtx .* cannot (parse|build) it: \w+"):
        build_engine(graph, tmp_path / "e.engine", FIXED, PLAIN, rtx)
    assert [file.name for file in tmp_path.iterdir()] == ["graph.onnx"]


def test_a_graph_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineBuildError, match=r"none\.onnx: no such file"):
        build_engine(tmp_path / "none.onnx", tmp_path / "e.engine", FIXED, PLAIN, rtx)


def test_builds_that_overlap_share_a_logger_and_each_hears_its_own(
    graph: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The library registers the first logger while anything made with it lives, and warns of any other."""
    held = rtx.Builder(library_log(rtx, Messages()))
    assert build_engine(graph, tmp_path / "e.engine", FIXED, PLAIN, rtx).sidecar.activation_bytes is not None
    empty = tmp_path / "empty.onnx"
    empty.touch()
    with pytest.raises(EngineBuildError, match=r"cannot build it: .*at least one output"):
        build_engine(empty, tmp_path / "e.engine", FIXED, PLAIN, rtx)
    assert "already registered" not in caplog.text
    del held


def test_a_node_that_cannot_be_parsed_is_named_with_its_operator_and_the_reason(tmp_path: Path) -> None:
    """Bytes can be cast and nothing else, so adding them is refused."""
    file = written_graph(tmp_path / "g.onnx")
    model = onnx.load(file)
    del model.graph.node[0]
    model.graph.node[0].input[:] = ["frame", "frame"]
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.UINT8
    onnx.save(model, file)
    with pytest.raises(EngineBuildError, match=r"g\.onnx: .* node twice \(Add\): .*UInt8"):
        build_engine(file, tmp_path / "e.engine", FIXED, PLAIN, rtx)


def test_a_profile_that_cannot_be_is_refused() -> None:
    with pytest.raises(InvalidProfile, match="an axis of 5 to 3, usually 4"):
        AxisRange(5, 4, 3)
    with pytest.raises(InvalidProfile, match="an axis of 0 to 2"):
        AxisRange(0, 1, 2)


def test_an_axis_that_no_profile_knows_is_named(tmp_path: Path) -> None:
    file = written_graph(tmp_path / "g.onnx", axis="height")
    with pytest.raises(EngineBuildError, match=r"g\.onnx: axis 1 of its input frame is called 'height'; expected B, O"):
        build_engine(file, tmp_path / "e.engine", FIXED, PLAIN, rtx)


def test_a_failed_build_leaves_the_engine_that_was_there(graph: Path, tmp_path: Path) -> None:
    out = tmp_path / "e.engine"
    build_engine(graph, out, FIXED, PLAIN, rtx)
    before = out.read_bytes()
    with pytest.raises(EngineBuildError):
        build_engine(tmp_path / "none.onnx", out, FIXED, PLAIN, rtx)
    assert out.read_bytes() == before
    assert EngineSidecar.read(out).engine_sha256 == sha256_of(out)
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []


def test_an_engine_that_fits_is_kept(graph: Path, tmp_path: Path) -> None:
    out = tmp_path / "e.engine"
    first = ensure_engine(graph, out, FIXED, PLAIN, rtx)
    again = ensure_engine(graph, out, FIXED, PLAIN, rtx)
    assert first.seconds > 0
    assert (again.seconds, again.sidecar) == (0.0, first.sidecar)


def test_an_engine_that_does_not_fit_is_refused_or_built_again_if_asked(graph: Path, tmp_path: Path) -> None:
    out = tmp_path / "e.engine"
    built = ensure_engine(graph, out, FIXED, PLAIN, rtx)
    with pytest.raises(EngineMismatch, match=r"the profile is .*'fixed'.*, expected .*'dynamic'.*maskstream-export"):
        ensure_engine(graph, out, DYNAMIC, PLAIN, rtx)
    assert sha256_of(out) == built.sidecar.engine_sha256
    assert ensure_engine(graph, out, DYNAMIC, PLAIN, rtx, rebuild=True).sidecar.profile == DYNAMIC
    older = replace(built.sidecar, built_on=replace(built.sidecar.built_on, version="1.6.0"), profile=DYNAMIC)
    replace(older, engine_sha256=sha256_of(out)).write(out)
    with pytest.raises(EngineMismatch, match=r"the library's version is 1\.7.*, expected 1\.6\.0"):
        ensure_engine(graph, out, DYNAMIC, PLAIN, rtx)
    assert ensure_engine(graph, out, DYNAMIC, PLAIN, rtx, rebuild=True).sidecar.built_on.version == rtx.__version__


def test_a_damaged_engine_is_refused_or_built_again_if_asked(graph: Path, tmp_path: Path) -> None:
    out = tmp_path / "e.engine"
    ensure_engine(graph, out, FIXED, PLAIN, rtx)
    out.write_bytes(out.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match=r"e\.engine: not the file that e\.engine\.json describes"):
        ensure_engine(graph, out, FIXED, PLAIN, rtx)
    rebuilt = ensure_engine(graph, out, FIXED, PLAIN, rtx, rebuild=True)
    assert rebuilt.sidecar.engine_sha256 == sha256_of(out)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (EngineOptions(hardware_compatibility="ampere_plus"), "tensorrt_rtx 1.* has no hardware compatibility levels"),
        (EngineOptions(version_compatible=True), "tensorrt_rtx 1.* has no lean runtime"),
        (EngineOptions(hardware_compatibility="all"), "'all': choose from none, same_compute_capability, ampere_plus"),
    ],
)
def test_what_rtx_lacks_is_named(graph: Path, tmp_path: Path, options: EngineOptions, told: str) -> None:
    with pytest.raises(EngineBuildError, match=told):
        build_engine(graph, tmp_path / "e.engine", FIXED, BuildSettings(options), rtx)


@pytest.fixture
def on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(to_tensorrt, "open_cuda", lambda: Cuda(FakeCudart([])))


@pytest.mark.usefixtures("on_a_gpu")
def test_full_tensorrt_is_told_everything(graph: Path, tmp_path: Path) -> None:
    trt = fake_full_tensorrt()
    options = EngineOptions("ampere_plus", version_compatible=True, optimization_level=5)
    built = build_engine(graph, tmp_path / "e.engine", DYNAMIC, BuildSettings(options, workspace_bytes=1 << 30), trt)
    (config,) = trt.configs
    assert config.told == [
        ("clear_flag", "TF32"),
        ("set_flag", "VERSION_COMPATIBLE"),
        ("set_memory_pool_limit", "WORKSPACE", 1 << 30),
        ("profile", {"x": ((1, 3, 4), (2, 3, 12), (4, 3, 16))}),
    ]
    assert (config.hardware_compatibility_level, config.builder_optimization_level) == ("ampere", 5)
    assert built.file.read_bytes() == b"plan"
    assert built.sidecar.activation_bytes == 4096
    assert (built.sidecar.built_on.gpu, built.sidecar.runs_on) == ("Some GPU", ("8.9",))


@pytest.mark.usefixtures("on_a_gpu")
@pytest.mark.parametrize(("explicit", "flags"), [(True, 2), (False, 0)])
def test_networks_are_strongly_typed_by_flag_or_by_nature(
    graph: Path, tmp_path: Path, explicit: bool, flags: int
) -> None:
    trt = fake_full_tensorrt(explicit=explicit)
    build_engine(graph, tmp_path / "e.engine", DYNAMIC, PLAIN, trt)
    assert trt.flags == [flags]


@pytest.mark.usefixtures("on_a_gpu")
def test_tf32_stays_on_when_asked_for(graph: Path, tmp_path: Path) -> None:
    trt = fake_full_tensorrt()
    build_engine(graph, tmp_path / "e.engine", DYNAMIC, BuildSettings(EngineOptions(tf32=True)), trt)
    assert ("clear_flag", "TF32") not in trt.configs[0].told


@pytest.mark.usefixtures("on_a_gpu")
def test_timings_are_kept_for_each_gpu_and_library(graph: Path, tmp_path: Path) -> None:
    settings = BuildSettings(timing_caches=tmp_path / "timings")
    trt = fake_full_tensorrt()
    for _ in range(2):
        build_engine(graph, tmp_path / "e.engine", DYNAMIC, settings, trt)
    build_engine(graph, tmp_path / "e.engine", DYNAMIC, settings, fake_full_tensorrt("11.4.0.106"))
    kept = {file.name: file.read_bytes() for file in (tmp_path / "timings").iterdir()}
    assert len(kept) == 2
    assert all(name.startswith("Some-GPU-driver-") for name in kept)
    assert sorted(kept.values()) == [b"+timed", b"+timed+timed"]


@pytest.mark.usefixtures("on_a_gpu")
def test_timings_that_the_library_does_not_take_are_replaced(
    graph: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = BuildSettings(timing_caches=tmp_path / "timings")
    build_engine(graph, tmp_path / "e.engine", DYNAMIC, settings, fake_full_tensorrt())
    (file,) = (tmp_path / "timings").iterdir()
    file.write_bytes(b"foreign")
    build_engine(graph, tmp_path / "e.engine", DYNAMIC, settings, fake_full_tensorrt())
    assert file.read_bytes() == b"+timed"
    assert f"{file}: timings of another GPU or library" in caplog.text


@pytest.mark.usefixtures("on_a_gpu")
def test_what_full_tensorrt_lacks_is_named(graph: Path, tmp_path: Path) -> None:
    for options, told in (
        (
            EngineOptions(compute_capabilities=("8.9",)),
            r"tensorrt 10\.16.* has no ComputeCapability: it builds for the",
        ),
        (EngineOptions("same_compute_capability"), r"has no HardwareCompatibilityLevel\.SAME_COMPUTE_CAPABILITY"),
    ):
        with pytest.raises(EngineBuildError, match=told):
            build_engine(graph, tmp_path / "e.engine", DYNAMIC, BuildSettings(options), fake_full_tensorrt())


def test_full_tensorrt_without_a_gpu_says_so(graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cudart = FakeCudart([])
    cudart.failing.add("cudaGetDevice")
    monkeypatch.setattr(to_tensorrt, "open_cuda", lambda: Cuda(cudart))
    with pytest.raises(EngineUnavailable, match="cudaGetDevice: as it was told to"):
        build_engine(graph, tmp_path / "e.engine", DYNAMIC, PLAIN, fake_full_tensorrt())

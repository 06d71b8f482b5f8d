"""The TensorRT engine over doubles: what is called in which order, what is computed, what is refused; once for real."""

import gc
import importlib.util
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake_tensorrt import PORTS, FakeCudart, expected, fake_tensorrt

from export.to_tensorrt import BuildSettings, build_engine
from export.verify import TOLERANCES, Case, compare
from maskstream.artifact import GRAPHS, Artifact, sha256_of
from maskstream.engine_sidecar import EngineMismatch, EngineProfile, EngineSidecar, Machine
from maskstream.engines import load_networks
from maskstream.engines.cuda_runtime import Cuda, CudaError, open_cuda
from maskstream.engines.tensorrt_library import import_tensorrt
from maskstream.engines.tensorrt_networks import TensorRtNetworks, engine_file
from maskstream.errors import ArtifactError, EngineUnavailable
from maskstream.networks import FrameFeatures, MemoryView, NetworkSpec

MOST = {"B": 2, "O": 3, "h": 4, "w": 5}
HERE = Machine("tensorrt", "10.16.1.11", "Some GPU", "8.9")
PROFILE = EngineProfile.for_load("p", (4, 5), 3, 2)


@pytest.fixture
def cudart() -> FakeCudart:
    return FakeCudart([])


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    """A folder as `export` leaves it, with files for graphs and engines that hold nothing but the graph's name."""
    graphs = {name: tmp_path / f"{name}.onnx" for name in GRAPHS}
    spec = NetworkSpec("fake", 16, 4, 3, 2, 480, 4, 5)
    ports = {name: {"outputs": [{"name": port.name} for port in PORTS[name][1]]} for name in GRAPHS}
    made = Artifact(tmp_path, spec, "fp16", "v", graphs, tmp_path / "checkpoint.pt", {"graphs": ports})
    for name, file in graphs.items():
        file.write_text(f"onnx {name}")
        engine_file(made, name).write_text(name)
        record(made, name, HERE)
    return made


def record(artifact: Artifact, name: str, machine: Machine) -> None:
    engine = engine_file(artifact, name)
    hashes = (sha256_of(artifact.graphs[name]), sha256_of(engine))
    EngineSidecar(name, *hashes, machine, (str(machine.compute_capability),), PROFILE).write(engine)


def opened(artifact: Artifact, cudart: FakeCudart, **module: Any) -> tuple[TensorRtNetworks, Any]:
    trt = fake_tensorrt(cudart, MOST, **module)
    return TensorRtNetworks(artifact, trt, Cuda(cudart)), trt


def random(graph: str, axes: dict[str, int], seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {port.name: (99 * rng.random(port.size(axes))).astype(port.dtype) for port in PORTS[graph][0]}


def memory_of(given: dict[str, Any]) -> tuple[FrameFeatures, MemoryView]:
    key, value = (given[name].reshape(*given[name].shape[:-2], -1) for name in ("bank_key", "bank_value"))
    features = FrameFeatures(*(given[name] for name in FrameFeatures._fields))
    return features, MemoryView(key, value, given["valid"], given["age"])


def test_each_output_has_its_place_and_is_what_its_graph_computes(artifact: Artifact, cudart: FakeCudart) -> None:
    networks, _ = opened(artifact, cudart)
    axes = {"B": 2, "O": 3, "h": 2, "w": 5}
    frame = random("encode_frame", axes)
    for index, found in enumerate(networks.encode_frame(frame["frame"])):
        assert found.shape == PORTS["encode_frame"][1][index].size(axes)
        assert found == pytest.approx(expected(frame, index), rel=1e-6)
    given = random("segment", axes)
    masks = networks.segment(*memory_of(given))
    assert masks.decoded.shape == masks.coarse.shape == (2, 3, 8, 20)
    assert masks.decoded == pytest.approx(expected(given, 0), rel=1e-6)
    assert masks.coarse == pytest.approx(expected(given, 1), rel=1e-6)
    given = random("encode_mask", axes)
    features = memory_of(random("segment", axes))[0]._replace(context=given["context"])
    value_BOVN = networks.encode_mask(features, given["soft_masks"])
    assert value_BOVN.shape == (2, 3, 2, 10)
    assert value_BOVN == pytest.approx(expected(given, 0), rel=1e-6)


def test_it_says_what_it_is(artifact: Artifact, cudart: FakeCudart) -> None:
    networks, _ = opened(artifact, cudart)
    assert (networks.engine, networks.precision, networks.spec) == ("tensorrt", "fp16", artifact.spec)
    assert networks.profile == PROFILE


def test_shapes_then_addresses_then_copies_then_work_then_copies_then_waiting(
    artifact: Artifact, cudart: FakeCudart
) -> None:
    networks, _ = opened(artifact, cudart)
    assert [call for call in cudart.calls if "Stream" in call] == ["cudaStreamCreateWithFlags"]
    cudart.calls.clear()
    networks.encode_frame(random("encode_frame", MOST)["frame"])
    outputs = [port.name for port in PORTS["encode_frame"][1]]
    calls = [call for call in cudart.calls if not call.startswith("cudaMalloc")]
    assert calls[:2] == ["cudaStreamSynchronize", "set_input_shape frame"]
    assert set(calls[2:7]) == {f"set_tensor_address {name}" for name in ("frame", *outputs)}
    assert calls[7:] == [
        *("cudaMemcpyAsync", "execute_async_v3", *["cudaMemcpyAsync"] * len(outputs), "cudaStreamSynchronize")
    ]


def test_a_second_call_of_the_same_shapes_is_recorded_and_a_third_only_launched(
    artifact: Artifact, cudart: FakeCudart
) -> None:
    networks, _ = opened(artifact, cudart)
    done = []
    for seed in range(4):
        cudart.calls.clear()
        frame = random("encode_frame", MOST, seed)
        assert networks.encode_frame(frame["frame"]).key == pytest.approx(expected(frame, 0), rel=1e-6)
        done.append([call for call in cudart.calls if "Graph" in call or "Capture" in call or call.startswith("exec")])
    capture = ["cudaStreamBeginCapture", "execute_async_v3", "cudaStreamEndCapture"]
    assert done[0] == ["execute_async_v3"]
    assert done[1] == [*capture, "cudaGraphInstantiate", "cudaGraphDestroy", "cudaGraphLaunch"]
    assert done[2] == done[3] == ["cudaGraphLaunch"]


def test_other_shapes_forget_the_recording_and_are_right(artifact: Artifact, cudart: FakeCudart) -> None:
    networks, _ = opened(artifact, cudart)
    for count in (1, 1, 1, 3, 3, 1, 2, 2, 2):
        given = random("segment", {**MOST, "O": count})
        assert networks.segment(*memory_of(given)).coarse == pytest.approx(expected(given, 1), rel=1e-6)
        assert cudart.alive["recording"] <= 1
    networks.close()
    assert cudart.alive == {"recording": 0, "stream": 0}


def test_rtx_is_told_to_record_by_itself(artifact: Artifact, cudart: FakeCudart) -> None:
    trt = fake_tensorrt(cudart, MOST, "tensorrt_rtx", "1.7.1.116")
    trt.CudaGraphStrategy = SimpleNamespace(WHOLE_GRAPH_CAPTURE="whole")
    for name in GRAPHS:
        record(artifact, name, replace(HERE, flavour="tensorrt_rtx", version="1.7.1.116"))
    networks = TensorRtNetworks(artifact, trt, Cuda(cudart))
    for _ in range(3):
        networks.encode_frame(random("encode_frame", MOST)["frame"])
    assert networks.engine == "tensorrt_rtx"
    assert "cudaStreamBeginCapture" not in cudart.calls
    assert [context.config.cuda_graph_strategy for context in trt.engines["segment"].contexts] == ["whole"]


def test_work_that_cannot_be_recorded_runs_call_by_call_and_says_so(
    artifact: Artifact, cudart: FakeCudart, caplog: pytest.LogCaptureFixture
) -> None:
    networks, _ = opened(artifact, cudart)
    cudart.failing.add("cudaGraphInstantiate")
    for seed in range(4):
        frame = random("encode_frame", MOST, seed)
        assert networks.encode_frame(frame["frame"]).key == pytest.approx(expected(frame, 0), rel=1e-6)
    assert [record.message for record in caplog.records] == [
        "graph encode_frame: runs call by call, since CUDA cannot record it: cudaGraphInstantiate: as it was told to "
        "(CUDA error 700)"
    ]
    assert cudart.calls.count("cudaStreamBeginCapture") == 1


def test_an_answer_is_not_overwritten_by_the_next_call(artifact: Artifact, cudart: FakeCudart) -> None:
    networks, _ = opened(artifact, cudart)
    key = networks.encode_frame(np.full((1, 16, 16, 3), 3, np.uint8)).key
    networks.encode_frame(np.full((1, 16, 16, 3), 9, np.uint8))
    assert (key == 3).all()


def test_a_call_that_the_library_refuses_is_an_error(artifact: Artifact, cudart: FakeCudart) -> None:
    networks, trt = opened(artifact, cudart)
    trt.engines["encode_frame"].contexts[0].accepts = False
    with pytest.raises(EngineUnavailable, match="graph encode_frame: tensorrt refused to run"):
        networks.encode_frame(random("encode_frame", MOST)["frame"])


def test_a_fault_of_the_gpu_is_an_error_that_names_the_call(artifact: Artifact, cudart: FakeCudart) -> None:
    networks, _ = opened(artifact, cudart)
    cudart.failing.add("cudaMalloc")
    with pytest.raises(CudaError, match=r"cudaMalloc of \d+ bytes: as it was told to \(CUDA error 700\)"):
        networks.encode_frame(random("encode_frame", MOST)["frame"])
    cudart.failing.clear()
    frame = random("encode_frame", MOST)
    assert networks.encode_frame(frame["frame"]).key == pytest.approx(expected(frame, 0), rel=1e-6)


def test_more_objects_than_the_engine_was_built_for_are_refused_with_the_range(
    artifact: Artifact, cudart: FakeCudart
) -> None:
    networks, _ = opened(artifact, cudart)
    given = random("segment", {**MOST, "O": 4})
    told = (
        r"graph segment: its engine takes bank_value of shape \(1, 1, .*\) to \(2, 3, 2, 4, 4, 5\), was given \(2, 4,"
    )
    with pytest.raises(EngineUnavailable, match=told):
        networks.segment(*memory_of(given))
    assert "execute_async_v3" not in cudart.calls


def test_refused_shapes_leave_nothing_half_set(artifact: Artifact, cudart: FakeCudart) -> None:
    networks, trt = opened(artifact, cudart)
    for axes in ({"B": 2, "O": 1}, {"B": 1, "O": 4}, {"B": 2, "O": 1}):
        given = random("segment", {**MOST, **axes})
        if axes["O"] > MOST["O"]:
            with pytest.raises(EngineUnavailable):
                networks.segment(*memory_of(given))
        else:
            assert networks.segment(*memory_of(given)).coarse == pytest.approx(expected(given, 1), rel=1e-6)
    assert trt.engines["segment"].contexts[0].shapes["key"][0] == 2


def test_all_memory_is_given_back(artifact: Artifact, cudart: FakeCudart) -> None:
    networks, _ = opened(artifact, cudart)
    networks.encode_frame(random("encode_frame", MOST)["frame"])
    assert cudart.memory
    del networks
    gc.collect()
    assert cudart.memory == {}
    assert cudart.alive["stream"] == 0


def test_an_engine_of_another_gpu_is_refused_before_it_is_loaded(artifact: Artifact, cudart: FakeCudart) -> None:
    record(artifact, "segment", replace(HERE, gpu="Other GPU", compute_capability="8.6"))
    trt = fake_tensorrt(cudart, MOST)
    with pytest.raises(EngineMismatch, match=r"segment\.engine: .* the compute capability is 8\.9, expected 8\.6"):
        TensorRtNetworks(artifact, trt, Cuda(cudart))
    assert trt.engines == {}


def test_an_artifact_without_engines_says_how_to_build_them(artifact: Artifact, cudart: FakeCudart) -> None:
    engine_file(artifact, "encode_mask").unlink()
    with pytest.raises(
        ArtifactError, match=r"encode_mask\.engine: no such engine; .*maskstream-export .*targets\.toml"
    ):
        opened(artifact, cudart)


def test_an_engine_that_the_library_does_not_load_is_named_with_its_reason(
    artifact: Artifact, cudart: FakeCudart
) -> None:
    trt = fake_tensorrt(cudart, MOST)
    trt.damaged.add("segment")
    with pytest.raises(
        EngineUnavailable, match=r"segment\.engine: not loaded: Magic tag does not match; build it again"
    ):
        TensorRtNetworks(artifact, trt, Cuda(cudart))
    gc.collect()
    assert cudart.alive["stream"] == 0


def installed_on_a_gpu() -> str | None:
    """The TensorRT that can run here."""
    for flavour in ("tensorrt", "tensorrt_rtx"):
        if importlib.util.find_spec(flavour) is not None:
            try:
                open_cuda().device()
            except EngineUnavailable:
                return None
            return flavour
    return None


@pytest.mark.gpu
@pytest.mark.timeout(600)
@pytest.mark.skipif(installed_on_a_gpu() is None, reason="no CUDA device, or no tensorrt and cuda-bindings")
def test_a_gpu_computes_what_torch_computes(small_artifact: Path, copied_artifact: Path) -> None:
    flavour = str(installed_on_a_gpu())
    trt = import_tensorrt(flavour)
    artifact = Artifact.load(copied_artifact)
    for name in GRAPHS:
        profile = EngineProfile.for_load("test", (6, 8), 3, 2)
        build_engine(artifact.graphs[name], engine_file(artifact, name), profile, BuildSettings(), trt)
    networks = TensorRtNetworks(artifact, trt, open_cuda())
    reference = load_networks(small_artifact, "torch")
    cases = (
        Case("one object", (6, 8), ((0, 1, 2, 3),), drawn=True),
        Case("two streams, three objects", (6, 8), ((0,), (3,), (1, 2)), batch=2),
    )
    for case in cases:
        for _ in range(3):  # as it is, recorded, launched
            assert [row for row in compare(reference, networks, case) if not row.within(TOLERANCES["fp32"])] == []

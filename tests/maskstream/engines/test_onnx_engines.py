"""The engines that run the ONNX graphs compute what torch computes, at any size, for any number of objects."""

from pathlib import Path

import numpy as np
import pytest

from export.verify import TOLERANCES, Case, clip_overlaps, compare
from maskstream.artifact import Artifact
from maskstream.engines import load_networks, onnxruntime_networks
from maskstream.engines.onnxruntime_networks import OnnxRuntimeNetworks
from maskstream.errors import ArtifactError, EngineUnavailable
from maskstream.networks import Networks

pytestmark = pytest.mark.timeout(600)  # the first test exports the small model
ALL = (0, 1, 2, 3)
CASES = (
    Case("smallest grid", (2, 2), (ALL,)),
    Case("odd and wide", (3, 17), ((0,), (3,), ALL), drawn=True),
    Case("tall, nine objects", (11, 4), (ALL,) * 9, drawn=True),
    Case("three streams, an object nobody has seen", (5, 5), ((), (1, 2)), batch=3),
)


@pytest.fixture(scope="module")
def reference(small_artifact: Path) -> Networks:
    return load_networks(small_artifact, "torch")


@pytest.fixture(scope="module", params=["onnxruntime", "openvino"])
def engine(small_artifact: Path, request: pytest.FixtureRequest) -> Networks:
    pytest.importorskip(request.param)
    return load_networks(small_artifact, request.param, threads=1)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_output_equals_torch(reference: Networks, engine: Networks, case: Case) -> None:
    tolerance = TOLERANCES["fp32" if engine.precision == "fp32" else "fp16"]
    rows = list(compare(reference, engine, case))
    assert [row.output for row in rows] == ["key", "context", "skip8", "skip4", "value", "decoded", "coarse"]
    assert [row for row in rows if not row.within(tolerance)] == []


def test_masks_along_a_clip_equal_those_of_torch(reference: Networks, engine: Networks) -> None:
    assert clip_overlaps(reference, engine).min() > TOLERANCES["fp32"].mask_iou


def test_an_answer_is_not_overwritten_by_the_next_call(engine: Networks) -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 256, (2, 1, 96, 96, 3), dtype=np.uint8)
    key = engine.encode_frame(first).key
    before = key.copy()
    engine.encode_frame(second)
    np.testing.assert_array_equal(key, before)


def test_a_provider_that_this_build_lacks_is_refused(small_artifact: Path) -> None:
    with pytest.raises(EngineUnavailable, match="has no TensorrtExecutionProvider, only"):
        OnnxRuntimeNetworks(Artifact.load(small_artifact), provider="TensorrtExecutionProvider")


def test_a_session_that_fell_back_to_the_cpu_is_refused(small_artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime_networks.onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    runtime = onnxruntime_networks.onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime_networks.onnxruntime,
        "InferenceSession",
        lambda file, options, providers: runtime(file, options, providers=["CPUExecutionProvider"]),
    )
    with pytest.raises(EngineUnavailable, match="CUDAExecutionProvider was asked for and CPUExecutionProvider would"):
        OnnxRuntimeNetworks(Artifact.load(small_artifact), provider="CUDAExecutionProvider")


def test_two_builds_of_onnx_runtime_are_refused(small_artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Installed:
        def __init__(self, name: str) -> None:
            self.metadata = {"Name": name}

    both = [Installed("onnxruntime"), Installed("onnxruntime-gpu")]
    monkeypatch.setattr(onnxruntime_networks.importlib.metadata, "distributions", lambda: both)
    with pytest.raises(EngineUnavailable, match="are both installed"):
        OnnxRuntimeNetworks(Artifact.load(small_artifact))


def test_a_graph_that_does_not_load_is_named(small_artifact: Path, tmp_path: Path) -> None:
    artifact = Artifact.load(small_artifact)
    broken = tmp_path / "segment.onnx"
    broken.write_bytes(b"not a graph")
    artifact.graphs["segment"] = broken
    with pytest.raises(ArtifactError, match=r"segment\.onnx: ONNX Runtime cannot load it"):
        OnnxRuntimeNetworks(artifact)


def test_sessions_do_not_spin_and_use_the_threads_given() -> None:
    options = onnxruntime_networks.session_options(3)
    assert options.intra_op_num_threads == 3
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"

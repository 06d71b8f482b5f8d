"""The engines that run the ONNX graphs compute what torch computes, at any size, for any number of objects."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from export.verify import TOLERANCES, Case, clip_overlaps, compare, tolerance_of
from maskstream.artifact import Artifact
from maskstream.engines import load_networks, onnxruntime_networks, onnxruntime_providers
from maskstream.engines.onnxruntime_networks import OnnxRuntimeNetworks
from maskstream.engines.onnxruntime_providers import Provider
from maskstream.errors import EngineUnavailable
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
    tolerance = tolerance_of(engine.precision)
    rows = list(compare(reference, engine, case))
    assert [row.output for row in rows] == ["key", "context", "skip8", "skip4", "value", "decoded", "coarse"]
    assert [row for row in rows if not row.within(tolerance)] == []


def test_masks_along_a_clip_equal_those_of_torch(reference: Networks, engine: Networks) -> None:
    assert clip_overlaps(reference, engine).min() > tolerance_of(engine.precision).mask_iou


def test_an_answer_is_not_overwritten_by_the_next_call(engine: Networks) -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 256, (2, 1, 96, 96, 3), dtype=np.uint8)
    key = engine.encode_frame(first).key
    before = key.copy()
    engine.encode_frame(second)
    np.testing.assert_array_equal(key, before)


@pytest.fixture(params=["onnxruntime_cuda", "onnxruntime_tensorrt"])
def gpu_engine(small_artifact: Path, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch) -> Networks:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    opened = {
        "onnxruntime_cuda": onnxruntime_networks.open_cuda,
        "onnxruntime_tensorrt": onnxruntime_networks.open_tensorrt,
    }
    try:
        return opened[request.param](Artifact.load(small_artifact), None)
    except EngineUnavailable as error:
        pytest.skip(str(error))


@pytest.mark.gpu
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_gpu_computes_what_torch_computes(reference: Networks, gpu_engine: Networks, case: Case) -> None:
    for _ in range(2):  # with outputs as they come, and with outputs bound
        rows = list(compare(reference, gpu_engine, case))
        assert [row for row in rows if not row.within(TOLERANCES["fp32"])] == []


def test_a_bound_session_serves_as_an_ordinary_one_does(
    reference: Networks, small_artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that a GPU's provider goes through but the GPU."""
    monkeypatch.setattr(onnxruntime_providers, "refuse_work_on_the_cpu", lambda *_: None)
    bound = Provider("CPUExecutionProvider", "onnxruntime_bound", "cpu")
    networks = OnnxRuntimeNetworks(Artifact.load(small_artifact), 1, bound)
    assert networks.engine == "onnxruntime_bound"
    for case in (*CASES[:2], *CASES[:2]):
        rows = list(compare(reference, networks, case))
        assert [row for row in rows if not row.within(TOLERANCES["fp32"])] == []


def test_work_that_a_provider_leaves_to_the_cpu_is_seen_in_the_artifacts_own_graphs(small_artifact: Path) -> None:
    idle = Provider("AzureExecutionProvider", "onnxruntime_idle", "cpu")
    if idle.name not in onnxruntime.get_available_providers():
        pytest.skip("a build without the provider that takes nothing")
    with pytest.raises(
        EngineUnavailable, match=r"encode_frame\.onnx: AzureExecutionProvider leaves \d+ nodes .* them Conv"
    ):
        OnnxRuntimeNetworks(Artifact.load(small_artifact), 1, idle)

"""ONNX Runtime runs on the provider that was asked for or not at all: each way in which it would not, and what is said.

This build of it has no CUDA. Its Azure provider takes no node of any graph and is listed all the same: just what a
provider does that takes a session and leaves the work to the CPU.
"""

import ctypes
import importlib.metadata
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from maskstream.engines import onnxruntime_providers as providers
from maskstream.engines.onnxruntime_providers import CPU, CUDA, Provider
from maskstream.errors import ArtifactError, EngineUnavailable

IDLE = Provider("AzureExecutionProvider", "onnxruntime_idle", "cpu")
pytestmark = pytest.mark.skipif(
    IDLE.name not in onnxruntime.get_available_providers(), reason="a build without the provider that takes nothing"
)


def graph_file(folder: Path, operator: str, inputs: int) -> Path:
    names = ["a", "b"][:inputs]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 2]) for name in names]
    found = helper.make_tensor_value_info("c", TensorProto.FLOAT, [2, 2])
    graph = helper.make_graph([helper.make_node(operator, names, ["c"], name="only")], "graph", ports, [found])
    file = folder / f"{operator}.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), file)
    return file


@pytest.fixture
def product(tmp_path: Path) -> Path:
    return graph_file(tmp_path, "MatMul", 2)


def test_a_provider_that_leaves_the_work_to_the_cpu_is_refused(product: Path) -> None:
    with pytest.raises(
        EngineUnavailable, match=r"MatMul\.onnx: AzureExecutionProvider leaves 1 nodes to the CPU .* them MatMul only;"
    ):
        providers.open_session(product, IDLE, 1)


def test_the_cpu_may_keep_what_weighs_nothing(tmp_path: Path) -> None:
    session = providers.open_session(graph_file(tmp_path, "Neg", 1), IDLE, 1)
    (found,) = session.run(None, {"a": np.ones((2, 2), np.float32)})
    assert found.tolist() == [[-1, -1], [-1, -1]]


def test_the_runtimes_own_switch_refuses_what_weighs_nothing_as_well(tmp_path: Path) -> None:
    """Why it is not used: the nodes that every graph of varying shapes has on the CPU would be refused."""
    options = providers.session_options(1)
    options.log_severity_level = 4
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    with pytest.raises(Exception, match="graph nodes that are assigned to the default CPU EP, but fallback to CPU EP"):
        onnxruntime.InferenceSession(graph_file(tmp_path, "Neg", 1), options, providers=[IDLE.name])


def test_a_session_that_fell_back_to_the_cpu_is_refused(product: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = onnxruntime.InferenceSession

    def fall_back(file: Path, options: object, **asked: object) -> onnxruntime.InferenceSession:
        assert asked["enable_fallback"] == 0, "a run that fails must not be repeated on the CPU"
        return opened(file, options, providers=[CPU.name])

    monkeypatch.setattr(onnxruntime, "InferenceSession", fall_back)
    with pytest.raises(EngineUnavailable, match="CUDAExecutionProvider was asked for and CPUExecutionProvider would"):
        providers.open_session(product, CUDA, 1)


def test_a_run_that_fails_is_an_error_and_the_session_stays_where_it_was(product: Path) -> None:
    session = providers.open_session(product, CPU, 1)
    assert session._enable_fallback is False
    with pytest.raises(Exception, match="INVALID_ARGUMENT"):
        session.run(None, {"a": np.ones((2, 2), np.float32), "b": np.ones((3, 2), np.float32)})
    assert session.get_providers() == [CPU.name]


def test_a_graph_that_does_not_load_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "segment.onnx"
    broken.write_bytes(b"not a graph")
    with pytest.raises(ArtifactError, match=r"segment\.onnx: ONNX Runtime cannot load it"):
        providers.open_session(broken, CPU, 1)


def test_a_provider_that_does_not_start_is_no_fault_of_the_graph(product: Path, monkeypatch) -> None:
    def refuse(*_: object, **asked: object) -> None:
        raise RuntimeError("CUDA failure 100: no CUDA-capable device is detected")

    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)
    with pytest.raises(EngineUnavailable, match=r"CUDAExecutionProvider cannot start .*CUDA failure 100.*nvidia-smi"):
        providers.open_session(product, CUDA, 1)


@pytest.mark.parametrize("provider", [CUDA, Provider("TensorrtExecutionProvider", "onnxruntime_tensorrt", "cuda")])
def test_a_provider_that_this_build_lacks_is_refused(provider: Provider) -> None:
    if provider.name in onnxruntime.get_available_providers():
        pytest.skip("a build with it")
    with pytest.raises(EngineUnavailable, match=rf"has no {provider.name}, only .*; uninstall .* maskstream\[gpu\]"):
        providers.prepare(provider)


def test_two_builds_of_onnx_runtime_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    both = [SimpleNamespace(metadata={"Name": name}) for name in ("onnxruntime", "onnxruntime-gpu")]
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: both)
    with pytest.raises(EngineUnavailable, match="are both installed"):
        providers.prepare(CPU)


def test_cuda_libraries_that_came_as_packages_are_loaded_before_a_session_is(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[bool] = []
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA.name, CPU.name])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: loaded.append(True))
    providers.prepare(CPU)
    assert loaded == []
    providers.prepare(CUDA)
    assert loaded == [True]


def test_sessions_do_not_spin_and_use_the_threads_given(product: Path) -> None:
    options = providers.open_session(product, CPU, 3).get_session_options()
    assert options.intra_op_num_threads == 3
    for pool in ("intra_op", "inter_op"):
        assert options.get_session_config_entry(f"session.{pool}.allow_spinning") == "0"


class Loader:
    """ctypes.CDLL on a machine that has the libraries in `there`."""

    def __init__(self, *there: str) -> None:
        self.there, self.loaded = there, []

    def __call__(self, name: str, mode: int = 0) -> None:
        if not any(name.endswith(one) for one in self.there):
            raise OSError(f"{name}: cannot open shared object file")
        assert mode == ctypes.RTLD_GLOBAL, "the provider finds it only so"
        self.loaded.append(name)


TEN = ("libnvinfer.so.10", "libnvinfer_plugin.so.10", "libnvonnxparser.so.10")


def test_tensorrt_11_is_told_to_be_the_wrong_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", Loader("libnvinfer.so.11"))
    monkeypatch.setattr(importlib.metadata, "version", lambda name: {"tensorrt": "11.4.0.106"}[name])
    with pytest.raises(
        EngineUnavailable,
        match=r"needs TensorRT 10, and libnvinfer\.so\.10 does not load \(.*\); tensorrt 11\.4\.0\.106 is installed; "
        r"pip install 'tensorrt>=10,<11'$",
    ):
        providers.load_tensorrt()


def test_no_tensorrt_at_all_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", Loader())
    monkeypatch.setattr(providers, "_other_tensorrt", lambda: "")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["TensorrtExecutionProvider"])
    with pytest.raises(EngineUnavailable, match=r"libnvinfer\.so\.10 does not load .*; pip install 'tensorrt>=10,<11'"):
        providers.prepare(Provider("TensorrtExecutionProvider", "onnxruntime_tensorrt", "cpu"))


def test_a_parser_that_is_missing_is_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", Loader(*TEN[:2]))
    with pytest.raises(EngineUnavailable, match=r"libnvonnxparser\.so\.10 does not load"):
        providers.load_tensorrt()


def test_tensorrt_10_is_loaded_from_its_package_before_the_loaders_path(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / TEN[0]).touch()
    spec = ModuleSpec("tensorrt_libs", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(providers.importlib.util, "find_spec", lambda name: spec)
    loader = Loader(*TEN)
    monkeypatch.setattr(ctypes, "CDLL", loader)
    providers.load_tensorrt()
    assert loader.loaded == [str(tmp_path / TEN[0]), *TEN[1:]]


def test_tensorrt_keeps_what_it_built_and_takes_its_precision_from_the_artifact(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache = providers.engine_cache("0123456789ab")
    assert cache == tmp_path / "maskstream" / "onnxruntime_tensorrt" / "0123456789ab"
    half, full = providers.tensorrt("fp16", cache), providers.tensorrt("fp32", cache)
    assert cache.is_dir()
    assert (half.options["trt_fp16_enable"], full.options["trt_fp16_enable"]) == ("1", "0")
    assert half.options["trt_engine_cache_path"] == str(cache)
    assert half.beside == (CUDA,)


def test_a_cache_that_cannot_be_made_is_told_with_what_to_set(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EngineUnavailable, match=r"cannot be made .*XDG_CACHE_HOME"):
        providers.tensorrt("fp32", tmp_path / "file" / "cache")

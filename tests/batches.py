"""Batches of the small model, for the tests of what makes, tells and checks them. TensorRT's engines are doubles."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from export import batch as batch_module
from export import build as build_module
from export.batch import Batch, Builder
from export.graphs import GraphDefinition
from export.targets import Build
from maskstream.engine_sidecar import EngineProfile, EngineSidecar, Machine
from maskstream.engines import load_networks
from maskstream.errors import EngineUnavailable
from maskstream.networks import Networks

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


@pytest.fixture
def on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine has one, whatever this machine has."""
    monkeypatch.setattr(batch_module, "gpu_is_here", lambda: True)


def fake_builder(onnx_files: dict[str, Path], out: Path, build: Build) -> None:
    for name in onnx_files:
        (out / f"{name}.engine").write_text(build.name)


def recording_builder(onnx_files: dict[str, Path], out: Path, build: Build) -> None:
    """Engines that are none, with true records of them."""
    fake_builder(onnx_files, out, build)
    profile = EngineProfile.for_load("any", (6, 8), 2, 1)
    for name in onnx_files:
        EngineSidecar(name, "aa", "bb", Machine(build.engine, "1.0"), ("8.9",), profile).write(out / f"{name}.engine")


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

"""The OpenVINO engine: the same ONNX graphs, compiled for the CPU it finds. An optional dependency.

On a CPU with bfloat16 units everything is asked for in bfloat16, 3 to 5 times as fast; elsewhere bfloat16 is emulated
and several times slower, so it is asked for only where OpenVINO lists it among what the device is good at. Layers that
an int8 artifact has quantised run in int8 whatever is asked for, by VNNI or AMX units where there are any.

Graphs are compiled for any shape. `encode_frame`, which costs the most and has a shape for each camera's size alone, is
compiled once more for the first few sizes of single frames: the same answers, a tenth sooner.
"""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from maskstream.artifact import GRAPHS, Artifact
from maskstream.engines.graph_inputs import cores, encode_mask_inputs, segment_inputs
from maskstream.errors import ArtifactError
from maskstream.networks import F32, FrameFeatures, MemoryView, SoftMasks

# Importing openvino sends a usage report over the network, from a thread of its own, and leaves an id in the home
# folder; without this package it falls back to a stub that does neither.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

import openvino  # noqa: E402

DEVICE = "CPU"
FRAME_SIZES = 3  # that `encode_frame` is compiled for; others, and several frames at once, take the graph for any shape
_NAMES = {"f32": "fp32", "bf16": "bf16", "f16": "fp16"}


class OpenVinoNetworks:
    """Satisfies `Networks`. Not thread-safe: each graph has one inference request."""

    engine = "openvino"

    def __init__(self, artifact: Artifact, threads: int | None = None) -> None:
        """Raises ArtifactError when a graph cannot be compiled."""
        self.spec = artifact.spec
        core = openvino.Core()
        compile_for_here = partial(_compile, core, threads or cores())
        models = {name: _read(core, artifact.graphs[name]) for name in GRAPHS}
        compiled = {name: compile_for_here(artifact.graphs[name], model) for name, model in models.items()}
        running = "+".join(sorted({_running_precision(model) for model in compiled.values()}))
        # The hint tells what is computed in where a graph does not say so itself; an int8 graph does.
        self.precision = "int8" if artifact.precision == "int8" else running
        self._requests = {name: model.create_infer_request() for name, model in compiled.items()}
        # Kept, not read again: the file may be another by the time a new size comes.
        self._any_frames = models["encode_frame"]
        self._compile_frames = partial(compile_for_here, artifact.graphs["encode_frame"])
        self._of_size: dict[tuple[int, ...], openvino.InferRequest] = {}

    def encode_frame(self, frame_BHW3: npt.NDArray[np.uint8]) -> FrameFeatures:
        """See `Networks.encode_frame`."""
        request = self._request_for_frames(frame_BHW3.shape)
        return FrameFeatures(*_answers(request, {"frame": frame_BHW3}))

    def encode_mask(self, features: FrameFeatures, soft_BOHW: F32) -> F32:
        """See `Networks.encode_mask`."""
        (value_BOVN,) = _answers(self._requests["encode_mask"], encode_mask_inputs(features, soft_BOHW))
        return value_BOVN

    def segment(self, features: FrameFeatures, memory: MemoryView) -> SoftMasks:
        """See `Networks.segment`."""
        return SoftMasks(*_answers(self._requests["segment"], segment_inputs(features, memory)))

    def _request_for_frames(self, shape: tuple[int, ...]) -> openvino.InferRequest:
        """No size is ever let go for another: streams of many sizes that take turns would compile at every frame."""
        if shape not in self._of_size and shape[0] == 1 and len(self._of_size) < FRAME_SIZES:
            model = self._any_frames.clone()
            model.reshape(list(shape))
            self._of_size[shape] = self._compile_frames(model).create_infer_request()
        return self._of_size.get(shape, self._requests["encode_frame"])


def _answers(request: openvino.InferRequest, inputs: dict[str, Any]) -> list[F32]:
    # Inputs are read in place; outputs are copied, as the next inference writes into the request's own.
    outputs = request.infer(inputs, share_inputs=True, share_outputs=False)
    return list(outputs.values())


def open_networks(artifact: Artifact, threads: int | None) -> OpenVinoNetworks:
    """The engine as `maskstream.engines` opens it."""
    return OpenVinoNetworks(artifact, threads)


def _read(core: openvino.Core, file: Path) -> openvino.Model:
    try:
        return core.read_model(str(file))
    except RuntimeError as error:
        raise ArtifactError(f"{file}: OpenVINO cannot read it ({error})") from error


def _compile(core: openvino.Core, threads: int, file: Path, model: openvino.Model) -> openvino.CompiledModel:
    """`file` is where the model was read from, for the message. Raises ArtifactError."""
    able = "BF16" in core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")
    precision = "bf16" if able else "f32"
    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
    }
    try:
        return core.compile_model(model, DEVICE, settings)
    except RuntimeError as error:
        raise ArtifactError(f"{file}: OpenVINO cannot compile it ({error})") from error


def _running_precision(compiled: openvino.CompiledModel) -> str:
    """What the device says it computes in, which may differ from what was asked for."""
    said: str = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    return _NAMES.get(said, said)

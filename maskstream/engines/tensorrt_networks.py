"""The TensorRT engine: three engines that `export` built from an artifact's graphs, on a CUDA stream of their own.

Inputs go through pinned memory, so that copies and kernels follow each other on the stream and the host waits once for
each call. Called a second time with the same shapes, a graph is recorded and from then on launched as a whole. The
engines lie in the artifact's folder, each with its record, which is compared before anything is loaded.
"""

import logging
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from maskstream.artifact import GRAPHS, Artifact
from maskstream.engine_sidecar import ENGINE_SUFFIX, FULL, EngineProfile, EngineSidecar, again, check_engine
from maskstream.engines.cuda_runtime import Cuda, open_cuda, pinned_array
from maskstream.engines.graph_inputs import encode_mask_inputs, segment_inputs
from maskstream.engines.tensorrt_library import Messages, import_tensorrt, library_log, running_machine
from maskstream.errors import EngineUnavailable
from maskstream.networks import F32, FrameFeatures, MemoryView, SoftMasks

log = logging.getLogger(__name__)

Shape = tuple[int, ...]


class TensorRtNetworks:
    """Satisfies `Networks`. Not thread-safe: all graphs share one stream, and each its buffers."""

    def __init__(self, artifact: Artifact, trt: Any, cuda: Cuda) -> None:
        """Raises ArtifactError when an engine is missing or damaged, EngineMismatch when it was built for another
        machine, EngineUnavailable when the library does not load it, CudaError when there is no GPU.
        """
        self.spec, self.precision, self.engine = artifact.spec, artifact.precision, trt.__name__
        machine = running_machine(trt, cuda)
        files = {name: engine_file(artifact, name) for name in GRAPHS}
        records = {name: check_engine(files[name], artifact.graphs[name], machine) for name in GRAPHS}
        self.profile: EngineProfile = records["segment"].profile  # for whoever decides how much to ask for
        stream = cuda.create_stream()
        messages = Messages()
        self._logger = library_log(trt, messages)
        self._runtime = trt.Runtime(self._logger)
        self._graphs: dict[str, _Graph] = {}
        self.close = weakref.finalize(self, _close, self._graphs, cuda, stream)
        for name, file in files.items():
            loaded = _load(self._runtime, file, records[name], messages)
            outputs = [port["name"] for port in artifact.manifest["graphs"][name]["outputs"]]
            self._graphs[name] = _Graph(name, loaded, outputs, trt, cuda, stream)

    def encode_frame(self, frame_BHW3: npt.NDArray[np.uint8]) -> FrameFeatures:
        """See `Networks.encode_frame`."""
        return FrameFeatures(*self._graphs["encode_frame"].run({"frame": frame_BHW3}))

    def encode_mask(self, features: FrameFeatures, soft_BOHW: F32) -> F32:
        """See `Networks.encode_mask`."""
        (value_BOVN,) = self._graphs["encode_mask"].run(encode_mask_inputs(features, soft_BOHW))
        return value_BOVN

    def segment(self, features: FrameFeatures, memory: MemoryView) -> SoftMasks:
        """See `Networks.segment`."""
        return SoftMasks(*self._graphs["segment"].run(segment_inputs(features, memory)))


def open_networks(artifact: Artifact, threads: int | None) -> TensorRtNetworks:
    """The engine as `maskstream.engines` opens it; `threads` are of CPUs and mean nothing here."""
    return TensorRtNetworks(artifact, import_tensorrt(FULL), open_cuda())


def engine_file(artifact: Artifact, graph: str) -> Path:
    """Where an artifact has the engine of a graph."""
    return artifact.folder / f"{graph}{ENGINE_SUFFIX}"


def _load(runtime: Any, file: Path, sidecar: EngineSidecar, messages: Messages) -> Any:
    if sidecar.options.version_compatible:
        runtime.engine_host_code_allowed = True  # the lean runtime in the file is code; its hash was checked
    engine = runtime.deserialize_cuda_engine(file.read_bytes())
    if engine is None:
        raise EngineUnavailable(f"{file}: not loaded: {messages.told()}; {again(file)}")
    return engine


def _close(graphs: dict[str, "_Graph"], cuda: Cuda, stream: Any) -> None:
    """Give back all that lies outside Python, in the order in which one needs the other."""
    cuda.synchronize(stream)
    for graph in graphs.values():
        graph.release()
    graphs.clear()
    cuda.destroy_stream(stream)


def _new_context(engine: Any, trt: Any) -> Any:
    """A context; TensorRT-RTX records and launches whole graphs by itself, if it is told to."""
    if not hasattr(trt, "CudaGraphStrategy"):
        return engine.create_execution_context()
    config = engine.create_runtime_config()
    config.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
    return engine.create_execution_context(config)


@dataclass
class _Buffer:
    """Memory of one tensor on both sides. It grows, and never shrinks: `size` bytes are there, `array` uses some."""

    size: int = 0
    device: int = 0
    host: int = 0
    array: npt.NDArray[Any] | None = None

    def fit(self, shape: Shape, dtype: npt.DTypeLike, cuda: Cuda) -> None:
        """Make room for such an array. Nothing may be under way on the stream."""
        needed = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if needed > self.size:
            self.release(cuda)
            self.device, self.host, self.size = cuda.allocate(needed), cuda.allocate_pinned(needed), needed
        self.array = pinned_array(self.host, needed).view(dtype).reshape(shape)

    def release(self, cuda: Cuda) -> None:
        """Give the memory back."""
        self.array = None
        if self.device:
            cuda.free(self.device)
        if self.host:
            cuda.free_pinned(self.host)
        self.size = self.device = self.host = 0


class _Graph:
    """One graph, ready to run: its context, its buffers, and its recording for the shapes it is set to."""

    def __init__(self, name: str, engine: Any, outputs: list[str], trt: Any, cuda: Cuda, stream: Any) -> None:
        self._name, self._engine, self._trt, self._cuda, self._stream = name, engine, trt, cuda, stream
        self._context = _new_context(engine, trt)
        if self._context is None:
            raise EngineUnavailable(f"graph {name}: no context; the GPU has too little memory for its profile")
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        self._inputs = [one for one in names if engine.get_tensor_mode(one) == trt.TensorIOMode.INPUT]
        self._outputs = outputs
        self._buffers = {one: _Buffer() for one in names}
        self._shapes: dict[str, Shape] = {}
        self._records = not hasattr(trt, "CudaGraphStrategy")  # else the library does
        self._recording: Any = None
        self._calls = 0  # with these shapes

    def run(self, inputs: dict[str, npt.NDArray[Any]]) -> list[F32]:
        """Outputs in the graph's order, in arrays of their own. Raises EngineUnavailable for shapes outside the
        profile and for a call that the library refuses, CudaError for a fault of the GPU.
        """
        shapes = {name: inputs[name].shape for name in self._inputs}
        if shapes != self._shapes:
            self._set_shapes(shapes)
        for name in self._inputs:
            np.copyto(self._array(name), inputs[name])
            buffer = self._buffers[name]
            self._cuda.copy_to_device(buffer.device, buffer.host, self._array(name).nbytes, self._stream)
        self._enqueue()
        for name in self._outputs:
            buffer = self._buffers[name]
            self._cuda.copy_to_host(buffer.host, buffer.device, self._array(name).nbytes, self._stream)
        self._cuda.synchronize(self._stream)
        return [self._array(name).copy() for name in self._outputs]

    def release(self) -> None:
        """Give back recording and buffers."""
        self._forget_recording()
        for buffer in self._buffers.values():
            buffer.release(self._cuda)

    def _array(self, name: str) -> npt.NDArray[Any]:
        array = self._buffers[name].array
        assert array is not None, name
        return array

    def _set_shapes(self, shapes: dict[str, Shape]) -> None:
        """Shapes first, as outputs follow from them; then memory; then its address, for every tensor."""
        context = self._context
        self._cuda.synchronize(self._stream)  # a call that failed may have left copies under way
        self._forget_recording()  # it holds the shapes and addresses it was made with
        self._shapes = {}  # a failure in here leaves nothing half set
        for name, shape in shapes.items():
            self._refuse_outside_profile(name, shape)
            self._accepted(context.set_input_shape(name, shape), f"shape {shape} of input {name}")
        unknown = context.infer_shapes()
        self._accepted(not unknown, f"what {', '.join(unknown)} should be")
        for name, buffer in self._buffers.items():
            dtype = self._trt.nptype(self._engine.get_tensor_dtype(name))
            buffer.fit(tuple(context.get_tensor_shape(name)), dtype, self._cuda)
            self._accepted(context.set_tensor_address(name, buffer.device), f"the memory of {name}")
        self._shapes, self._calls = shapes, 0

    def _refuse_outside_profile(self, name: str, shape: Shape) -> None:
        least, _, most = (tuple(one) for one in self._engine.get_tensor_profile_shape(name, 0))
        if len(shape) != len(least) or any(not a <= n <= b for a, n, b in zip(least, shape, most, strict=True)):
            raise EngineUnavailable(
                f"graph {self._name}: its engine takes {name} of shape {least} to {most}, was given {shape}; "
                "build one for this frame size and number of objects and streams: docs/export.md, targets.toml"
            )

    def _enqueue(self) -> None:
        """The first call with new shapes runs as it is, as TensorRT does late work in it; the second is recorded."""
        if self._records and self._recording is None and self._calls == 1:
            self._recording = self._recorded()
        self._calls += 1
        if self._recording is not None:
            self._cuda.launch(self._recording, self._stream)
        else:
            self._execute()

    def _execute(self) -> None:
        self._accepted(self._context.execute_async_v3(int(self._stream)), "to run")

    def _recorded(self) -> Any:
        """The work of one call; None, with a warning, where it cannot be recorded: calls then run as the first did."""
        try:
            return self._cuda.record(self._stream, self._execute)
        except EngineUnavailable as error:
            log.warning("graph %s: runs call by call, since CUDA cannot record it: %s", self._name, error)
            self._records = False
            return None

    def _forget_recording(self) -> None:
        if self._recording is not None:
            self._cuda.destroy_recorded(self._recording)
        self._recording = None

    def _accepted(self, answer: bool, what: str) -> None:
        """The library answers False where others raise."""
        if not answer:
            raise EngineUnavailable(f"graph {self._name}: {self._trt.__name__} refused {what}")

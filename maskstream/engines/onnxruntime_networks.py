"""The ONNX Runtime engines: three sessions, one for each graph of an artifact, on the CPU or on a GPU.

Which provider runs, and that no other does, is the affair of `onnxruntime_providers`. Threads do not spin while they
wait: three pools that spin in turn take each other's cores (two of them cost 2.1 times the time of both alone).
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from maskstream.artifact import GRAPHS, Artifact
from maskstream.engines.graph_inputs import cores, encode_mask_inputs, segment_inputs
from maskstream.engines.onnxruntime_binding import BoundGraph
from maskstream.engines.onnxruntime_providers import CPU, CUDA, Provider, engine_cache, open_session, prepare, tensorrt
from maskstream.engines.shape_cache import Inputs
from maskstream.networks import F32, FrameFeatures, MemoryView, SoftMasks

Run = Callable[[Inputs], list[F32]]


class OnnxRuntimeNetworks:
    """Satisfies `Networks` on one provider. Not thread-safe on a GPU, where calls share buffers."""

    def __init__(self, artifact: Artifact, threads: int | None = None, provider: Provider = CPU) -> None:
        """Raises EngineUnavailable when `provider` does not run here, ArtifactError when a graph cannot be loaded."""
        prepare(provider)
        self.spec, self.precision, self.engine = artifact.spec, artifact.precision, provider.engine
        self._graphs = {name: _open(artifact, name, provider, threads or cores()) for name in GRAPHS}

    def encode_frame(self, frame_BHW3: npt.NDArray[np.uint8]) -> FrameFeatures:
        """See `Networks.encode_frame`."""
        return FrameFeatures(*self._graphs["encode_frame"]({"frame": frame_BHW3}))

    def encode_mask(self, features: FrameFeatures, soft_BOHW: F32) -> F32:
        """See `Networks.encode_mask`."""
        (value_BOVN,) = self._graphs["encode_mask"](encode_mask_inputs(features, soft_BOHW))
        return value_BOVN

    def segment(self, features: FrameFeatures, memory: MemoryView) -> SoftMasks:
        """See `Networks.segment`."""
        return SoftMasks(*self._graphs["segment"](segment_inputs(features, memory)))


def open_networks(artifact: Artifact, threads: int | None) -> OnnxRuntimeNetworks:
    """The engine as `maskstream.engines` opens it: on the CPU."""
    return OnnxRuntimeNetworks(artifact, threads)


def open_cuda(artifact: Artifact, threads: int | None) -> OnnxRuntimeNetworks:
    """The engine on a GPU, by CUDA and cuDNN."""
    return OnnxRuntimeNetworks(artifact, threads, CUDA)


def open_tensorrt(artifact: Artifact, threads: int | None) -> OnnxRuntimeNetworks:
    """The engine on a GPU, by TensorRT; what that does not take runs by CUDA."""
    return OnnxRuntimeNetworks(artifact, threads, tensorrt(artifact.precision, engine_cache(artifact.version)))


def _open(artifact: Artifact, graph: str, provider: Provider, threads: int) -> Run:
    session = open_session(artifact.graphs[graph], provider, threads)
    if provider is not CPU:
        return BoundGraph(session, provider.device).run

    def run(inputs: Inputs) -> list[F32]:
        outputs: list[F32] = session.run(None, inputs)
        return outputs

    return run

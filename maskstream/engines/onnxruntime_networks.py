"""The ONNX Runtime engine: three sessions, one for each graph of an artifact.

ONNX Runtime answers a request it cannot meet by running on the CPU with a line in its log; here the provider that was
asked for is the one that runs, or nothing does. Its threads do not spin while they wait: three pools that spin in turn
take each other's cores (two of them cost 2.1 times the time of both alone).
"""

import importlib.metadata
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from maskstream.artifact import GRAPHS, Artifact
from maskstream.engines.graph_inputs import cores, encode_mask_inputs, segment_inputs
from maskstream.errors import ArtifactError, EngineUnavailable
from maskstream.networks import F32, FrameFeatures, MemoryView, SoftMasks

CPU = "CPUExecutionProvider"
_ERRORS_ONLY = 3  # of ONNX Runtime's log levels


class OnnxRuntimeNetworks:
    """Satisfies `Networks` on one provider. Thread-safe, as its sessions are."""

    engine = "onnxruntime"

    def __init__(self, artifact: Artifact, threads: int | None = None, provider: str = CPU) -> None:
        """Raises EngineUnavailable when `provider` does not run here, ArtifactError when a graph cannot be loaded."""
        _refuse_both_builds()
        self.spec = artifact.spec
        self.precision = artifact.precision
        options = session_options(threads or cores())
        self._sessions = {name: _open_session(artifact, name, options, provider) for name in GRAPHS}

    def encode_frame(self, frame_BHW3: npt.NDArray[np.uint8]) -> FrameFeatures:
        """See `Networks.encode_frame`."""
        return FrameFeatures(*self._run("encode_frame", {"frame": frame_BHW3}))

    def encode_mask(self, features: FrameFeatures, soft_BOHW: F32) -> F32:
        """See `Networks.encode_mask`."""
        (value_BOVN,) = self._run("encode_mask", encode_mask_inputs(features, soft_BOHW))
        return value_BOVN

    def segment(self, features: FrameFeatures, memory: MemoryView) -> SoftMasks:
        """See `Networks.segment`."""
        return SoftMasks(*self._run("segment", segment_inputs(features, memory)))

    def _run(self, graph: str, inputs: dict[str, Any]) -> list[F32]:
        outputs: list[F32] = self._sessions[graph].run(None, inputs)
        return outputs


def open_networks(artifact: Artifact, threads: int | None) -> OnnxRuntimeNetworks:
    """The engine as `maskstream.engines` opens it: on the CPU."""
    return OnnxRuntimeNetworks(artifact, threads)


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """Options for a session that shares its cores with others."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _open_session(
    artifact: Artifact, graph: str, options: onnxruntime.SessionOptions, provider: str
) -> onnxruntime.InferenceSession:
    available = onnxruntime.get_available_providers()
    if provider not in available:
        raise EngineUnavailable(f"this onnxruntime has no {provider}, only {', '.join(available)}; see docs/export.md")
    try:
        session = onnxruntime.InferenceSession(artifact.graphs[graph], options, providers=[provider])
    except Exception as error:
        raise ArtifactError(f"{artifact.graphs[graph]}: ONNX Runtime cannot load it ({error})") from error
    running = session.get_providers()[0]
    if running != provider:
        raise EngineUnavailable(
            f"{provider} was asked for and {running} would have run: its libraries do not load here"
        )
    return session


def _refuse_both_builds() -> None:
    """Both builds write the same package, and which one runs depends on the order of installation."""
    names = {str(found.metadata["Name"]).lower() for found in importlib.metadata.distributions()}
    if {"onnxruntime", "onnxruntime-gpu"} <= names:
        raise EngineUnavailable(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other; uninstall both, "
            "then install one: maskstream[cpu] or maskstream[gpu]"
        )

"""Networks out of graphs in memory: what calibration and the choice of layers run, before there is any artifact.

Graphs are interchangeable one by one, so a trial that changes a layer of one graph opens no other again.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto

from maskstream.engines.graph_inputs import cores, encode_mask_inputs, segment_inputs
from maskstream.engines.onnxruntime_library import onnxruntime
from maskstream.networks import F32, FrameFeatures, MemoryView, NetworkSpec, SoftMasks

Run = Callable[[dict[str, Any]], list[F32]]  # inputs of a graph by name -> its outputs, in its order

_ERRORS_ONLY = 3  # of ONNX Runtime's log levels


class TrialNetworks:
    """Satisfies `Networks` by one `Run` for each graph."""

    engine = "onnxruntime"

    def __init__(self, spec: NetworkSpec, runs: Mapping[str, Run], precision: str) -> None:
        self.spec, self.precision = spec, precision
        self._runs = runs

    def encode_frame(self, frame_BHW3: npt.NDArray[np.uint8]) -> FrameFeatures:
        """See `Networks.encode_frame`."""
        return FrameFeatures(*self._runs["encode_frame"]({"frame": frame_BHW3}))

    def encode_mask(self, features: FrameFeatures, soft_BOHW: F32) -> F32:
        """See `Networks.encode_mask`."""
        (value_BOVN,) = self._runs["encode_mask"](encode_mask_inputs(features, soft_BOHW))
        return value_BOVN

    def segment(self, features: FrameFeatures, memory: MemoryView) -> SoftMasks:
        """See `Networks.segment`."""
        return SoftMasks(*self._runs["segment"](segment_inputs(features, memory)))


def run_of(model: ModelProto) -> Run:
    """A graph on ONNX Runtime, on all CPU cores of this process."""
    session = open_session(model)

    def run(inputs: dict[str, Any]) -> list[F32]:
        outputs: list[F32] = session.run(None, inputs)
        return outputs

    return run


def open_session(model: ModelProto) -> onnxruntime.InferenceSession:
    """A session of a graph in memory. Its threads do not spin while they wait, as several sessions take turns."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores()
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

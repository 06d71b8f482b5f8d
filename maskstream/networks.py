"""The three networks as the tracker sees them: stateless functions over arrays.

Torch, ONNX Runtime, OpenVINO and TensorRT each satisfy `Networks`; so does a ten-line fake in the tests. Normalisation
is inside: what goes in is a uint8 RGB frame at working size, so training and serving cannot disagree.

B streams, O objects, T bank slots, N tokens of one frame (h * w), K key channels, V value channels.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class NetworkSpec:
    """What a set of networks promises about its shapes; written in the artifact's manifest."""

    name: str
    stride: int  # pixels between neighbouring tokens
    mask_stride: int  # pixels between neighbouring soft-mask values that `segment` returns
    key_channels: int
    value_channels: int
    short_side: int  # pixels; the working size the networks were made for
    capacity: int  # slots in the memory bank; training, export and serving share it
    memory_stride: int  # frames between two kept memory frames


class FrameFeatures(NamedTuple):
    """All that is known of one frame before any object; float32 arrays, batch axis first."""

    key: F32  # [B, K, h, w] L2-normalised over K; query when read, key when stored
    context: F32  # [B, C16, h, w] features for mask encoder and decoder
    skip8: F32  # [B, C8, H/8, W/8]
    skip4: F32  # [B, C4, H/4, W/4]


class MemoryView(NamedTuple):
    """The bank as `segment` reads it; constant shapes, invalid slots masked."""

    key: F32  # [B, K, T, N] channels before slots: one matrix product reads all slots at once
    value: F32  # [B, O, V, T, N]
    valid: F32  # [B, O, T] the trust in the slot, up to 1, where it holds this object, else 0
    age: F32  # [B, T] frames since the slot was written; far slots bind position less


class SoftMasks(NamedTuple):
    """Probabilities at `mask_stride`, objects only; background is 1 - sum over objects."""

    decoded: F32  # [B, O, H/4, W/4] the answer
    coarse: F32  # [B, O, H/4, W/4] what affinity alone propagates, before the decoder


class Networks(Protocol):
    """Stateless: the same input gives the same output, whatever ran before. Not thread-safe: one thread calls it."""

    spec: NetworkSpec
    engine: str  # "torch", "onnxruntime", ...
    precision: str  # "fp32", "fp16", "bf16", "int8"

    def encode_frame(self, frame_BHW3: npt.NDArray[np.uint8]) -> FrameFeatures:
        """Features of frames already at working size (sides are multiples of `spec.stride`)."""
        ...

    def encode_mask(self, features: FrameFeatures, soft_BOHW: F32) -> F32:
        """Values float32 [B, O, V, N] of each object; `soft_BOHW` has the size of `skip4`."""
        ...

    def segment(self, features: FrameFeatures, memory: MemoryView) -> SoftMasks:
        """Masks of the frame behind `features`, read from `memory`."""
        ...

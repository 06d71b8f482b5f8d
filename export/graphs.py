"""The three graphs: which part of the segmenter each computes, and the name, type and shape of all it reads and writes.

Shapes are written once, in symbols, and serve four readers: the exporter's dynamic axes, the example it traces, the
manifest, and the checks. Every graph reads and writes float32 (and uint8 frames) whatever it computes in, so engines of
all precisions are called alike.
"""

# B streams, O objects, h and w tokens of a frame by rows and columns, T bank slots, V value channels

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from maskstream.model.config import MASK_STRIDE, ModelConfig
from maskstream.model.segmenter import Features, Segmenter

Shape = tuple[int | str, ...]  # a number, an axis ("B", "O", "h", "w") or a multiple of one ("4*h")


@dataclass(frozen=True)
class Port:
    """One named input or output of a graph."""

    name: str
    shape: Shape
    dtype: str = "float32"

    def size(self, axes: dict[str, int]) -> tuple[int, ...]:
        """The shape in numbers, for these lengths of the axes."""
        return tuple(side if isinstance(side, int) else _length(side, axes) for side in self.shape)


@dataclass(frozen=True)
class GraphDefinition:
    """A module and its ports, in the order of its `forward`."""

    name: str
    module: nn.Module
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


class EncodeFrame(nn.Module):
    """Graph `encode_frame`: see `Networks.encode_frame`."""

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        self.segmenter = segmenter

    def forward(self, frame: Tensor) -> tuple[Tensor, ...]:
        return tuple(feature.float() for feature in self.segmenter.encode_frame(frame))


class EncodeMask(nn.Module):
    """Graph `encode_mask`: see `Networks.encode_mask`."""

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        self.segmenter, self.dtype = segmenter, _dtype(segmenter)

    def forward(self, context: Tensor, soft_masks: Tensor) -> Tensor:
        return self.segmenter.encode_mask(context.to(self.dtype), soft_masks.to(self.dtype)).float()


class Segment(nn.Module):
    """Graph `segment`: see `Networks.segment`. Keys, validity and age stay float32: the affinity is computed in it."""

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        self.segmenter, self.dtype = segmenter, _dtype(segmenter)

    def forward(  # noqa: PLR0913 - the ports of the graph
        self,
        key: Tensor,
        context: Tensor,
        skip8: Tensor,
        skip4: Tensor,
        bank_key: Tensor,
        bank_value: Tensor,
        valid: Tensor,
        age: Tensor,
    ) -> tuple[Tensor, Tensor]:
        features = Features(key, context.to(self.dtype), skip8.to(self.dtype), skip4.to(self.dtype))
        value_BOVTN = bank_value.to(self.dtype).flatten(4)
        decoded, coarse = self.segmenter.segment(features, bank_key.flatten(3), value_BOVTN, valid, age)
        return decoded.float(), coarse.float()


def graph_definitions(segmenter: Segmenter) -> tuple[GraphDefinition, ...]:
    """The graphs of a segmenter in evaluation mode; its parameters' type (fp32, fp16) is what they compute in."""
    config = segmenter.config
    spec = config.spec()
    key, context, skip8, skip4 = features = _feature_ports(config)
    mask: Shape = ("B", "O", f"{config.stride // MASK_STRIDE}*h", f"{config.stride // MASK_STRIDE}*w")
    frame = Port("frame", ("B", f"{config.stride}*h", f"{config.stride}*w", 3), "uint8")
    bank = (
        Port("bank_key", ("B", spec.key_channels, spec.capacity, "h", "w")),
        Port("bank_value", ("B", "O", spec.value_channels, spec.capacity, "h", "w")),
        Port("valid", ("B", "O", spec.capacity)),
        Port("age", ("B", spec.capacity)),
    )
    value = Port("value", ("B", "O", spec.value_channels, "h*w"))
    masks = (Port("decoded", mask), Port("coarse", mask))
    return (
        GraphDefinition("encode_frame", EncodeFrame(segmenter), (frame,), features),
        GraphDefinition("encode_mask", EncodeMask(segmenter), (context, Port("soft_masks", mask)), (value,)),
        GraphDefinition("segment", Segment(segmenter), (key, context, skip8, skip4, *bank), masks),
    )


def _feature_ports(config: ModelConfig) -> tuple[Port, Port, Port, Port]:
    eighth, quarter = config.stride // 8, config.stride // 4
    return (
        Port("key", ("B", config.spec().key_channels, "h", "w")),
        Port("context", ("B", config.context_channels, "h", "w")),
        Port("skip8", ("B", config.skip8_channels, *_sides(eighth))),
        Port("skip4", ("B", config.skip4_channels, *_sides(quarter))),
    )


def _sides(factor: int) -> tuple[str, str]:
    return ("h", "w") if factor == 1 else (f"{factor}*h", f"{factor}*w")


def _length(side: str, axes: dict[str, int]) -> int:
    """Length of "h", "4*h" or "h*w"."""
    length = 1
    for factor in side.split("*"):
        length *= int(factor) if factor.isdigit() else axes[factor]
    return length


def _dtype(segmenter: Segmenter) -> torch.dtype:
    return next(segmenter.parameters()).dtype

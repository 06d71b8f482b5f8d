"""The first convolution in a form that int8 is fast at: bytes of the frame go in as they are, four pixels at a time.

Three channels are what runtimes are slowest at: they gather each of 49 places of a 7 x 7 kernel by three bytes, and
normalise value by value. So each 2 x 2 pixels become one place of four times the channels, and normalisation moves
into the kernel: a frame's bytes are 8-bit numbers already, of scale 1, and lose nothing. What lies beyond the rim of
the frame is then one grey for all channels, where it was the mean of each; that is what is not exactly as before.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

Array = npt.NDArray[np.float64]

PIXELS = "stem_pixels"  # what the rewritten convolution reads: bytes less the grey
_GREY = "stem_grey"
_SIDE = 2  # pixels of a place, each way
_NORMALISING = ("Sub", "Div", "Mul", "Add")
_FAR = np.iinfo(np.int64).max


@dataclass(frozen=True)
class _Stem:
    """Frame [B, H, W, C] -> `path` (transposed, cast, scaled and shifted) -> `convolution`."""

    frame: str
    path: tuple[NodeProto, ...]
    scale: Array  # [C]
    shift: Array  # [C]
    convolution: NodeProto


def gather_pixels(model: ModelProto) -> bool:
    """Rewrite the stem of a folded graph in place. False, and nothing is changed, if it is none that is known here."""
    stem = _find(model)
    if stem is None:
        return False
    attributes = _attributes(stem.convolution)
    top, left = attributes["pads"][:2]
    kernel_OCyx = _weight(model, stem.convolution.input[1])
    grey = float(np.clip(np.round((-stem.shift / stem.scale).mean()), 0, 255))
    bias_O = (kernel_OCyx * (stem.shift + grey * stem.scale)[:, None, None]).sum(axis=(1, 2, 3))
    if len(stem.convolution.input) > 2:
        bias_O += _weight(model, stem.convolution.input[2])
    kernel_OCyx, top, left = _gathered(kernel_OCyx * stem.scale[:, None, None], top, left)
    names = [f"{stem.convolution.input[1]}_gathered", f"{stem.convolution.input[1]}_grey"]
    for name, values in zip((*names, _GREY), (kernel_OCyx, bias_O, np.array(grey)), strict=True):
        _add_weight(model, name, values.astype(np.float32))
    height, width = kernel_OCyx.shape[2:]
    convolution = helper.make_node(
        "Conv",
        [PIXELS, *names],
        list(stem.convolution.output),
        stem.convolution.name,
        kernel_shape=[height, width],
        pads=[top, left, height - 1 - top, width - 1 - left],  # one output for each place
        strides=[1, 1],
    )
    for node in (*stem.path, stem.convolution):
        model.graph.node.remove(node)
    for place, node in enumerate((*_gather(model, stem.frame), convolution)):
        model.graph.node.insert(place, node)
    return True


def pixel_range(model: ModelProto) -> dict[str, tuple[float, float]]:
    """The range of `PIXELS` that makes its 8-bit numbers the bytes of the frame; empty without a rewritten stem."""
    grey = next((float(numpy_helper.to_array(w)) for w in model.graph.initializer if w.name == _GREY), None)
    return {} if grey is None else {PIXELS: (-grey, 255 - grey)}


def feed_bytes(model: ModelProto) -> None:
    """In a quantised graph, give the stem the bytes themselves: converting them there and back changes nothing."""
    readers = [node for node in model.graph.node if PIXELS in node.input]
    if [node.op_type for node in readers] != ["QuantizeLinear"]:
        return  # the stem is left in float
    producers = {name: node for node in model.graph.node for name in node.output}
    shifted = producers[PIXELS]
    cast = producers[shifted.input[0]]
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            if name == readers[0].output[0]:
                node.input[place] = cast.input[0]
    for node in (readers[0], shifted, cast):
        model.graph.node.remove(node)


def _gather(model: ModelProto, frame: str) -> list[NodeProto]:
    """uint8 [B, H, W, C] -> `PIXELS` [B, 4 * C, H / 2, W / 2]; channel (2 y + x) * C + c is pixel (y, x) of a place."""
    _add_weight(model, "stem_ends", np.array([_FAR, _FAR]))
    _add_weight(model, "stem_axes", np.array([1, 2]))
    _add_weight(model, "stem_steps", np.array([_SIDE, _SIDE]))
    nodes, parts = [], []
    for y in range(_SIDE):
        for x in range(_SIDE):
            starts, part = f"stem_starts_{y}{x}", f"stem_part_{y}{x}"
            _add_weight(model, starts, np.array([y, x]))
            nodes.append(
                helper.make_node("Slice", [frame, starts, "stem_ends", "stem_axes", "stem_steps"], [part], part)
            )
            parts.append(part)
    return [
        *nodes,
        helper.make_node("Concat", parts, ["stem_places"], "stem_places", axis=3),
        helper.make_node("Transpose", ["stem_places"], ["stem_bytes"], "stem_bytes", perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["stem_bytes"], ["stem_cast"], "stem_cast", to=TensorProto.FLOAT),
        helper.make_node("Sub", ["stem_cast", _GREY], [PIXELS], PIXELS),
    ]


def _gathered(kernel_OCyx: Array, pad_top: int, pad_left: int) -> tuple[Array, int, int]:
    """The kernel over places [O, 4 * C, y, x], and its padding above and to the left in places."""
    outputs, channels, height, width = kernel_OCyx.shape
    rows, columns = (
        np.arange(height) - pad_top,
        np.arange(width) - pad_left,
    )  # from the first pixel of the answered place
    top, left = int(rows[0] // _SIDE), int(columns[0] // _SIDE)
    shape = (outputs, _SIDE, _SIDE, channels, int(rows[-1] // _SIDE) - top + 1, int(columns[-1] // _SIDE) - left + 1)
    gathered = np.zeros(shape)
    for y, row in enumerate(rows):
        for x, column in enumerate(columns):
            place = (row // _SIDE - top, column // _SIDE - left)
            gathered[:, row % _SIDE, column % _SIDE, :, *place] = kernel_OCyx[:, :, y, x]
    return gathered.reshape(outputs, _SIDE * _SIDE * channels, *shape[4:]), -top, -left


def _find(model: ModelProto) -> _Stem | None:
    """The chain from a uint8 frame to the first convolution, if each of its steps is understood and read by one."""
    graph = model.graph
    if len(graph.input) != 1 or graph.input[0].type.tensor_type.elem_type != TensorProto.UINT8:
        return None
    name = graph.input[0].name
    path: list[NodeProto] = []
    scale, shift = np.ones(1), np.zeros(1)
    while True:
        readers = [node for node in graph.node if name in node.input and node.op_type != "Shape"]
        if len(readers) != 1:
            return None
        (node,) = readers
        if node.op_type == "Conv":
            if not _is_plain(node) or not any(step.op_type == "Transpose" for step in path):
                return None
            channels = _weight(model, node.input[1]).shape[1]
            spread = (np.broadcast_to(scale, channels), np.broadcast_to(shift, channels))
            return _Stem(graph.input[0].name, tuple(path), *spread, node)
        if node.op_type in _NORMALISING:
            constant = _by_channel(model, node.input[1])
            if constant is None:
                return None
            scale, shift = _composed(node.op_type, constant, scale, shift)
        elif not (node.op_type == "Cast" or _attributes(node) == {"perm": [0, 3, 1, 2]}):
            return None
        path.append(node)
        name = node.output[0]


def _is_plain(convolution: NodeProto) -> bool:
    """Stride 2 each way, neither groups nor dilation, padding in numbers."""
    attributes = _attributes(convolution)
    return (
        attributes.get("strides") == [_SIDE, _SIDE]
        and attributes.get("group", 1) == 1
        and attributes.get("dilations", [1, 1]) == [1, 1]
        and "pads" in attributes
        and attributes.get("auto_pad", b"NOTSET") == b"NOTSET"
    )


def _composed(kind: str, constant: Array, scale: Array, shift: Array) -> tuple[Array, Array]:
    if kind in ("Mul", "Div"):
        factor = constant if kind == "Mul" else 1 / constant
        return scale * factor, shift * factor
    return scale, shift + (constant if kind == "Add" else -constant)


def _by_channel(model: ModelProto, name: str) -> Array | None:
    """A weight of one number, or of one for each channel of [B, C, H, W]; None for anything else."""
    found = [weight for weight in model.graph.initializer if weight.name == name]
    if not found:
        return None
    values = numpy_helper.to_array(found[0]).astype(np.float64)
    fits = values.size == 1 or (values.ndim >= 3 and values.size == values.shape[-3])
    return values.reshape(-1) if fits else None


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}


def _weight(model: ModelProto, name: str) -> Array:
    return numpy_helper.to_array(next(w for w in model.graph.initializer if w.name == name)).astype(np.float64)


def _add_weight(model: ModelProto, name: str, values: npt.NDArray[Any]) -> None:
    model.graph.initializer.append(numpy_helper.from_array(values, name))

"""Static int8: convolutions in 8 bits, with the ranges of their inputs and outputs written into the graph.

A graph is first folded (stored half-precision weights, batch norms), since what is quantised must be the weights that
multiply. Activations are uint8 with one scale a tensor, weights int8 with one a channel: what CPUs with VNNI or AMX
units and both engines are fastest at. Around a residual sum everything stays in 8 bits, so nothing is converted back
and forth. Products of matrices are left alone: the read-out subtracts large squares and divides by a temperature of
0.025, which 8 bits do not survive.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from export.int8.stem import feed_bytes, gather_pixels, pixel_range

Range = tuple[float, float]  # least and largest value of a tensor

_FOLLOWERS = ("Relu", "MaxPool", "Resize")  # stay in 8 bits where their input is
_BLOCK = re.compile(r"(?:segmenter\.)?(\w+\.(?:stages\.\d+\.\d+|\w+))")


@dataclass(frozen=True)
class Layer:
    """One convolution that can be quantised. Layers of a `block` are quantised, or left in float, together."""

    node: str
    block: str


def folded(model: ModelProto) -> ModelProto:
    """A copy in float32 alone, ready to be quantised.

    Weights stored in half precision are restored, batch norms go into their convolutions, and the first convolution
    takes four pixels at a time.
    """
    made = ModelProto()
    made.CopyFrom(model)
    _restore_weights(made)
    _fold_batch_norms(made)
    gather_pixels(made)
    _drop_unused_weights(made)
    return made


def layers(model: ModelProto) -> list[Layer]:
    """The convolutions of a folded graph, in its order; a block is named by the module its weights come from."""
    found = []
    for node in model.graph.node:
        if node.op_type == "Conv":
            named = _BLOCK.match(node.input[1])
            found.append(Layer(node.name, named[1] if named else node.name))
    return found


def quantised_nodes(model: ModelProto, float_blocks: Collection[str] = ()) -> list[str]:
    """Names of all nodes that compute in 8 bits: convolutions, and what can go on in 8 bits after them."""
    convolutions = {layer.node for layer in layers(model) if layer.block not in float_blocks}
    narrow: set[str] = set()  # tensors in 8 bits
    names = []
    for node in model.graph.node:
        follows = node.op_type in _FOLLOWERS and node.input[0] in narrow
        sums = node.op_type == "Add" and all(name in narrow for name in node.input)
        if node.name in convolutions or follows or sums:
            names.append(node.name)
            narrow.update(node.output)
    return names


def observed_tensors(model: ModelProto) -> list[str]:
    """Activations whose ranges `quantise` may ask for."""
    weights = {weight.name for weight in model.graph.initializer}
    chosen = set(quantised_nodes(model))
    names: dict[str, None] = {}
    for node in model.graph.node:
        if node.name in chosen:
            activations = node.input[:1] if node.op_type in ("Conv", "Resize") else node.input
            names.update(dict.fromkeys(name for name in (*activations, *node.output) if name not in weights))
    return list(names)


def quantise(model: ModelProto, ranges: dict[str, Range], float_blocks: Collection[str] = ()) -> ModelProto:
    """A folded graph in 8 bits but for `float_blocks`; `ranges` has those of all `observed_tensors`."""
    nodes = quantised_nodes(model, float_blocks)
    if not nodes:
        return model
    measured = {
        name: TensorData(lowest=np.float32(low), highest=np.float32(high))
        for name, (low, high) in {**ranges, **pixel_range(model)}.items()
    }
    working = ModelProto()
    working.CopyFrom(onnx.shape_inference.infer_shapes(model))
    quantizer = QDQQuantizer(
        working,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, measured),
        nodes_to_quantize=nodes,
        nodes_to_exclude=[],
        op_types_to_quantize=["Conv", "Add", *_FOLLOWERS],
        extra_options={},
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()  # its new nodes are at the end, where ONNX does not allow them
    made: ModelProto = quantizer.model.model
    feed_bytes(made)
    return made


def _restore_weights(model: ModelProto) -> None:
    graph = model.graph
    stored = {weight.name: weight for weight in graph.initializer}
    for node in [node for node in graph.node if node.op_type == "Cast" and node.input[0] in stored]:
        if _attribute(node, "to") == TensorProto.FLOAT:
            _set_weight(model, node.output[0], numpy_helper.to_array(stored[node.input[0]]).astype(np.float32))
            graph.node.remove(node)


def _fold_batch_norms(model: ModelProto) -> None:
    graph = model.graph
    producers = {name: node for node in graph.node for name in node.output}
    readers = _count(name for node in graph.node for name in node.input)
    weights = {weight.name: weight for weight in graph.initializer}
    for norm in [node for node in graph.node if node.op_type == "BatchNormalization"]:
        convolution = producers.get(norm.input[0])
        if convolution is None or convolution.op_type != "Conv" or readers[norm.input[0]] > 1:
            continue
        kernel, *vectors = (numpy_helper.to_array(weights[name]) for name in (*convolution.input[1:], *norm.input[1:]))
        bias = vectors.pop(0) if len(convolution.input) > 2 else np.zeros(kernel.shape[0], np.float32)
        scale, shift, mean, variance = vectors
        factor = scale / np.sqrt(variance + (_attribute(norm, "epsilon") or 1e-5))
        names = (f"{convolution.input[1]}_folded", f"{convolution.input[1]}_shift")
        _set_weight(model, names[0], kernel * factor[:, None, None, None])
        _set_weight(model, names[1], (bias - mean) * factor + shift)
        del convolution.input[1:]
        convolution.input.extend(names)
        convolution.output[0] = norm.output[0]
        graph.node.remove(norm)


def _drop_unused_weights(model: ModelProto) -> None:
    read = {name for node in model.graph.node for name in node.input}
    for weight in [weight for weight in model.graph.initializer if weight.name not in read]:
        model.graph.initializer.remove(weight)


def _set_weight(model: ModelProto, name: str, values: npt.NDArray[Any]) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(values, np.float32), name))


def _attribute(node: NodeProto, name: str) -> Any:
    found = [onnx.helper.get_attribute_value(one) for one in node.attribute if one.name == name]
    return found[0] if found else None


def _count(names: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return counts

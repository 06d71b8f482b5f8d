"""Segmenter -> ONNX files: dynamic batch, objects and grid; the bank's length is a constant.

Weights that half precision holds exactly are stored so, with a Cast that every runtime folds away while it loads: the
same numbers in half the bytes. For that batch norms stay in the graph, as the checkpoint has them; runtimes fold
those into the convolutions as well. What is not exact in half precision is left alone.
"""

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnx_ir.passes import common
from onnxscript.optimizer import fold_constants
from torch.export import Dim

from export.graphs import GraphDefinition, Port

OPSET = 20
_EXAMPLE_AXES = {"B": 2, "O": 3, "h": 5, "w": 6}  # all different, so that no axis is taken for another
_AXIS_LIMITS = {"B": (1, 64), "O": (1, 255), "h": (2, 512), "w": (2, 512)}
_SMALLEST_HALVED = 256  # values; below, a Cast costs more bytes than it saves


def export_graph(graph: GraphDefinition, file: Path, opset: int = OPSET) -> None:
    """Write one graph, checked by onnx with full shape inference."""
    model = _trace(graph, opset)
    _simplify(model)
    _halve_exact_weights(model.graph)
    _name_output_axes(model.graph, graph.outputs)
    ir.save(model, file)
    onnx.checker.check_model(file, full_check=True)


def _trace(graph: GraphDefinition, opset: int) -> ir.Model:
    axes = {name: Dim(name, min=low, max=high) for name, (low, high) in _AXIS_LIMITS.items()}
    with _quiet_exporter(), torch.no_grad():
        program = torch.onnx.export(
            graph.module.eval(),
            tuple(_example(port) for port in graph.inputs),
            dynamo=True,
            opset_version=opset,
            input_names=[port.name for port in graph.inputs],
            output_names=[port.name for port in graph.outputs],
            dynamic_shapes=tuple(_dynamic_axes(port, axes) for port in graph.inputs),
            optimize=False,
            verbose=False,
        )
    assert program is not None
    return program.model


def _example(port: Port) -> torch.Tensor:
    size = port.size(_EXAMPLE_AXES)
    if port.dtype == "uint8":
        return torch.randint(0, 256, size, dtype=torch.uint8)
    return torch.rand(size)


def _dynamic_axes(port: Port, axes: dict[str, Any]) -> dict[int, Any]:
    dynamic = {}
    for index, side in enumerate(port.shape):
        if isinstance(side, str):
            factor, _, axis = side.rpartition("*")
            dynamic[index] = int(factor) * axes[axis] if factor else axes[axis]
    return dynamic


def _simplify(model: ir.Model) -> None:
    """Fold constants and remove what nothing reads; batch norms stay (the module's docstring has the reason)."""
    common.InlinePass()(model)
    for _ in range(2):  # the second round sees the shapes that the first has found
        fold_constants(model, onnx_shape_inference=True)
        common.RemoveUnusedNodesPass()(model)
    for clean in (
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.DeduplicateInitializersPass(),
        common.CommonSubexpressionEliminationPass(),
        common.IdentityEliminationPass(),
        common.RemoveUnusedNodesPass(),
        common.RemoveUnusedFunctionsPass(),
        common.RemoveUnusedOpsetsPass(),
        common.ClearMetadataAndDocStringPass(),
        common.NameFixPass(),
    ):
        clean(model)


def _halve_exact_weights(graph: ir.Graph) -> None:
    for name, weight in list(graph.initializers.items()):
        tensor = weight.const_value
        if tensor is None or tensor.dtype != ir.DataType.FLOAT or tensor.size < _SMALLEST_HALVED:
            continue
        values = tensor.numpy()
        with np.errstate(over="ignore"):  # what overflows is not exact, and stays
            half = values.astype(np.float16)
        if np.array_equal(half.astype(np.float32), values):
            _store_as_half(graph, name, weight, half)


def _store_as_half(graph: ir.Graph, name: str, weight: ir.Value, half: np.ndarray[Any, np.dtype[np.float16]]) -> None:
    stored = ir.Value(
        name=f"{name}_half",
        shape=weight.shape,
        type=ir.TensorType(ir.DataType.FLOAT16),
        const_value=ir.tensor(half, name=f"{name}_half"),
    )
    cast = ir.node("Cast", [stored], attributes={"to": ir.DataType.FLOAT.value}, name=f"{name}_cast")
    restored = cast.outputs[0]
    restored.shape, restored.type = weight.shape, weight.type
    weight.replace_all_uses_with(restored)
    graph.initializers.pop(name)
    graph.register_initializer(stored)
    restored.name = name
    graph.insert_before(graph[0], cast)


def _name_output_axes(graph: ir.Graph, ports: tuple[Port, ...]) -> None:
    """The exporter names the axes of inputs as asked, and those of outputs as it likes."""
    for output, port in zip(graph.outputs, ports, strict=True):
        output.shape = ir.Shape(port.shape)


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Without the exporter's notes on packages that are not installed and on its own deprecated calls."""
    loud = logging.getLogger("torch.onnx")
    level = loud.level
    loud.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        loud.setLevel(level)

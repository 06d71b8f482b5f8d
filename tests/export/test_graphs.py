"""Ports: shapes written in symbols."""

import pytest
import torch

from export.graphs import Port, graph_definitions
from maskstream.model.config import ModelConfig
from maskstream.model.segmenter import Segmenter


def test_a_port_has_a_size_for_every_length_of_its_axes() -> None:
    axes = {"B": 2, "O": 3, "h": 5, "w": 7}
    assert Port("x", ("B", "4*h", "w", 3)).size(axes) == (2, 20, 7, 3)
    assert Port("x", ("O", "h*w")).size(axes) == (3, 35)


@pytest.mark.parametrize("stride", [8, 16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_modules_keep_the_shapes_and_types_of_their_ports(stride: int, dtype: torch.dtype) -> None:
    config = ModelConfig(
        stride=stride, widths=(4, 4, 8), blocks=(1, 1, 1), key_channels=4, context_channels=8, value_channels=8
    )
    axes = {"B": 1, "O": 2, "h": 2, "w": 3}
    for graph in graph_definitions(Segmenter(config).eval().to(dtype)):
        inputs = [torch.ones(port.size(axes), dtype=getattr(torch, port.dtype)) for port in graph.inputs]
        with torch.no_grad():
            outputs = graph.module(*inputs)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        assert [tuple(output.shape) for output in outputs] == [port.size(axes) for port in graph.outputs]
        assert {output.dtype for output in outputs} == {torch.float32}

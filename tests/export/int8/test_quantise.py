"""Static int8 of a small graph: what is folded, what is quantised, and how little the answer changes."""

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from export.int8.quantise import folded, layers, observed_tensors, quantise, quantised_nodes
from export.int8.ranges import Ranges, RangeSettings, observed_run
from export.int8.trial_networks import run_of


def network() -> ModelProto:
    """x -> convolution (half-precision weights, batch norm) -> relu -> convolution -> sum with the relu -> relu."""
    rng = np.random.default_rng(0)
    first = (0.3 * rng.standard_normal((8, 4, 3, 3))).astype(np.float16)
    weights = {
        "net.stem.0.weight_half": first,
        "scale": rng.uniform(0.5, 2, 8).astype(np.float32),
        "shift": rng.standard_normal(8).astype(np.float32),
        "mean": rng.standard_normal(8).astype(np.float32),
        "variance": rng.uniform(0.5, 2, 8).astype(np.float32),
        "net.stages.0.0.second.0.weight": (0.2 * rng.standard_normal((8, 8, 3, 3))).astype(np.float32),
    }
    norm = ["narrow", "scale", "shift", "mean", "variance"]
    nodes = [
        helper.make_node("Cast", ["net.stem.0.weight_half"], ["net.stem.0.weight"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Conv", ["x", "net.stem.0.weight"], ["narrow"], "one", pads=[1] * 4),
        helper.make_node("BatchNormalization", norm, ["normal"], "norm", epsilon=1e-3),
        helper.make_node("Relu", ["normal"], ["half"], "relu_one"),
        helper.make_node("Conv", ["half", "net.stages.0.0.second.0.weight"], ["deep"], "two", pads=[1] * 4),
        helper.make_node("Add", ["deep", "half"], ["sum"], "sum"),
        helper.make_node("Relu", ["sum"], ["out"], "relu_two"),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", 4, "h", "w"])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["B", 8, "h", "w"])],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def picture(seed: int) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    return {"x": np.random.default_rng(seed).standard_normal((1, 4, 24, 32)).astype(np.float32)}


def calibrated(model: ModelProto) -> dict[str, tuple[float, float]]:
    ranges = Ranges(RangeSettings(quantile=1))
    run = observed_run(model, ranges)
    for seed in range(3):
        run(picture(seed))
    return ranges.all()


def kinds(model: ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def test_folding_changes_no_answer() -> None:
    model = network()
    plain = folded(model)
    assert kinds(plain) == ["Conv", "Relu", "Conv", "Add", "Relu"]
    assert "BatchNormalization" in kinds(model), "the model given was changed"
    np.testing.assert_allclose(run_of(plain)(picture(9))[0], run_of(model)(picture(9))[0], atol=1e-5)


def test_a_block_is_named_by_the_module_of_its_weights() -> None:
    assert [(layer.node, layer.block) for layer in layers(folded(network()))] == [
        ("one", "net.stem"),
        ("two", "net.stages.0.0"),
    ]


def test_int8_runs_through_a_residual_sum() -> None:
    plain = folded(network())
    assert quantised_nodes(plain) == ["one", "relu_one", "two", "sum", "relu_two"]
    made = quantise(plain, calibrated(plain))
    onnx.checker.check_model(made, full_check=True)
    seen = picture(0)  # one of those calibrated on: what lies outside the ranges is cut off, however far
    expected, found = run_of(plain)(seen)[0], run_of(made)(seen)[0]
    error = np.abs(found - expected).max() / np.abs(expected).max()
    assert 0 < error < 0.03


def test_weights_are_stored_in_8_bits_by_channel() -> None:
    plain = folded(network())
    stored = quantise(plain, calibrated(plain)).graph.initializer
    kernels = [numpy_helper.to_array(weight) for weight in stored if len(weight.dims) == 4]
    assert [kernel.dtype for kernel in kernels] == [np.int8, np.int8]
    assert all(np.abs(kernel.astype(int)).max(axis=(1, 2, 3)).min() >= 126 for kernel in kernels)


def test_a_block_left_in_float_keeps_its_weights_and_its_sum() -> None:
    plain = folded(network())
    float_blocks = {"net.stages.0.0"}
    assert quantised_nodes(plain, float_blocks) == ["one", "relu_one"]
    made = quantise(plain, calibrated(plain), float_blocks)
    kept = {weight.name: weight.data_type for weight in made.graph.initializer}
    assert kept["net.stages.0.0.second.0.weight"] == TensorProto.FLOAT
    exact = np.abs(run_of(quantise(plain, {}, {"net.stem", *float_blocks}))(picture(9))[0])
    np.testing.assert_array_equal(exact, run_of(plain)(picture(9))[0])


def test_every_tensor_that_is_quantised_is_observed() -> None:
    plain = folded(network())
    assert observed_tensors(plain) == ["x", "narrow", "half", "deep", "sum", "out"] or set(observed_tensors(plain)) == {
        "x",
        "normal",
        "half",
        "deep",
        "sum",
        "out",
    }
    assert calibrated(plain).keys() == set(observed_tensors(plain))


@pytest.mark.parametrize("left_out", ["half", "sum"])
def test_a_range_that_was_not_measured_is_an_error(left_out: str) -> None:
    plain = folded(network())
    ranges = {name: seen for name, seen in calibrated(plain).items() if name != left_out}
    with pytest.raises((ValueError, KeyError)):
        quantise(plain, ranges)

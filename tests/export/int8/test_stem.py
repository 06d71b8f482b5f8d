"""The rewritten first convolution: the same numbers as the one it replaces, but for the rim of the frame."""

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from export.int8.stem import PIXELS, feed_bytes, gather_pixels, pixel_range
from export.int8.trial_networks import run_of

MEAN, STD = (120.0, 120.0, 120.0), (50.0, 60.0, 70.0)


def stem(kernel: int = 7, pad: int = 3, stride: int = 2, mean: tuple[float, ...] = MEAN) -> ModelProto:
    """Frame uint8 -> normalised as the frame encoder does it -> a convolution with random weights."""
    rng = np.random.default_rng(0)
    weights = {
        "mean": np.array(mean, np.float32).reshape(1, 3, 1, 1),
        "std": np.array(STD, np.float32).reshape(1, 3, 1, 1),
        "kernel": rng.standard_normal((4, 3, kernel, kernel), np.float32),
        "bias": rng.standard_normal(4, np.float32),
    }
    nodes = [
        helper.make_node("Transpose", ["frame"], ["chw"], "transpose", perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["chw"], ["float"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Sub", ["float", "mean"], ["centred"], "sub"),
        helper.make_node("Div", ["centred", "std"], ["normal"], "div"),
        helper.make_node("Conv", ["normal", "kernel", "bias"], ["out"], "conv", strides=[stride] * 2, pads=[pad] * 4),
    ]
    graph = helper.make_graph(
        nodes,
        "stem",
        [helper.make_tensor_value_info("frame", TensorProto.UINT8, ["B", "H", "W", 3])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["B", 4, "h", "w"])],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def answer(
    model: ModelProto, frame: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    onnx.checker.check_model(model, full_check=True)
    return run_of(model)({"frame": frame})[0]


@pytest.mark.parametrize(("kernel", "pad"), [(7, 3), (5, 2), (3, 1), (4, 1), (2, 0)])
def test_the_same_numbers_where_all_channels_have_one_mean(kernel: int, pad: int) -> None:
    frame = np.random.default_rng(1).integers(0, 256, (2, 32, 48, 3), np.uint8)
    before, after = stem(kernel, pad), stem(kernel, pad)
    assert gather_pixels(after)
    np.testing.assert_allclose(answer(after, frame), answer(before, frame), atol=1e-4)


def test_with_other_means_only_the_rim_of_the_frame_differs() -> None:
    frame = np.random.default_rng(1).integers(0, 256, (1, 32, 48, 3), np.uint8)
    before, after = stem(mean=(124.0, 116.0, 104.0)), stem(mean=(124.0, 116.0, 104.0))
    assert gather_pixels(after)
    expected, found = answer(before, frame), answer(after, frame)
    np.testing.assert_allclose(found[:, :, 2:-2, 2:-2], expected[:, :, 2:-2, 2:-2], atol=1e-4)
    assert not np.allclose(found, expected, atol=1e-4)


def test_in_8_bits_the_frame_is_read_as_it_is() -> None:
    model = stem()
    gather_pixels(model)
    ((low, high),) = pixel_range(model).values()
    assert (low, high) == (-120, 135)  # 256 steps of one
    quantised = helper.make_node("QuantizeLinear", [PIXELS, "scale", "zero"], ["narrow"], "q")
    back = helper.make_node("DequantizeLinear", ["narrow", "scale", "zero"], ["wide"], "dq")
    for name, value in (("scale", np.float32(1)), ("zero", np.uint8(120))):
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    place = next(i for i, node in enumerate(model.graph.node) if node.op_type == "Conv")
    model.graph.node[place].input[0] = "wide"
    for node in (back, quantised):
        model.graph.node.insert(place, node)
    frame = np.random.default_rng(1).integers(0, 256, (1, 32, 48, 3), np.uint8)
    expected = answer(model, frame)
    feed_bytes(model)
    assert "Cast" not in [node.op_type for node in model.graph.node]
    np.testing.assert_array_equal(answer(model, frame), expected)


def test_a_stem_of_another_kind_is_left_alone() -> None:
    strided_by_one = stem(stride=1)
    before = strided_by_one.SerializeToString()
    assert not gather_pixels(strided_by_one)
    assert strided_by_one.SerializeToString() == before
    assert pixel_range(strided_by_one) == {}
    feed_bytes(strided_by_one)
    assert strided_by_one.SerializeToString() == before
    by_pixel = stem()
    by_pixel.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones((1, 1, 32, 48), np.float32), "mean"))
    assert not gather_pixels(by_pixel)

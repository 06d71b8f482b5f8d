"""A bound graph answers what an ordinary run answers, for any shapes in any order, in arrays of their own."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from maskstream.artifact import Artifact
from maskstream.engines import onnxruntime_binding
from maskstream.engines.onnxruntime_binding import BoundGraph
from maskstream.engines.onnxruntime_providers import CPU, open_session

pytestmark = pytest.mark.timeout(600)  # the first test exports the small model


@pytest.fixture(scope="module")
def session(small_artifact: Path) -> onnxruntime.InferenceSession:
    return open_session(Artifact.load(small_artifact).graphs["encode_frame"], CPU, 1)


def frames(*sizes: tuple[int, int]) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [{"frame": rng.integers(0, 256, (1, *size, 3), dtype=np.uint8)} for size in sizes]


def test_the_same_as_an_ordinary_run_for_shapes_in_any_order(session: onnxruntime.InferenceSession) -> None:
    bound = BoundGraph(session, "cpu", kept=2)
    small, large, wide = (32, 32), (64, 48), (32, 96)
    for inputs in frames(small, small, large, small, wide, large, small):
        for found, wanted in zip(bound.run(inputs), session.run(None, inputs), strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_an_answer_is_not_overwritten_by_the_next_call(session: onnxruntime.InferenceSession) -> None:
    bound = BoundGraph(session, "cpu")
    inputs = frames(*[(32, 48)] * 4)
    answers = [bound.run(one)[0] for one in inputs]
    for one, answer in zip(inputs, answers, strict=True):
        np.testing.assert_array_equal(answer, session.run(None, one)[0])


def test_frames_that_are_parts_of_larger_ones_are_taken(session: onnxruntime.InferenceSession) -> None:
    (whole,) = frames((64, 64))
    part = {"frame": whole["frame"][:, ::2, :, ::-1]}
    wanted = session.run(None, {"frame": np.ascontiguousarray(part["frame"])})
    np.testing.assert_array_equal(BoundGraph(session, "cpu").run(part)[0], wanted[0])


def test_buffers_are_made_once_for_each_set_of_shapes(
    session: onnxruntime.InferenceSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[int, ...]] = []
    allocate = onnxruntime.OrtValue.ortvalue_from_shape_and_type

    class Counted:
        @staticmethod
        def ortvalue_from_shape_and_type(shape: tuple[int, ...], *where: object) -> onnxruntime.OrtValue:
            made.append(shape)
            return allocate(shape, *where)

    monkeypatch.setattr(onnxruntime_binding.onnxruntime, "OrtValue", Counted)
    bound = BoundGraph(session, "cpu")
    for inputs in frames((32, 32), (64, 32), (32, 32), (64, 32)):
        bound.run(inputs)
    assert made == [(1, 32, 32, 3), (1, 64, 32, 3)]

"""Evaluation with networks that copy the last mask: what is scored, when objects are prompted, what users see."""

from pathlib import Path

import numpy as np
import pytest
from fakes import FakeNetworks

from maskstream.dataset import AnnotatedSequence
from maskstream.evaluation import evaluate_sequence
from maskstream.pictures import write_id_map, write_jpeg

SIZE = (64, 96)


def make_sequence(folder: Path, truths: list[np.ndarray]) -> AnnotatedSequence:
    paths = []
    for index, truth in enumerate(truths):
        write_jpeg(folder / "frames" / f"{index:05d}.jpg", np.full((*SIZE, 3), 90, dtype=np.uint8))
        paths.append(folder / "masks" / f"{index:05d}.png")
        write_id_map(paths[-1], truth)
    return AnnotatedSequence("test", folder / "frames", tuple(paths))


def truth_with(**boxes: tuple[int, int]) -> np.ndarray:
    """An id map with a 32x32 square for each `_ID=(top, left)`."""
    truth = np.zeros(SIZE, dtype=np.uint8)
    for name, (top, left) in boxes.items():
        truth[top : top + 32, left : left + 32] = int(name[1:])
    return truth


def test_still_objects_score_full_marks(tmp_path: Path) -> None:
    truth = truth_with(_1=(16, 16), _200=(16, 64))
    seen: list[int] = []
    sequence = make_sequence(tmp_path, [truth] * 5)
    result = evaluate_sequence(FakeNetworks(), sequence, lambda index, id_map: seen.append(index))
    assert list(result.decoded.objects) == [1, 200]
    for scores in (result.decoded, result.coarse, result.copied):
        assert scores.mean is not None
        assert scores.mean.jf > 0.99  # ties at the edge of upsampled masks go to the background
    assert (result.frames, seen) == (5, [0, 1, 2, 3, 4])
    assert result.seconds > 0


def test_copy_of_the_first_mask_is_scored_apart(tmp_path: Path) -> None:
    truths = [truth_with(_1=(16, 16)), *[truth_with(_1=(16, 64))] * 4]
    copied = evaluate_sequence(FakeNetworks(), make_sequence(tmp_path, truths)).copied
    assert copied.objects[1].jf == 0.0


def test_object_that_appears_late_is_prompted_then(tmp_path: Path) -> None:
    early, both = truth_with(_1=(16, 16)), truth_with(_1=(16, 16), _2=(16, 64))
    result = evaluate_sequence(FakeNetworks(), make_sequence(tmp_path, [early, early, both, both, both]))
    assert result.decoded.objects[2].jf > 0.99
    assert result.copied.objects[2].jf == 1.0


def test_frames_before_the_first_object_are_let_pass(tmp_path: Path) -> None:
    nothing, something = truth_with(), truth_with(_7=(16, 16))
    result = evaluate_sequence(
        FakeNetworks(), make_sequence(tmp_path, [nothing, nothing, something, something, something])
    )
    assert result.decoded.objects[7].jf > 0.99


def test_each_frame_comes_with_its_own_j(tmp_path: Path) -> None:
    truths = [truth_with(_1=(16, 16)), truth_with(_1=(16, 16)), truth_with(_1=(16, 64))]
    found: list[tuple[str, float | None]] = []
    evaluate_sequence(
        FakeNetworks(),
        make_sequence(tmp_path, truths),
        on_step=lambda answered: found.append((answered.step.name, answered.j)),
    )
    assert found == [("00000", None), ("00001", pytest.approx(1.0, abs=0.01)), ("00002", 0.0)]

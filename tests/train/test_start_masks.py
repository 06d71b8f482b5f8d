"""Start masks: the thing that moves, whatever the camera does; where nothing moves, what differs in colour."""

import cv2
import numpy as np
import numpy.typing as npt
from moving_square import moving_square

from maskstream.scores import jaccard
from train.start_masks import OBJECTS, moving_pixels, numbered, start_masks


def square(x: int) -> npt.NDArray[np.bool_]:
    mask = np.zeros((96, 128), dtype=bool)
    mask[30:66, x : x + 36] = True
    return mask


def test_what_moves_before_a_still_camera_is_found() -> None:
    ids = start_masks(moving_square(seed=1))
    assert jaccard(ids == 1, square(5)) > 0.6


def test_what_moves_with_the_whole_picture_is_the_camera() -> None:
    flow = np.full((96, 128, 2), 5.0, np.float32)
    flow[..., 0] += 0.1 * np.arange(128)  # a zoom on top of it
    assert not moving_pixels(flow).any()
    flow[30:66, 5:41] -= 6.0
    assert jaccard(moving_pixels(flow) > 0, square(5)) > 0.95


def test_where_nothing_moves_colour_tells_things_from_ground() -> None:
    frame = np.full((96, 128, 3), 60, np.uint8)
    frame[30:66, 50:86] = (220, 40, 40)
    ids = start_masks([frame] * 8)
    assert max(jaccard(ids == i, square(50)) for i in range(1, OBJECTS + 1)) > 0.85
    assert np.array_equal(ids, start_masks([frame] * 8)), "nothing is random"


def test_an_even_picture_holds_nothing() -> None:
    assert not start_masks([np.full((96, 128, 3), 90, np.uint8)] * 8).any()


def test_specks_ground_and_too_many_things_are_left_out() -> None:
    mask = np.zeros((96, 128), np.uint8)
    mask[2:4, 2:4] = 1  # a speck
    for index in range(4):
        cv2.rectangle(mask, (20 + 25 * index, 30), (30 + 25 * index + index, 60), 1, -1)
    mask[:, :1] = mask[:1] = mask[-1:] = mask[:, -1:] = 1  # along the whole border
    ids = numbered(mask)
    assert set(np.unique(ids)) == {0, 1, 2, 3}
    assert (ids == 1).sum() > (ids == 2).sum() > (ids == 3).sum()
    assert ids[45, 22] == 0, "the smallest of four things"
    assert ids[0, 0] == 0
    assert ids[3, 3] == 0

"""Sheets show which clip and frame a mask is from, and tell many objects apart."""

import cv2
import numpy as np
import pytest
from fakes import FakeNetworks

from train.clips import Clip
from train.clustering import DOUBT, PseudoWindow
from train.pictures import (
    CAPTION_HEIGHT,
    GREY,
    ROWS,
    TILE_HEIGHT,
    label_overlay,
    propagated_sheet,
    pseudo_mask_sheet,
)

BLACK = Clip("night", np.zeros((16, 48, 64, 3), np.uint8))
TILE_WIDTH = TILE_HEIGHT * 64 // 48
ROW_HEIGHT = TILE_HEIGHT + CAPTION_HEIGHT


def window(clip: int = 0, start: int = 0, label: int = 1) -> PseudoWindow:
    labels = np.zeros((2, 48, 64), np.uint8)
    labels[:, 16:32, 16:32] = label
    return PseudoWindow(clip, (start, start + 3), labels)


def captions(sheet: np.ndarray, row: int = 0) -> np.ndarray:
    return sheet[row * ROW_HEIGHT : row * ROW_HEIGHT + CAPTION_HEIGHT]


def test_a_row_is_a_window_and_its_masks_are_where_they_belong() -> None:
    sheet = pseudo_mask_sheet([window()], [BLACK])
    assert sheet.dtype == np.uint8
    assert sheet.shape == (ROW_HEIGHT, 2 * TILE_WIDTH, 3)
    for left in (0, TILE_WIDTH):
        tile = sheet[CAPTION_HEIGHT:, left : left + TILE_WIDTH]
        assert tile[TILE_HEIGHT // 2, TILE_WIDTH * 3 // 8].max() > 60
        assert tile[: TILE_HEIGHT // 4].max() == tile[:, TILE_WIDTH * 3 // 4 :].max() == 0


def test_captions_tell_clips_and_frames_apart() -> None:
    other = Clip("noon", BLACK.frames)
    one, later, elsewhere = (
        captions(pseudo_mask_sheet([window(clip, start)], [BLACK, other])) for clip, start in ((0, 0), (0, 1), (1, 0))
    )
    assert one.max() > 200, "there is writing"
    first, second = one[:, :TILE_WIDTH], one[:, TILE_WIDTH:]
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, later[:, :TILE_WIDTH])
    assert not np.array_equal(second, later[:, TILE_WIDTH:])
    assert not np.array_equal(first, elsewhere[:, :TILE_WIDTH])


def test_a_long_name_in_any_script_keeps_the_frames_number() -> None:
    clips = [Clip("a" * 200, BLACK.frames), Clip("\u00e9t\u00e9" * 60, BLACK.frames)]
    sheet = pseudo_mask_sheet([window(0, 1), window(0, 2), window(1, 1)], clips)
    assert sheet.shape[1] == 2 * TILE_WIDTH
    ends = [captions(sheet, row)[:, TILE_WIDTH * 3 // 4 : TILE_WIDTH] for row in range(3)]
    assert not np.array_equal(ends[0], ends[1])
    assert ends[2].max() > 200


def test_rows_of_clips_of_other_widths_are_one_sheet() -> None:
    tall = Clip("tall", np.zeros((16, 48, 16, 3), np.uint8))
    narrow = PseudoWindow(1, (0, 3), np.zeros((2, 48, 16), np.uint8))
    assert pseudo_mask_sheet([window(), narrow], [BLACK, tall]).shape == (2 * ROW_HEIGHT, 2 * TILE_WIDTH, 3)


@pytest.mark.parametrize("count", [1, 5, 12, 13, 23, 100])
def test_rows_spread_from_the_first_window_to_the_last(count: int) -> None:
    clips = [Clip(f"clip{i}", np.full((4, 48, 64, 3), i, np.uint8)) for i in range(count)]
    windows = [PseudoWindow(i, (0,), np.zeros((1, 48, 64), np.uint8)) for i in range(count)]
    sheet = pseudo_mask_sheet(windows, clips)
    shown = sheet[CAPTION_HEIGHT + TILE_HEIGHT // 2 :: ROW_HEIGHT, 0, 0].tolist()
    assert len(shown) == min(ROWS, count)
    assert shown == sorted(set(shown))
    assert (shown[0], shown[-1]) == (0, count - 1)


def test_without_windows_the_sheet_says_so() -> None:
    assert pseudo_mask_sheet([], [BLACK]).max() > 200


def test_sixteen_objects_have_sixteen_colours_that_the_eye_can_tell() -> None:
    labels = np.arange(1, 17, dtype=np.uint8).reshape(4, 4)
    colours = label_overlay(np.zeros((4, 4, 3), np.uint8), labels).reshape(-1, 1, 3)
    lab = cv2.cvtColor(colours.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[:, 0]
    apart = np.linalg.norm(lab[:, None] - lab[None], axis=2) + 1000 * np.eye(16)
    assert apart.min() > 8  # two is what is just noticed


def test_doubt_is_grey_and_background_is_left_alone() -> None:
    frame = np.full((1, 3, 3), (10, 20, 30), np.uint8)
    drawn = label_overlay(frame, np.array([[0, DOUBT, DOUBT | 3]], np.uint8))
    assert drawn[0, 0].tolist() == [10, 20, 30]
    assert drawn[0, 1].tolist() == drawn[0, 2].tolist() == [(10 + GREY) // 2, (20 + GREY) // 2, (30 + GREY) // 2]


def test_the_propagated_sheet_carries_the_first_mask_on() -> None:
    """The fake networks copy the newest mask: the second frame shows the mask of the first, not its own."""
    labels = np.zeros((2, 48, 64), np.uint8)
    labels[0, 16:32, 16:32] = 1
    sheet = propagated_sheet(FakeNetworks(), [PseudoWindow(0, (0, 3), labels)], [BLACK])
    tile = sheet[CAPTION_HEIGHT:, TILE_WIDTH:]
    assert tile[TILE_HEIGHT // 2, TILE_WIDTH * 3 // 8].max() > 60
    assert tile[:8].max() == 0

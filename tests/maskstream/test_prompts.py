"""Boxes become masks, words of a command line become prompts, and what cannot be is refused with a reason."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from maskstream.errors import InvalidPrompt, MaskFileError
from maskstream.masks import bounding_box
from maskstream.moving_shapes import RenderedClip, render
from maskstream.pictures import write_id_map
from maskstream.prompt_kinds import BoxPrompt, PointPrompt, Prompt
from maskstream.prompts import as_mask, look_at_colours, mask_from_box, parse_prompt
from maskstream.scores import jaccard


@pytest.fixture(scope="module")
def clip() -> RenderedClip:
    return render(1, (240, 426))


def box_of(clip: RenderedClip, object_id: int) -> tuple[int, int, int, int]:
    box = bounding_box(clip.id_maps[0] == object_id)
    assert box is not None
    return box


@pytest.mark.parametrize("object_id", [1, 2, 3])
def test_box_becomes_the_thing_in_it(clip: RenderedClip, object_id: int) -> None:
    mask = mask_from_box(clip.frames[0], box_of(clip, object_id))
    assert jaccard(mask, clip.id_maps[0] == object_id) > 0.8  # the whole box scores about 0.7


def test_same_box_gives_the_same_mask(clip: RenderedClip) -> None:
    first, second = (mask_from_box(clip.frames[0], box_of(clip, 2)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_mask_stays_inside_its_box(clip: RenderedClip) -> None:
    x, y, width, height = 60, 40, 50, 70
    mask = mask_from_box(clip.frames[0], (x, y, width, height))
    assert mask.any()
    mask[y : y + height, x : x + width] = False
    assert not mask.any()


def test_frame_without_colours_gives_the_ellipse() -> None:
    mask = mask_from_box(np.full((100, 100, 3), 128, dtype=np.uint8), (20, 30, 40, 20))
    assert mask.sum() == pytest.approx(np.pi / 4 * 40 * 20, rel=0.05)
    assert mask[40, 40]
    assert not mask[31, 21]


@pytest.mark.parametrize(
    "box", [(10, 10, 1, 1), (5, 5, 2, 3), (0, 0, 426, 240), (420, 230, 50, 50), (-20, -20, 40, 40)]
)
def test_odd_boxes_still_mark_something(clip: RenderedClip, box: tuple[int, int, int, int]) -> None:
    mask = mask_from_box(clip.frames[0], box)
    assert mask.shape == (240, 426)
    assert mask.any()


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((10, 10, 0, 20), "has no area"),
        ((10, 10, 20, -5), "has no area"),
        ((426, 10, 20, 20), "outside the 426x240 frame"),
        ((-30, 10, 30, 20), "outside the 426x240 frame"),
    ],
)
def test_boxes_that_mark_nothing_are_refused(clip: RenderedClip, box: tuple[int, int, int, int], message: str) -> None:
    with pytest.raises(InvalidPrompt, match=message):
        mask_from_box(clip.frames[0], box)


def test_words_of_a_box(clip: RenderedClip) -> None:
    box = box_of(clip, 1)
    (prompt,) = parse_prompt(", ".join(map(str, box)), clip.frames[0], object_id=4)
    assert prompt.object_id == 4
    assert prompt == BoxPrompt(4, box)


def test_words_of_points(clip: RenderedClip) -> None:
    (prompt,) = parse_prompt(" @120,80; 130,95;-200,40 ", clip.frames[0], object_id=2)
    assert prompt == PointPrompt(2, ((120, 80), (130, 95)), ((200, 40),))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("@120", "not understood at '120'"),
        ("@1,2;;3,4", "not understood at ''"),
        ("@-1,2", "object 1 has no point on it"),
        ("@426,2", "the point 426,2 of object 1 lies outside the 426x240 frame"),
        ("900,2,10,10", "outside the 426x240 frame"),
    ],
)
def test_words_of_points_and_boxes_that_mark_nothing(clip: RenderedClip, words: str, message: str) -> None:
    with pytest.raises(InvalidPrompt, match=message):
        parse_prompt(words, clip.frames[0])


def keys_of(thing: np.ndarray) -> np.ndarray:
    """float32 [2, 15, 26]: tokens of the thing point one way, the others another."""
    share = cv2.resize(thing.astype(np.float32), (26, 15), interpolation=cv2.INTER_AREA)
    key = np.stack((share, 1 - share))
    return (key / np.linalg.norm(key, axis=0)).astype(np.float32)


def test_keys_find_in_a_box_what_colours_do_not_tell() -> None:
    frame = np.full((240, 416, 3), 128, np.uint8)  # every pixel alike: colours alone give the ellipse
    thing = np.zeros((240, 416), dtype=bool)
    thing[64:176, 96:288] = True
    box = (96, 64, 192, 112)
    refined = as_mask(BoxPrompt(1, box), frame, keys_of(thing)).mask
    assert jaccard(refined, thing) > jaccard(mask_from_box(frame, box), thing) + 0.1
    assert not (refined & ~thing).any()


def test_keys_empty_a_part_of_a_box() -> None:
    frame = np.full((240, 416, 3), 128, np.uint8)
    thing = np.zeros((240, 416), dtype=bool)
    thing[64:176, 96:208] = True
    box = (96, 64, 160, 112)  # the last 48 columns show what surrounds the thing
    refined = as_mask(BoxPrompt(1, box), frame, keys_of(thing)).mask
    assert jaccard(refined, thing) > jaccard(mask_from_box(frame, box), thing) + 0.05


@pytest.mark.parametrize("box", [(0, 0, 426, 240), (5, 5, 2, 3), (-20, -20, 40, 40), (420, 230, 50, 50)])
def test_odd_boxes_still_mark_something_with_keys(clip: RenderedClip, box: tuple[int, int, int, int]) -> None:
    prompt = as_mask(BoxPrompt(1, box), clip.frames[0], keys_of(clip.id_maps[0] == 1))
    assert prompt.mask.any()
    assert prompt.mask.shape == (240, 426)


def test_keys_that_are_not_finite_leave_it_to_colours(clip: RenderedClip) -> None:
    key = np.full((2, 15, 26), np.nan, np.float32)
    mask = as_mask(BoxPrompt(1, box_of(clip, 1)), clip.frames[0], key).mask
    assert jaccard(mask, mask_from_box(clip.frames[0], box_of(clip, 1))) > 0.9


def test_looking_at_colours_beforehand_changes_nothing(clip: RenderedClip) -> None:
    frame, prompt, key = clip.frames[0], BoxPrompt(1, box_of(clip, 1)), keys_of(clip.id_maps[0] == 1)
    before = as_mask(look_at_colours(prompt, frame), frame, key)
    np.testing.assert_array_equal(before.mask, as_mask(prompt, frame, key).mask)
    mask = Prompt(3, clip.id_maps[0] == 1)
    assert look_at_colours(mask, frame) is mask
    assert as_mask(mask, frame, key) is mask


def test_mask_file_brings_its_own_ids(clip: RenderedClip, tmp_path: Path) -> None:
    id_map = np.where(clip.id_maps[0] == 2, 200, clip.id_maps[0]).astype(np.uint8)
    write_id_map(tmp_path / "mask.png", id_map)
    prompts = parse_prompt(str(tmp_path / "mask.png"), clip.frames[0])
    assert [prompt.object_id for prompt in prompts] == [1, 3, 200]
    np.testing.assert_array_equal(prompts[2].mask, id_map == 200)


def test_mask_of_another_size_is_refused(clip: RenderedClip, tmp_path: Path) -> None:
    write_id_map(tmp_path / "mask.png", np.ones((10, 20), dtype=np.uint8))
    with pytest.raises(InvalidPrompt, match="is 20x10, the video is 426x240"):
        parse_prompt(str(tmp_path / "mask.png"), clip.frames[0])


def test_mask_of_background_alone_is_refused(clip: RenderedClip, tmp_path: Path) -> None:
    write_id_map(tmp_path / "mask.png", np.zeros((240, 426), dtype=np.uint8))
    with pytest.raises(InvalidPrompt, match="marks no object: every pixel is 0"):
        parse_prompt(str(tmp_path / "mask.png"), clip.frames[0])


@pytest.mark.parametrize("words", ["1,2,3", "a box", "missing.png", "1,2,3,4,5"])
def test_words_that_are_neither_are_refused(clip: RenderedClip, words: str) -> None:
    with pytest.raises(MaskFileError, match=words):
        parse_prompt(words, clip.frames[0])

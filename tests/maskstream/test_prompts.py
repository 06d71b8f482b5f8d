"""Boxes become masks, words of a command line become prompts, and what cannot be is refused with a reason."""

from pathlib import Path

import numpy as np
import pytest

from maskstream.errors import InvalidPrompt, MaskFileError
from maskstream.masks import bounding_box
from maskstream.moving_shapes import RenderedClip, render
from maskstream.pictures import write_id_map
from maskstream.prompts import mask_from_box, parse_prompt
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
    np.testing.assert_array_equal(prompt.mask, mask_from_box(clip.frames[0], box))


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

"""Clicks become the thing they are on: a disc by its keys, whatever is drawn beside it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskstream.errors import InvalidPrompt
from maskstream.prompt_kinds import MOST_POINTS, PointPrompt, check_prompt
from maskstream.prompt_points import LARGEST_AREA, mask_from_points
from maskstream.scores import jaccard

SIZE, GRID = (240, 320), (15, 20)  # 16 pixels a token


def discs(*places: tuple[int, int, int]) -> np.ndarray:
    """bool [H, W] of discs x, y, radius."""
    y, x = np.indices(SIZE)
    return np.any([(x - cx) ** 2 + (y - cy) ** 2 <= r * r for cx, cy, r in places], axis=0)


def keys_of(mask: np.ndarray) -> np.ndarray:
    """float32 [3, h, w]: one direction inside the mask, another outside, a little noise."""
    share = mask.reshape(GRID[0], 16, GRID[1], 16).mean(axis=(1, 3))
    noise = np.random.default_rng(0).normal(0, 0.05, (3, *GRID))
    key = np.stack((share, 1 - share, np.full(GRID, 0.3))) + noise
    return (key / np.linalg.norm(key, axis=0)).astype(np.float32)


def test_one_click_marks_the_disc_it_is_on_and_not_another_like_it():
    near, far = discs((80, 120, 45)), discs((260, 120, 40))
    mask = mask_from_points(PointPrompt(1, ((80, 120),)), SIZE, keys_of(near | far))
    assert mask.shape == SIZE
    assert jaccard(mask, near) > 0.8
    assert not (mask & far).any()


def test_clicks_on_two_pieces_mark_both():
    near, far = discs((80, 120, 40)), discs((230, 120, 40))
    mask = mask_from_points(PointPrompt(1, ((80, 120), (230, 120))), SIZE, keys_of(near | far))
    assert jaccard(mask, near | far) > 0.7


def test_a_click_beside_the_thing_cuts_away_what_looks_like_it():
    dim = discs((200, 120, 45))
    key = keys_of(discs((110, 120, 45)))
    part = dim.reshape(GRID[0], 16, GRID[1], 16).mean(axis=(1, 3)) > 0.5
    key[:, part] = (np.array([0.85, 0.35, 0.4]) / np.linalg.norm([0.85, 0.35, 0.4]))[:, None]  # nearly like the thing
    whole = mask_from_points(PointPrompt(1, ((110, 120),)), SIZE, key)
    cut = mask_from_points(PointPrompt(1, ((110, 120),), ((210, 120),)), SIZE, key)
    assert whole[120, 200]
    assert not cut[120, 210]
    assert np.count_nonzero(cut & dim) < 0.5 * np.count_nonzero(whole & dim)
    assert cut[120, 110]


def test_a_picture_of_one_look_marks_no_more_than_a_part_of_it():
    key = np.full((3, *GRID), 3**-0.5, np.float32)
    mask = mask_from_points(PointPrompt(1, ((100, 100),)), SIZE, key)
    assert mask[100, 100]
    assert mask.mean() <= LARGEST_AREA + 0.02


def test_keys_that_are_not_finite_still_mark_the_click():
    mask = mask_from_points(PointPrompt(1, ((5, 7),)), SIZE, np.full((3, *GRID), np.nan, np.float32))
    assert mask[7, 5]


POINTS = st.lists(st.tuples(st.integers(0, 319), st.integers(0, 239)), min_size=1, max_size=5, unique=True)


@settings(max_examples=40, deadline=None)
@given(POINTS, POINTS, st.integers(0, 99))
def test_all_clicks_are_kept_to(points, background, seed):
    background = tuple(point for point in background if point not in points)
    key = np.random.default_rng(seed).normal(size=(4, *GRID)).astype(np.float32)
    key /= np.linalg.norm(key, axis=0)
    mask = mask_from_points(PointPrompt(1, tuple(points), background), SIZE, key)
    assert all(mask[y, x] for x, y in points)
    assert not any(mask[y, x] for x, y in background)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (PointPrompt(1, ()), "object 1 has no point on it"),
        (PointPrompt(1, ((320, 0),)), "320,0 of object 1 lies outside the 320x240 frame"),
        (PointPrompt(1, ((0, 0),), ((0, 240),)), "0,240 of object 1 lies outside"),
        (PointPrompt(1, ((-1, 0),)), "-1,0 of object 1 lies outside"),
        (PointPrompt(1, ((3, 4),), ((3, 4),)), "3,4 is both on object 1 and beside it"),
        (PointPrompt(0, ((3, 4),)), "object id 0 is outside"),
        (PointPrompt(1, ((3, 4),), ((5, 5),) * MOST_POINTS), "65 points for object 1; at most 64"),
    ],
)
def test_points_that_mark_nothing_are_refused(prompt, message):
    with pytest.raises(InvalidPrompt, match=message):
        check_prompt(prompt, SIZE)

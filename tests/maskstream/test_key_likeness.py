"""Likeness of tokens to examples, against what is plain by hand."""

import numpy as np
import pytest

from maskstream.key_likeness import SUREST, WIDTH, at_pixels, covered, log_odds

LEFT = np.array([[1, 0, 0, 0]] * 3, np.float32)
RIGHT = np.array([[0, 0, 0, 1]] * 3, np.float32)


def two_looks() -> np.ndarray:
    """float32 [2, 3, 4]: the left half of the tokens points one way, the right half another."""
    key = np.zeros((2, 3, 4), np.float32)
    key[0, :, :2] = key[1, :, 2:] = 1
    return key


def test_log_odds_are_the_difference_of_cosines_over_the_width():
    expected = np.broadcast_to(np.array([1, 1, -1, -1]) / WIDTH, (3, 4))
    np.testing.assert_allclose(log_odds(two_looks(), LEFT, RIGHT), np.clip(expected, -SUREST, SUREST), rtol=1e-4)


def test_sides_exchanged_change_the_sign():
    key = np.random.default_rng(0).normal(size=(5, 3, 4)).astype(np.float32)
    key /= np.linalg.norm(key, axis=0)
    np.testing.assert_allclose(log_odds(key, LEFT, RIGHT), -log_odds(key, RIGHT, LEFT), atol=1e-5)


def test_without_examples_of_a_side_nothing_is_said():
    for inside, outside in ((0 * LEFT, RIGHT), (LEFT, 0 * RIGHT)):
        assert not log_odds(two_looks(), inside, outside).any()
    assert not log_odds(np.full((2, 3, 4), np.inf, np.float32), LEFT, RIGHT).any()


def test_many_examples_say_what_a_few_of_them_say():
    key = np.zeros((2, 40, 40), np.float32)
    key[0, :, :20] = key[1, :, 20:] = 1
    inside = np.zeros((40, 40), np.float32)
    inside[:, :20] = 1
    odds = log_odds(key, inside, 1 - inside)
    np.testing.assert_allclose(odds[:, :20], 1 / WIDTH, rtol=1e-3)
    np.testing.assert_allclose(odds[:, 20:], -1 / WIDTH, rtol=1e-3)


def test_pixels_of_a_part_are_those_of_the_whole():
    cells = np.random.default_rng(1).normal(size=(6, 8)).astype(np.float32)
    whole = at_pixels(cells, (96, 128), (0, 0, 128, 96))
    assert whole.shape == (96, 128)
    np.testing.assert_allclose(at_pixels(cells, (96, 128), (17, 5, 90, 60)), whole[5:60, 17:90], atol=0.1)
    middles = whole[7:-8:16, 7:-8:16]
    np.testing.assert_allclose(middles, cells[: middles.shape[0], : middles.shape[1]], atol=0.25)


def test_cells_are_covered_by_their_share():
    region = np.zeros((32, 32), np.float32)
    region[:16, :8] = 1
    assert covered(region, (2, 2)) == pytest.approx(np.array([[0.5, 0], [0, 0]]))

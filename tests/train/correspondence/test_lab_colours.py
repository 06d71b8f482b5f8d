"""Lab: a dropped channel is gone from the picture, whatever the colours, and means are those of the right pixels."""

import itertools

import numpy as np
import pytest

from train.correspondence.lab_colours import cell_colours, lab_of, without_channel

CORNERS = np.array(list(itertools.product((0, 128, 255), repeat=3)), np.uint8)[None]  # [1, 27, 3]


@pytest.mark.parametrize("channel", [0, 1])
def test_a_dropped_channel_is_neutral_and_lightness_stays(channel: int) -> None:
    """For the strongest colours too, whose lightness and other channel alone would not exist in RGB."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 27, 3), dtype=np.uint8)
    lab = lab_of(np.concatenate((CORNERS, noise)))
    left = lab_of(without_channel(lab, channel))
    assert np.abs(left[..., 1 + channel]).max() * 127 < 1.5  # of 8-bit rounding
    assert np.abs(left[..., 0] - lab[..., 0]).max() * 50 < 1
    assert np.abs(lab[..., 1 + channel]).max() * 127 > 80


@pytest.mark.parametrize("channel", [0, 1])
def test_the_other_channel_stays_where_it_exists(channel: int) -> None:
    pale = np.random.default_rng(1).integers(100, 150, (32, 32, 3), dtype=np.uint8)
    lab = lab_of(pale)
    left = lab_of(without_channel(lab, channel))
    np.testing.assert_allclose(left[..., 2 - channel] * 127, lab[..., 2 - channel] * 127, atol=1.0)


def test_lab_of_known_colours() -> None:
    """sRGB red is L 53.24, a 80.09, b 67.20; white is L 100, no colour."""
    lab = lab_of(np.array([[[255, 0, 0], [255, 255, 255]]], np.uint8))
    np.testing.assert_allclose(lab[0, 0], [(53.24 - 50) / 50, 80.09 / 127, 67.20 / 127], atol=2e-3)
    np.testing.assert_allclose(lab[0, 1], [1, 0, 0], atol=2e-3)


def test_cells_are_numbered_row_by_row_within_tokens_row_by_row() -> None:
    lab = np.zeros((8, 8, 3), np.float32)
    lab[0:2, 6:8, 1] = 1.0  # token 1 (top right), its cell 1 (top right)
    lab[4:8, 0:4, 2] = np.array([[0.1], [0.3], [0.5], [0.7]])  # token 2 (bottom left): mean 0.4
    fine, coarse = cell_colours(lab, stride=4, cells=2), cell_colours(lab, stride=4, cells=1)
    assert fine.shape == (4, 4, 2)
    assert np.argwhere(fine[..., 0]).tolist() == [[1, 1]]
    assert fine[1, 1, 0] == 1
    np.testing.assert_allclose(fine[2, :, 1], [0.2, 0.2, 0.6, 0.6], atol=1e-6)
    np.testing.assert_allclose(coarse[:, 0, 1], [0, 0, 0.4, 0], atol=1e-6)


def test_cells_must_divide_a_token() -> None:
    with pytest.raises(ValueError, match="reconstruction_cells=3 does not divide a token of 16 pixels"):
        cell_colours(np.zeros((32, 32, 3), np.float32), stride=16, cells=3)

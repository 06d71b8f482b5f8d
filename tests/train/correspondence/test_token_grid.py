"""Places on the grid: shares of tokens, nearest tokens, windows."""

import pytest
import torch
from token_keys import SIDE, TOKENS, own_places

from train.correspondence.token_grid import bilinear_targets, mean_over, nearest_token, token_places, within_window


def test_bilinear_targets_share_a_place_between_four_tokens() -> None:
    place = torch.tensor([[[1.25, 2.5], [-0.5, 0.0]]])
    weight, inside = bilinear_targets(place, TOKENS)
    grid = weight[0, 0].unflatten(0, (SIDE, SIDE))
    assert grid[2, 1].item() == pytest.approx(0.75 * 0.5)
    assert grid[3, 2].item() == pytest.approx(0.25 * 0.5)
    assert weight[0, 0].sum().item() == pytest.approx(1.0)
    assert inside.tolist() == [[True, False]]


def test_nearest_token_rounds_to_the_grid() -> None:
    index, inside = nearest_token(torch.tensor([[[1.4, 2.6], [9.0, 0.0]]]), TOKENS)
    assert index[0, 0] == 3 * SIDE + 1
    assert inside.tolist() == [[True, False]]


def test_tokens_are_numbered_row_by_row() -> None:
    torch.testing.assert_close(token_places(TOKENS, torch.device("cpu")), own_places(1)[0])


def test_a_window_is_a_square_cut_off_at_the_border() -> None:
    near = within_window(own_places(1), TOKENS, 1).unflatten(2, (SIDE, SIDE))
    assert near[0, 0].nonzero().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert near[0, SIDE + 1].sum() == 9
    assert not within_window(torch.tensor([[[-3.0, 0.0]]]), TOKENS, 1).any()


def test_the_mean_counts_what_is_inside_and_is_0_where_nothing_is() -> None:
    loss = torch.tensor([[1.0, 5.0, 9.0]])
    assert mean_over(loss, torch.tensor([[True, False, True]])) == 5
    assert mean_over(loss, torch.tensor([[False, False, False]])) == 0

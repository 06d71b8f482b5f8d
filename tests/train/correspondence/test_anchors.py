"""Anchors: labels come from the own clip and without gradient, candidates from all clips."""

import pytest
import torch
from token_keys import LATE, SIDE, TOKENS, dice, distinct_keys, equal_keys, own_places, shifted

from train.correspondence.anchors import Anchors, grid_anchors, own_anchor

EVERY_TOKEN = Anchors(temperature=0.07, anchors=TOKENS, grid=0, warmup_steps=200)


def anchor_loss(
    first: torch.Tensor, other: torch.Tensor, again: torch.Tensor, step: int = LATE, learner: Anchors = EVERY_TOKEN
) -> torch.Tensor:
    keys = {"first": first, "other": other, "other_again": again}
    return learner.loss(keys, {"other_places": own_places(len(first))}, step, dice())


def test_identical_views_give_each_token_its_own_anchor() -> None:
    keys = distinct_keys(2)
    assert own_anchor(keys, keys).tolist() == torch.arange(2 * TOKENS).unflatten(0, (2, TOKENS)).tolist()
    assert anchor_loss(keys, keys, keys) < 0.01


def test_an_anchor_of_another_clip_is_never_a_label() -> None:
    """Each clip's tokens look exactly like the other's anchors; the labels stay in their own clip all the same."""
    first = distinct_keys(2)
    labels = own_anchor(first, first.flip(0))
    assert (labels[0] < TOKENS).all()
    assert (labels[1] >= TOKENS).all()
    assert anchor_loss(first, first, first.flip(0)) > 5


def test_the_same_keys_in_two_clips_are_confused_with_each_other() -> None:
    keys = distinct_keys(1).repeat(2, 1, 1)
    assert anchor_loss(keys, keys, keys).item() == pytest.approx(torch.tensor(2.0).log().item(), rel=1e-2)


def test_the_label_follows_what_moved() -> None:
    """The other frame is the first, moved by a token; its tokens take the anchors they came from."""
    first = distinct_keys(1)
    other = shifted(first, 1, 0)
    assert anchor_loss(first, other, other) < 0.01
    assert anchor_loss(first, other, first) > 5


def test_labels_carry_no_gradient() -> None:
    first, other, again = (distinct_keys(2).requires_grad_() for _ in range(3))
    anchor_loss(first, other, again).backward()  # type: ignore[no-untyped-call]
    assert other.grad is None
    assert again.grad is not None


def test_the_term_grows_over_the_warm_up() -> None:
    keys = equal_keys(2)
    losses = [anchor_loss(keys, keys, keys, step).item() for step in (0, 50, 200, 400)]
    assert losses == pytest.approx([0.0, losses[3] / 4, losses[3], losses[3]])


def test_grid_anchors_are_even_and_their_offset_varies() -> None:
    drawn = dice()
    grids = [grid_anchors(100, 4, drawn) for _ in range(40)]
    for grid in grids:
        x, y = grid.unflatten(0, (4, 4)) % 10, grid.unflatten(0, (4, 4)) // 10
        assert (x.diff(dim=1) == 2).all()
        assert (y.diff(dim=0) == 2).all()
    assert len({grid[0].item() for grid in grids}) > 8  # of 16 offsets


def test_grid_anchors_serve_the_loss_and_must_fit() -> None:
    keys = distinct_keys(2)
    whole_grid = Anchors(temperature=0.07, anchors=1, grid=SIDE, warmup_steps=0)
    assert anchor_loss(keys, keys, keys, learner=whole_grid) < 0.01
    with pytest.raises(ValueError, match="anchor_grid=5 does not fit views of 4x4 tokens"):
        grid_anchors(TOKENS, 5, dice())

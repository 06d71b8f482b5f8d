"""The correspondence terms: low when keys tell places apart, high when they do not, and never across clips."""

import numpy as np
import pytest
import torch

from train.clips import Clip
from train.correspondence import (
    CorrespondenceSettings,
    anchor_loss,
    bilinear_targets,
    match_loss,
    nearest_token,
    sample_batch,
    walk_loss,
)

SETTINGS = CorrespondenceSettings(edge_dropout=0.0, anchors=16)
SIDE = 4
TOKENS = SIDE * SIDE


def places(batch: int) -> torch.Tensor:
    """Every token at its own place, in (x, y)."""
    index = torch.arange(TOKENS)
    return torch.stack((index % SIDE, index // SIDE), dim=1).float().expand(batch, -1, -1)


def distinct_keys(batch: int) -> torch.Tensor:
    """Orthogonal keys [B, K, N], all different, across clips too."""
    return torch.eye(batch * TOKENS).unflatten(1, (batch, TOKENS)).permute(1, 0, 2)


def test_distinct_keys_walk_home_and_equal_keys_get_lost() -> None:
    keys = distinct_keys(2)
    assert walk_loss(keys, keys, keys, places(2), SETTINGS) < 0.01
    same = torch.ones_like(keys) / keys.shape[1] ** 0.5
    lost = walk_loss(same, same, same, places(2), SETTINGS)
    assert lost.item() == pytest.approx(np.log(TOKENS), rel=1e-3)


def test_a_walk_to_shuffled_tokens_still_comes_home() -> None:
    """Where the tokens lie in the other frame does not matter: appearance carries the walk, not position."""
    keys = distinct_keys(1)
    shuffled = keys[:, :, torch.randperm(TOKENS)]
    assert walk_loss(keys, shuffled, keys, places(1), SETTINGS) < 0.01


def test_tokens_of_other_clips_are_negatives() -> None:
    """Two clips with the same keys are confused with each other: log 2, though each alone is told apart."""
    keys = distinct_keys(1).repeat(2, 1, 1)
    assert match_loss(keys, keys, places(2), SETTINGS).item() == pytest.approx(np.log(2), rel=1e-2)


def test_identical_views_give_each_token_its_own_anchor() -> None:
    keys = distinct_keys(2)
    assert anchor_loss(keys, keys, keys, places(2), SETTINGS) < 0.01


def test_an_anchor_of_another_clip_is_never_a_label() -> None:
    """The second clip's tokens look exactly like the first clip's anchors; their labels stay in their own clip."""
    first = distinct_keys(2)
    crossed = first.flip(0)
    assert anchor_loss(first, first, crossed, places(2), SETTINGS) > 5


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


def test_batches_depend_on_the_seed_alone(clips: list[Clip]) -> None:
    settings = CorrespondenceSettings(clips=2, side=64, far_gap=8)
    one, two = (sample_batch(np.random.default_rng(5), clips, settings) for _ in range(2))
    assert torch.equal(one.first_again, two.first_again)
    assert one.first.shape == (2, 64, 64, 3)
    assert one.first.dtype == torch.uint8

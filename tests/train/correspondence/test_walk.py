"""The walk: home with keys that tell places apart, lost without."""

import numpy as np
import pytest
import torch
from token_keys import LATE, TOKENS, dice, distinct_keys, equal_keys, own_places, shifted

from train.correspondence.walk import Walk


def walk_loss(first: torch.Tensor, other: torch.Tensor, again: torch.Tensor, edge_dropout: float = 0.0) -> float:
    keys = {"first": first, "other": other, "first_again": again}
    facts = {"first_places": own_places(len(first))}
    return Walk(temperature=0.07, edge_dropout=edge_dropout).loss(keys, facts, LATE, dice()).item()


def test_distinct_keys_walk_home_and_equal_keys_get_lost() -> None:
    keys = distinct_keys(2)
    assert walk_loss(keys, keys, keys) < 0.01
    same = equal_keys(2)
    assert walk_loss(same, same, same) == pytest.approx(np.log(TOKENS), rel=1e-3)


def test_a_walk_to_shuffled_tokens_still_comes_home() -> None:
    """Where the tokens lie in the other frame does not matter: appearance carries the walk, not position."""
    keys = distinct_keys(1)
    assert walk_loss(keys, keys[:, :, torch.randperm(TOKENS, generator=dice())], keys) < 0.01


def test_a_view_whose_keys_do_not_follow_its_geometry_ends_elsewhere() -> None:
    keys = distinct_keys(1)
    assert walk_loss(keys, keys, shifted(keys, 1, 0)) > 5


def test_edge_dropout_removes_edges() -> None:
    keys = distinct_keys(2)
    assert walk_loss(keys, keys, keys, edge_dropout=1.0) == pytest.approx(np.log(TOKENS), rel=1e-3)
    assert 0.1 < walk_loss(keys, keys, keys, edge_dropout=0.1) < 3

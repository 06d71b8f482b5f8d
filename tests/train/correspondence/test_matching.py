"""Matching: own places are found, other places and other clips are negatives."""

import numpy as np
import pytest
import torch
from token_keys import LATE, TOKENS, dice, distinct_keys, equal_keys, own_places, shifted

from train.correspondence.matching import Match


def match_loss(first: torch.Tensor, again: torch.Tensor, places: torch.Tensor | None = None) -> float:
    facts = {"first_places": own_places(len(first)) if places is None else places}
    return Match(temperature=0.07).loss({"first": first, "first_again": again}, facts, LATE, dice()).item()


def test_right_keys_are_found_and_wrong_ones_are_not() -> None:
    keys = distinct_keys(2)
    assert match_loss(keys, keys) < 0.01
    assert match_loss(keys, shifted(keys, 0, 1)) > 5
    assert match_loss(equal_keys(2), equal_keys(2)) == pytest.approx(np.log(2 * TOKENS), rel=1e-3)


def test_tokens_of_other_clips_are_negatives() -> None:
    """Two clips with the same keys are confused with each other: log 2, though each alone is told apart."""
    keys = distinct_keys(1).repeat(2, 1, 1)
    assert match_loss(keys, keys) == pytest.approx(np.log(2), rel=1e-2)


def test_tokens_that_lie_outside_do_not_count() -> None:
    keys = distinct_keys(1)
    places = own_places(1).clone()
    places[0, 0] = -2.0
    wrong_there = keys.clone()
    wrong_there[0, :, 0] = keys[0, :, 9]
    assert match_loss(keys, wrong_there) > 0.5
    assert match_loss(keys, wrong_there, places) < 0.01

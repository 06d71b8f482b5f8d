"""Equivariance: keys must follow the known transform, may follow a small motion, and cannot win by being equal."""

import numpy as np
import pytest
import torch
from token_keys import LATE, SIDE, TOKENS, dice, distinct_keys, equal_keys, own_places, shifted

from train.correspondence.equivariance import Equivariance


def equivariance_loss(
    first: torch.Tensor,
    again: torch.Tensor,
    places: torch.Tensor | None = None,
    gaps: tuple[int, ...] = (1, 1),
    window: float = 1.5,
) -> torch.Tensor:
    facts = {"other_places": own_places(2) if places is None else places, "gap_frames": torch.tensor(gaps)}
    learner = Equivariance(temperature=0.07, window=window, gap_frames=4)
    return learner.loss({"first": first, "other_again": again}, facts, LATE, dice())


def test_equivariant_keys_cost_nothing() -> None:
    """The other view is mirrored, its keys are, and the geometry says so."""
    keys, places = distinct_keys(2), own_places(2)
    mirrored = keys.unflatten(2, (SIDE, SIDE)).flip(3).flatten(2)
    mirrored_places = torch.stack((SIDE - 1 - places[..., 0], places[..., 1]), dim=2)
    assert equivariance_loss(keys, mirrored, mirrored_places) < 0.01
    assert equivariance_loss(keys, mirrored, places) > 3


def test_equal_keys_are_not_rewarded() -> None:
    keys = equal_keys(2)
    assert equivariance_loss(keys, keys).item() == pytest.approx(np.log(2 * TOKENS), rel=1e-3)


def test_motion_within_the_window_is_tolerated_and_beyond_it_is_not() -> None:
    """All but the tokens that come round the border find themselves a token away; none does two tokens away."""
    keys = distinct_keys(2)
    came_round = 1 / SIDE * (1 / 0.07)  # they find nothing near: about 1 / temperature each
    assert equivariance_loss(keys, shifted(keys, 1, 0)).item() == pytest.approx(came_round, rel=0.01)
    assert equivariance_loss(keys, shifted(keys, 1, 0), window=0.5) > 10
    assert equivariance_loss(keys, shifted(keys, 2, 0)) > 10


def test_other_clips_are_negatives() -> None:
    keys = distinct_keys(1).repeat(2, 1, 1)
    assert equivariance_loss(keys, keys).item() == pytest.approx(np.log(2), rel=1e-2)


def test_frames_far_apart_and_places_outside_do_not_count() -> None:
    keys = distinct_keys(2)
    wrong_second = torch.stack((keys[0], shifted(keys, 2, 2)[1]))
    assert equivariance_loss(keys, wrong_second) > 5
    assert equivariance_loss(keys, wrong_second, gaps=(4, 5)) < 0.01
    assert equivariance_loss(keys, shifted(keys, 2, 2), gaps=(5, 24)) == 0
    places = own_places(2).clone()
    places[1] = SIDE + 3.0
    assert equivariance_loss(keys, wrong_second, places) < 0.01


def test_the_plain_view_gets_no_gradient() -> None:
    first, again = (equal_keys(2).requires_grad_() for _ in range(2))
    equivariance_loss(first, again).backward()  # type: ignore[no-untyped-call]
    assert first.grad is None
    assert again.grad is not None

"""Reconstruction: the right affinity carries the dropped channel exactly, and only from within the window."""

import pytest
import torch
from token_keys import LATE, SIDE, TOKENS, dice, distinct_keys, equal_keys, own_places, shifted

from train.correspondence.reconstruction import Reconstruction

LEARNER = Reconstruction(temperature=0.05, window=2, gap_frames=8)


def colours(batch: int = 2, cells: int = 4) -> torch.Tensor:
    """[B, TOKENS, C, 2] in -1..1."""
    return torch.rand((batch, TOKENS, cells, 2), generator=torch.Generator().manual_seed(3)) * 2 - 1


def moved_colours(of_tokens: torch.Tensor, x: int, y: int) -> torch.Tensor:
    return of_tokens.unflatten(1, (SIDE, SIDE)).roll((y, x), (1, 2)).flatten(1, 2)


def reconstruction_loss(
    first: torch.Tensor,
    other: torch.Tensor,
    first_colours: torch.Tensor,
    other_colours: torch.Tensor,
    gaps: tuple[int, ...] = (1, 2),
    dropped: tuple[int, ...] = (0, 1),
) -> torch.Tensor:
    facts = {
        "first_colours": first_colours,
        "other_colours": other_colours,
        "gap_frames": torch.tensor(gaps),
        "dropped_channel": torch.tensor(dropped),
    }
    return LEARNER.loss({"first_dropped": first, "other_dropped": other}, facts, LATE, dice())


def within(x: int, y: int) -> torch.Tensor:
    """Tokens of the other frame that did not come round the border when all moved by (x, y)."""
    places = own_places(1)[0]
    return (places[:, 0] >= x) & (places[:, 1] >= y)


def test_keys_of_the_true_motion_carry_the_colours_exactly() -> None:
    first, other = distinct_keys(2), shifted(distinct_keys(2), 2, 1)
    carried = torch.einsum("bnm,bmcd->bncd", LEARNER.affinity(other, first), colours())
    true = moved_colours(colours(), 2, 1)
    torch.testing.assert_close(carried[:, within(2, 1)], true[:, within(2, 1)], atol=1e-5, rtol=0)


def test_nothing_is_taken_from_outside_the_window() -> None:
    affinity = LEARNER.affinity(shifted(distinct_keys(2), 3, 0), distinct_keys(2))
    distance = (own_places(1)[0][:, None] - own_places(1)[0]).abs().amax(dim=2)
    assert (affinity[:, distance > 2] == 0).all()
    torch.testing.assert_close(affinity.sum(dim=2), torch.ones(2, TOKENS))


def test_right_keys_cost_nothing_and_wrong_or_equal_ones_do() -> None:
    keys = distinct_keys(2)
    assert reconstruction_loss(keys, keys, colours(), colours()) < 1e-6
    assert reconstruction_loss(keys, shifted(keys, 1, 0), colours(), colours()) > 5
    assert reconstruction_loss(equal_keys(2), equal_keys(2), colours(), colours()) > 5


def test_the_error_is_smooth_l1_of_twentyfold_colours() -> None:
    keys, grey = distinct_keys(2), torch.zeros(2, TOKENS, 1, 2)
    assert reconstruction_loss(keys, keys, grey, grey + 0.5).item() == pytest.approx(20 * 0.5 - 0.5)


def test_only_the_dropped_channel_of_each_clip_counts() -> None:
    keys = distinct_keys(2)
    wrong = colours()
    wrong[0, ..., 1] += 0.3
    wrong[1, ..., 0] += 0.3
    assert reconstruction_loss(keys, keys, colours(), wrong, dropped=(0, 1)) < 1e-6
    assert reconstruction_loss(keys, keys, colours(), wrong, dropped=(1, 0)) > 5


def test_a_frame_and_itself_and_frames_far_apart_do_not_count() -> None:
    keys = distinct_keys(2)
    wrong_second = torch.stack((colours()[0], -colours()[1]))
    assert reconstruction_loss(keys, keys, colours(), wrong_second, gaps=(1, 8)) > 1
    assert reconstruction_loss(keys, keys, colours(), wrong_second, gaps=(1, 9)) < 1e-6
    assert reconstruction_loss(keys, keys, colours(), wrong_second, gaps=(1, 0)) < 1e-6
    assert reconstruction_loss(keys, keys, colours(), -colours(), gaps=(0, 24)) == 0

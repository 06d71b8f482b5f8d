"""What the keys say of a cluster, against windows small enough to count by hand."""

import pytest
import torch

from train.clustering.key_evidence import contrasts, stabilities


def distinct_keys(frames: int, height: int, width: int) -> torch.Tensor:
    """Every place has a key of its own, the same in all frames: a camera that rests."""
    tokens = height * width
    return torch.eye(tokens).view(1, tokens, height, width).repeat(frames, 1, 1, 1)


def test_what_rests_with_its_keys_is_stable() -> None:
    winner = torch.zeros(3, 4, 4, dtype=torch.long)
    winner[:, 1:3, 1:3] = 1
    assert stabilities(winner, distinct_keys(3, 4, 4), 2).tolist() == [1.0, 1.0]


def test_what_goes_elsewhere_than_its_keys_is_not() -> None:
    """Keys rest, the cluster of 4 tokens moves by one column: 2 of 6 tokens agree, of its surrounding 10 of 14."""
    winner = torch.zeros(2, 4, 4, dtype=torch.long)
    winner[0, 1:3, 0:2] = 1
    winner[1, 1:3, 1:3] = 1
    assert stabilities(winner, distinct_keys(2, 4, 4), 2) == pytest.approx([10 / 14, 2 / 6])


def test_what_moves_with_its_keys_is_stable() -> None:
    key = distinct_keys(2, 4, 4)
    key[1] = key[1].roll(1, dims=2)
    winner = torch.zeros(2, 4, 4, dtype=torch.long)
    winner[0, 1:3, 0:2] = 1
    winner[1, 1:3, 1:3] = 1
    assert stabilities(winner, key, 2).tolist() == [1.0, 1.0]


def test_the_worst_pair_of_frames_counts_and_a_missing_cluster_is_not_stable() -> None:
    winner = torch.zeros(3, 4, 4, dtype=torch.long)
    winner[:2, 1:3, 1:3] = 1  # gone in the last frame
    assert stabilities(winner, distinct_keys(3, 4, 4), 3)[1:].tolist() == [0.0, 0.0]
    assert stabilities(winner[:1], distinct_keys(1, 4, 4), 2).tolist() == [1.0, 1.0]


def test_an_outline_where_the_keys_change_stands_out() -> None:
    """4 of 24 neighbours differ, all at the outline: its change is 1, the usual one 4 / 24."""
    key = torch.zeros(1, 2, 4, 4)
    key[:, 0, :, :2] = 1
    key[:, 1, :, 2:] = 1
    winner = torch.zeros(1, 4, 4, dtype=torch.long)
    winner[:, :, 2:] = 1
    assert contrasts(winner, key, 2) == pytest.approx([6.0, 6.0])


def test_an_outline_drawn_across_a_ground_does_not() -> None:
    """The same keys, cut into upper and lower half: only the places where both outlines cross would change."""
    key = torch.zeros(1, 2, 4, 4)
    key[:, 0, :, :2] = 1
    key[:, 1, :, 2:] = 1
    winner = torch.zeros(1, 4, 4, dtype=torch.long)
    winner[:, 2:] = 1
    assert contrasts(winner, key, 2).tolist() == [0.0, 0.0]
    assert contrasts(winner, distinct_keys(1, 4, 4), 2) == pytest.approx([1.0, 1.0]), "everything changes everywhere"
    assert contrasts(torch.zeros_like(winner), key, 2).tolist() == [0.0, 0.0], "no outline"

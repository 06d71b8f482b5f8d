"""Pasted objects are where their labels say."""

import numpy as np

from train.pasting import Cutout, blob, cut_blob, cut_object, paste


def test_the_label_covers_what_was_painted() -> None:
    rng = np.random.default_rng(2)
    frames, labels = np.zeros((4, 96, 96, 3), np.uint8), np.zeros((4, 96, 96), np.uint8)
    paste(rng, frames, labels, Cutout(np.full((40, 40, 3), 200, np.uint8), blob(rng, 40)), label=2)
    for frame, label in zip(frames, labels, strict=True):
        painted = frame.max(axis=2) > 90
        both, either = (painted & (label == 2)).sum(), (painted | (label == 2)).sum()
        assert either > 50
        assert both / either > 0.9


def test_a_later_paste_hides_an_earlier_one() -> None:
    rng = np.random.default_rng(0)
    frames, labels = np.zeros((2, 64, 64, 3), np.uint8), np.zeros((2, 64, 64), np.uint8)
    labels[:] = 1
    everything = Cutout(np.full((30, 30, 3), 90, np.uint8), np.ones((30, 30), np.float32))
    paste(rng, frames, labels, everything, label=0)
    assert (labels == 0).any(), "a distractor is background, also where an object was"


def test_things_move_between_frames() -> None:
    rng = np.random.default_rng(4)
    frames, labels = np.zeros((3, 96, 96, 3), np.uint8), np.zeros((3, 96, 96), np.uint8)
    paste(rng, frames, labels, cut_blob(rng, rng.integers(0, 256, (80, 120, 3), dtype=np.uint8)), label=1)
    assert (labels[0] != labels[2]).any()


def test_blobs_fill_a_good_part_of_their_square() -> None:
    shares = [blob(np.random.default_rng(seed), 64).mean() for seed in range(30)]
    assert min(shares) > 0.15
    assert max(shares) < 0.95


def test_an_object_too_small_to_see_is_not_cut() -> None:
    mask = np.zeros((50, 50), bool)
    mask[3:9, 3:40] = True
    assert cut_object(np.zeros((50, 50, 3), np.uint8), mask) is None

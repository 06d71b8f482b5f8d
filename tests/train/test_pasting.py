"""Pasted objects are where their labels say."""

import numpy as np

from train.pasting import Cutout, blob, cut_blob, cut_object, paste, paste_carried, paste_crowd


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


def test_a_crowd_is_one_thing_several_times_side_by_side() -> None:
    rng = np.random.default_rng(1)
    overlaps = []
    for _ in range(8):
        frames, labels = np.zeros((3, 128, 128, 3), np.uint8), np.zeros((3, 128, 128), np.uint8)
        paste_crowd(rng, frames, labels, Cutout(np.full((40, 30, 3), 200, np.uint8), blob(rng, 40)[:, 5:35]), (1, 2, 3))
        present = [label for label in (1, 2, 3) if (labels[0] == label).any()]
        assert len(present) >= 2
        areas = [int((labels[0] == label).sum()) for label in present]
        overlaps.append(min(areas) / max(areas))
        painted = frames[0].max(axis=2) > 90
        assert (painted == (labels[0] > 0)).mean() > 0.97, "every member has a label"
    assert np.median(overlaps) > 0.3, "members hide one another in part, not wholly"


def test_background_members_of_a_crowd_have_no_label() -> None:
    rng = np.random.default_rng(3)
    frames, labels = np.zeros((3, 128, 128, 3), np.uint8), np.zeros((3, 128, 128), np.uint8)
    paste_crowd(rng, frames, labels, Cutout(np.full((40, 40, 3), 200, np.uint8), blob(rng, 40)), (0, 1))
    assert set(np.unique(labels)) == {0, 1}
    assert (frames[labels == 0] > 190).any()


def test_what_is_carried_is_smaller_lies_near_and_moves_with_its_carrier() -> None:
    rng = np.random.default_rng(5)
    away, moved_apart = [], []
    for _ in range(10):
        frames, labels = np.zeros((3, 160, 160, 3), np.uint8), np.zeros((3, 160, 160), np.uint8)
        big, small = (Cutout(np.full((40, 40, 3), grey, np.uint8), blob(rng, 40)) for grey in (120, 220))
        paste_carried(rng, frames, labels, (big, 1), [(small, 2)])
        if min((labels[t] == label).sum() for t in (0, 2) for label in (1, 2)) < 12:
            continue  # out of the picture, or hidden
        centre = {(t, o): np.argwhere(labels[t] == o).mean(axis=0) for t in (0, 2) for o in (1, 2)}
        width = np.sqrt((labels[0] == 1).sum())
        away.append(np.linalg.norm(centre[0, 1] - centre[0, 2]) / width)
        moved_apart.append(np.linalg.norm((centre[2, 1] - centre[0, 1]) - (centre[2, 2] - centre[0, 2])) / width)
        assert (labels[0] == 2).sum() < 1.5 * (labels[0] == 1).sum()
    assert len(away) >= 5
    assert max(away) < 2
    assert np.median(moved_apart) < 0.3

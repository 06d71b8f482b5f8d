"""How far two answers to a clip overlap."""

import numpy as np
import pytest
from fakes import FakeNetworks

from export.following import Answer, follow, overlaps
from maskstream.moving_shapes import render
from maskstream.tracker import Prompt


def answer(soft: float, ids: list[int]) -> Answer:
    return Answer(np.full((1, 1, 1), soft, np.float32), np.array([ids], np.uint8))


def test_the_lesser_of_soft_and_hard_overlap_counts() -> None:
    ours, theirs = [answer(0.8, [1, 1, 0, 0])], [answer(0.4, [1, 1, 0, 0])]
    assert overlaps(ours, theirs, [1])[0, 0] == pytest.approx(0.5)  # 0.4 / 0.8, where id maps are the same
    theirs = [answer(0.8, [1, 0, 0, 0])]
    assert overlaps(ours, theirs, [1])[0, 0] == pytest.approx(0.5)  # one pixel of two


def test_nothing_against_nothing_is_the_same() -> None:
    empty = [answer(0.0, [0, 0])]
    assert overlaps(empty, empty, [1])[0, 0] == 1.0
    assert overlaps(empty, [answer(0.5, [0, 0])], [1])[0, 0] == 0.0


def test_frames_after_the_first_are_answered_for_every_object() -> None:
    clip = render(4, (96, 128), num_objects=2)
    prompts = [Prompt(i, clip.id_maps[0] == i) for i in (1, 2)]
    done: list[None] = []
    answers = follow(FakeNetworks(), clip.frames, prompts, lambda: done.append(None))
    assert (len(answers), len(done)) == (3, 4)
    assert answers[0].soft.shape[0] == 2
    assert answers[0].id_map.shape == (96, 128)

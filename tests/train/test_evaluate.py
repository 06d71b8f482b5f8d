"""Held-out scores, and sequences made short and small for comparing many networks."""

from pathlib import Path

import numpy as np
import pytest
from moving_square import moving_square

from maskstream.dataset import AnnotatedSequence, find_sequences
from maskstream.masks import object_ids
from maskstream.model.segmenter import Segmenter
from maskstream.pictures import write_id_map, write_jpeg
from train.evaluate import held_out_scores, shortened
from train.recipes import tiny


@pytest.fixture
def sequence(tmp_path: Path) -> AnnotatedSequence:
    """Six frames of a square that moves; in the third a speck appears that grows."""
    for index, frame in enumerate(moving_square(frames=6)):
        truth = np.zeros(frame.shape[:2], np.uint8)
        truth[30:66, 5 + 4 * index : 41 + 4 * index] = 1
        if index == 2:
            truth[81, 101] = 2
        elif index > 2:
            truth[80:90, 100:110] = 2
        write_jpeg(tmp_path / "JPEGImages" / "480p" / "square" / f"{index:05d}.jpg", frame)
        write_id_map(tmp_path / "Annotations" / "480p" / "square" / f"{index:05d}.png", truth)
    return find_sequences(tmp_path)[0]


def test_a_short_sequence_has_the_first_frames_at_the_asked_size(sequence: AnnotatedSequence) -> None:
    short = shortened(sequence, 4, 48)
    steps = list(short.steps())
    assert (short.name, short.num_frames, short.num_expected) == ("square", 4, 4)
    assert len(list(short.steps())) == 4, "it can be read again"
    assert {step.frame.shape for step in steps} == {(48, 64, 3)}
    assert {step.truth.shape for step in steps if step.truth is not None} == {(48, 64)}
    assert steps[0].prompts[0].mask.sum() == 18 * 18, "half of 36 each way"


def test_an_object_is_handed_out_where_it_can_first_be_seen(sequence: AnnotatedSequence) -> None:
    steps = list(shortened(sequence, 6, 48).steps())
    assert [[prompt.object_id for prompt in step.prompts] for step in steps] == [[1], [], [], [2], [], []]
    assert [object_ids(step.truth) for step in steps if step.truth is not None][2] == [1], "the speck is too small"


def test_a_sequence_is_never_enlarged(sequence: AnnotatedSequence) -> None:
    assert next(shortened(sequence, 2, 480).steps()).frame.shape == (96, 128, 3)


def test_copying_the_first_mask_is_scored_beside_what_networks_answer(sequence: AnnotatedSequence) -> None:
    scores = held_out_scores(Segmenter(tiny().model), [shortened(sequence, 3, 96)])
    assert scores.keys() == {"decoded", "coarse", "copied"}
    # one frame is scored, the second: moved by 4 of 36 columns, 32 are in both and 40 in either; F is less exact
    assert 60 < scores["copied"] < 100
    assert held_out_scores(Segmenter(tiny().model), [])["decoded"] == 0.0

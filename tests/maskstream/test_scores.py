"""J, F and their statistics against cases worked out by hand, and F against its definition by distances."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from maskstream.scores import (
    Mask,
    ObjectScores,
    SequenceScorer,
    Statistics,
    as_percent,
    boundary,
    boundary_f,
    jaccard,
    mean_scores,
    mean_statistics,
    sequence_as_percent,
    statistics,
    statistics_as_percent,
)


def square(size: tuple[int, int], top: int, left: int, side: int) -> Mask:
    mask = np.zeros(size, dtype=bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_jaccard_of_shifted_squares() -> None:
    truth = square((60, 80), 10, 10, 20)
    assert jaccard(truth, truth) == 1.0
    assert jaccard(square((60, 80), 10, 20, 20), truth) == pytest.approx(200 / 600)  # half of each overlaps
    assert jaccard(square((60, 80), 10, 40, 20), truth) == 0.0


def test_jaccard_of_empty_masks() -> None:
    empty, some = np.zeros((8, 8), dtype=bool), square((8, 8), 2, 2, 3)
    assert jaccard(empty, empty) == 1.0
    assert jaccard(some, empty) == jaccard(empty, some) == 0.0


def test_boundary_lies_half_a_pixel_towards_the_origin() -> None:
    expected = np.zeros((6, 6), dtype=bool)
    expected[1:4, 1] = expected[1, 1:4] = True  # above and left of the square
    expected[3, 1:4] = expected[1:4, 3] = True  # its last row and column
    np.testing.assert_array_equal(boundary(square((6, 6), 2, 2, 2)), expected)


def test_boundary_of_a_full_frame_is_empty() -> None:
    assert not boundary(np.ones((5, 7), dtype=bool)).any()


def test_boundary_in_last_row_and_column() -> None:
    mask = square((5, 5), 3, 3, 2)  # touches the lower right corner
    expected = np.zeros((5, 5), dtype=bool)
    expected[2, 2:5] = expected[2:5, 2] = True
    np.testing.assert_array_equal(boundary(mask), expected)


@pytest.mark.parametrize(("shift", "agree"), [(0, True), (1, True), (2, False)])
def test_f_tolerance_is_rounded_up(shift: int, agree: bool) -> None:
    """The diagonal of 60x80 is 100: 0.8 pixels, rounded up to 1."""
    truth = square((60, 80), 20, 20, 20)
    f = boundary_f(square((60, 80), 20, 20 + shift, 20), truth)
    assert (f == 1.0) is agree
    if not agree:  # of 80 contour pixels each, those of upper and lower side but one at an end are near
        assert 0.4 < f < 0.7


def test_f_tolerance_at_480p_is_eight_pixels() -> None:
    truth = square((480, 854), 100, 100, 200)
    assert math.ceil(0.008 * math.hypot(480, 854)) == 8
    assert boundary_f(square((480, 854), 100, 108, 200), truth) == 1.0
    assert boundary_f(square((480, 854), 100, 109, 200), truth) < 1.0


def test_f_far_apart_is_zero() -> None:
    assert boundary_f(square((60, 80), 0, 0, 10), square((60, 80), 40, 60, 10)) == 0.0


def test_f_of_masks_without_contour() -> None:
    empty, full, some = np.zeros((40, 40), dtype=bool), np.ones((40, 40), dtype=bool), square((40, 40), 5, 5, 9)
    assert boundary_f(empty, empty) == boundary_f(full, empty) == 1.0  # neither has a contour, as in the toolkit
    assert boundary_f(some, empty) == boundary_f(empty, some) == 0.0


def test_f_weighs_precision_and_recall() -> None:
    """All of the truth's contour is found, and as much again that is not there."""
    truth = square((60, 80), 10, 10, 10)
    both = truth | square((60, 80), 40, 60, 10)
    assert boundary_f(both, truth) == pytest.approx(2 * 0.5 * 1 / 1.5)


@settings(max_examples=60, deadline=None)
@given(
    arrays(bool, st.tuples(st.integers(2, 24), st.integers(2, 24))), st.randoms(use_true_random=False), st.floats(0, 1)
)
def test_f_is_its_definition_by_distances(truth: Mask, random, keep: float) -> None:  # type: ignore[no-untyped-def]
    mask = truth & (np.array([random.random() for _ in range(truth.size)]).reshape(truth.shape) < keep)
    radius = math.ceil(0.008 * math.hypot(*truth.shape))
    points, true_points = np.argwhere(boundary(mask)), np.argwhere(boundary(truth))
    if not len(points) or not len(true_points):
        expected = float(len(points) == len(true_points))
    else:
        near = ((points[:, None] - true_points[None]) ** 2).sum(axis=2) <= radius**2
        precision, recall = near.any(axis=1).mean(), near.any(axis=0).mean()
        expected = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    assert boundary_f(mask, truth) == pytest.approx(expected)


def test_masks_of_two_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[4, 4\] and \[4, 5\]"):
        jaccard(np.zeros((4, 4), dtype=bool), np.zeros((4, 5), dtype=bool))


def test_statistics_of_a_known_series() -> None:
    """Nine frames: bin edges fall on 1, 3, 5, 7, 9, so first and last bin are frames 1-3 and 7-9."""
    found = statistics([0.9, 0.8, 0.7, 0.6, 0.6, 0.6, 0.3, 0.2, 0.1])
    assert found.mean == pytest.approx(4.8 / 9)
    assert found.recall == pytest.approx(6 / 9)
    assert found.decay == pytest.approx(0.8 - 0.2)


def test_decay_rounds_its_bin_edges_as_the_toolkit_does() -> None:
    """Four frames: edges 1, 1.75, 2.5, 3.25, 4 become 1, 2, 3, 3, 4; a half is rounded up."""
    assert statistics([1.0, 0.8, 0.4, 0.0]).decay == pytest.approx(0.9 - 0.2)


def test_decay_of_a_long_series_is_not_garbled() -> None:
    series = np.linspace(1, 0, 1001)
    assert statistics(series.tolist()).decay == pytest.approx(0.75)


def test_recall_counts_only_above_one_half() -> None:
    assert statistics([0.5, 0.51, 0.4, 0.6]).recall == 0.5


def test_statistics_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least three frames"):
        statistics([])


def test_first_and_last_frame_are_left_out() -> None:
    truth = square((40, 40), 10, 10, 10).astype(np.uint8)
    wrong = np.zeros_like(truth)
    scorer = SequenceScorer()
    for answer in (wrong, truth, truth, wrong):
        scorer.add(answer, truth)
    assert scorer.finish().objects[1].j == Statistics(1.0, 1.0, 0.0)


def test_objects_are_scored_apart_and_ids_may_be_high() -> None:
    truth = np.zeros((40, 80), dtype=np.uint8)
    truth[10:20, 10:20], truth[10:20, 50:60] = 3, 200
    answer = np.where(truth == 3, 3, 0).astype(np.uint8)
    scorer = SequenceScorer()
    for _ in range(4):
        scorer.add(answer, truth)
    scores = scorer.finish()
    assert list(scores.objects) == [3, 200]
    assert scores.objects[3].jf == 1.0
    assert scores.objects[200].jf == 0.0
    assert as_percent(scores.mean) == {"jf": 50.0, "j": 50.0, "f": 50.0}
    assert sequence_as_percent(scores)["objects"]["200"]["j"] == 0.0


def test_object_that_appears_late_is_scored_after_its_first_frame() -> None:
    nothing = np.zeros((40, 40), dtype=np.uint8)
    truth = square((40, 40), 10, 10, 10).astype(np.uint8)
    scorer = SequenceScorer()
    for answer, true_map in ((nothing, nothing), (nothing, truth), (truth, truth), (nothing, truth)):
        scorer.add(answer, true_map)
    assert scorer.finish().objects[1].j.mean == 1.0  # one frame: not its prompt, not the last


def test_object_of_the_last_frames_alone_has_no_score() -> None:
    nothing, truth = np.zeros((9, 9), dtype=np.uint8), np.ones((9, 9), dtype=np.uint8)
    scorer = SequenceScorer()
    for true_map in (nothing, truth, truth):
        scorer.add(true_map, true_map)
    scores = scorer.finish()
    assert scores.objects == {}
    assert scores.mean is None
    assert as_percent(scores.mean) == {"jf": None, "j": None, "f": None}
    assert mean_scores([]) is None


def test_statistics_are_averaged_over_objects_each_apart() -> None:
    """As both toolkits do: the mean of the recalls, not the recall over all frames."""
    good, bad = Statistics(0.9, 1.0, 0.1), Statistics(0.3, 0.25, -0.3)
    objects = [ObjectScores(good, bad), ObjectScores(bad, bad)]
    means = mean_statistics(objects)
    assert means is not None
    assert (means[0].mean, means[0].recall, means[0].decay) == pytest.approx((0.6, 0.625, -0.1))
    assert means[1] == bad
    percent = statistics_as_percent(objects)
    assert percent is not None
    assert percent["j"] == {"mean": 60.0, "recall": 62.5, "decay": -10.0}
    assert mean_statistics([]) is statistics_as_percent([]) is None


def test_adding_a_frame_tells_its_j_by_object() -> None:
    truth = np.zeros((40, 80), dtype=np.uint8)
    truth[10:20, 10:20], truth[10:20, 50:60] = 3, 200
    scorer = SequenceScorer()
    assert scorer.add(truth, truth) == {}  # this frame was given
    assert scorer.add(np.where(truth == 3, 3, 0).astype(np.uint8), truth) == {3: 1.0, 200: 0.0}


def test_last_frame_counts_where_the_benchmark_says_so() -> None:
    truth = square((40, 40), 10, 10, 10).astype(np.uint8)
    means = []
    for last_is_scored in (False, True):
        scorer = SequenceScorer(last_is_scored)
        for answer in (truth, truth, np.zeros_like(truth)):
            scorer.add(answer, truth)
        means.append(scorer.finish().objects[1].j.mean)
    assert means == [1.0, 0.5]


def test_frame_that_is_silent_about_an_object_neither_scores_nor_begins_it() -> None:
    truth = np.zeros((40, 80), dtype=np.uint8)
    truth[10:20, 10:20], truth[10:20, 50:60] = 1, 2
    wrong = np.zeros_like(truth)
    scorer = SequenceScorer(last_is_scored=True)
    scorer.add(wrong, truth, {1})  # object 2 begins later, though this truth has it
    scorer.add(wrong, truth, {2})  # which is now given; object 1 is not spoken of
    assert scorer.add(truth, truth, {1, 2}) == {1: 1.0, 2: 1.0}
    scores = scorer.finish()
    assert (scores.objects[1].j.mean, scores.objects[2].j.mean) == (1.0, 1.0)

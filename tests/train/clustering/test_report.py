"""Figures of pseudo masks against label maps counted by hand."""

import numpy as np
import pytest

from train.clustering.pseudo_window import DOUBT, PseudoWindow
from train.clustering.report import best_overlap, cluster_entropy, cluster_report, mean_overlap


def labels(*rows: str) -> np.ndarray:
    """One frame; a digit is a label, with DOUBT where it is followed by nothing but a letter: a is 0, b is 1."""
    codes = {**{str(i): i for i in range(10)}, "a": DOUBT, "b": DOUBT | 1}
    return np.array([[[codes[c] for c in row] for row in rows]], np.uint8)


def test_entropy_is_zero_when_clusters_collapse_and_one_bit_for_two_halves() -> None:
    assert cluster_entropy([PseudoWindow(0, (0,), labels("0000", "0000"))]) == 0
    assert cluster_entropy([PseudoWindow(0, (0,), labels("1100", "1100"))]) == pytest.approx(1)
    assert cluster_entropy([PseudoWindow(0, (0,), labels("1ab0", "1ab0"))]) == pytest.approx(1), "doubt does not count"
    assert cluster_entropy([]) == 0


def test_best_overlap_is_the_iou_with_the_best_label_over_all_frames() -> None:
    truth = np.concatenate((labels("5500", "5500"), labels("0550", "0000")))
    found = np.concatenate((labels("1110", "2200"), labels("0110", "0000")))
    # object 5 has 6 pixels; label 1 has 5, of which 4 lie on it: 4 / 7. Label 2: 2 / 6
    assert best_overlap(found, truth) == {5: pytest.approx(4 / 7)}


def test_pixels_in_doubt_count_with_their_label_and_background_is_no_match() -> None:
    truth = labels("3300")
    assert best_overlap(labels("1b00"), truth) == {3: pytest.approx(1.0)}
    assert best_overlap(labels("1aa0"), truth) == {3: pytest.approx(0.5)}
    assert best_overlap(labels("0000"), truth) == {3: 0.0}
    assert best_overlap(labels("1100"), labels("0000")) == {}


def test_every_object_has_its_own_best_mask() -> None:
    assert best_overlap(labels("1122"), labels("7890")) == {7: 0.5, 8: 0.5, 9: 0.5}


def test_mean_overlap_reads_the_frames_of_the_window_at_its_size() -> None:
    window = PseudoWindow(2, (0, 3), np.concatenate((labels("1100"), labels("1100"))))
    large = np.zeros((2, 8), np.uint8)
    large[:, :4] = 1
    elsewhere = np.ones((2, 8), np.uint8)
    truths = {2: [large, elsewhere, elsewhere, large]}
    assert mean_overlap([window], truths) == pytest.approx(1.0)
    assert mean_overlap([window], {1: truths[2]}) == 0.0


def test_report_counts_windows_objects_and_areas() -> None:
    windows = [PseudoWindow(0, (0,), labels("1200")), PseudoWindow(1, (0,), labels("1b00"))]
    report = cluster_report(windows, drawn=5)
    assert report["clusters/windows"] == 5
    assert report["clusters/windows_kept"] == 2
    assert report["clusters/objects_per_window"] == 1.5
    assert report["clusters/area_share"] == pytest.approx((0.25 + 0.25 + 0.5) / 3)
    assert report["clusters/entropy_bits"] == pytest.approx(cluster_entropy(windows))


def test_report_of_no_windows_is_all_zero() -> None:
    assert set(cluster_report([]).values()) == {0.0}
    assert cluster_report([], drawn=3)["clusters/windows"] == 3

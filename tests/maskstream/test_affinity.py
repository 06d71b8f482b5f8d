"""The reference read-out against cases small enough to do by hand."""

import numpy as np
import pytest

from maskstream.affinity import ReadOutSettings, affinity, read_out, similarity

PLAIN = ReadOutSettings(temperature=1.0, start_tokens=1e6, growth_tokens=0.0)  # no locality to speak of


def test_two_by_two_case_by_hand() -> None:
    """Query (1, 0) against keys (1, 0) and (0, 1): affinities e/(e+1) and 1/(e+1)."""
    query_KP = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    key_KTN = np.array([[[1.0, 0.0]], [[0.0, 1.0]]], np.float32)
    found = affinity(similarity(query_KP, key_KTN, np.zeros(1, np.float32), (1, 2), PLAIN), np.ones(1, np.float32))
    likely = np.e / (np.e + 1)
    np.testing.assert_allclose(found[:, 0], [[likely, 1 - likely], [1 - likely, likely]], rtol=1e-6)
    value_OVTN = np.array([[[[10.0, 20.0]]]], np.float32)
    readout = read_out(found, value_OVTN, np.ones((1, 1), np.float32))
    np.testing.assert_allclose(
        readout[0, 0], [10 * likely + 20 * (1 - likely), 20 * likely + 10 * (1 - likely)], rtol=1e-6
    )


def test_distance_is_penalised_by_half_its_square_over_the_spread() -> None:
    settings = ReadOutSettings(temperature=1.0, start_tokens=2.0, growth_tokens=1.0)
    nothing = np.zeros((1, 3), np.float32)
    found = similarity(nothing, nothing[:, None], np.array([5.0], np.float32), (1, 3), settings)
    assert found[0, 0, 2] == pytest.approx(-4 / (2 * (4 + 5)))


def test_an_object_is_read_only_from_slots_that_hold_it() -> None:
    """Two slots match equally well; the second one does not know the object and must not dilute it."""
    affinity_PTN = np.full((1, 2, 1), 0.5, np.float32)
    value_OVTN = np.array([[[[8.0], [0.0]]]], np.float32)
    readout = read_out(affinity_PTN, value_OVTN, np.array([[1.0, 0.0]], np.float32))
    assert readout.item() == pytest.approx(8.0)


def test_empty_slots_get_no_affinity() -> None:
    found = affinity(np.zeros((1, 2, 2), np.float32), np.array([0.0, 1.0], np.float32))
    assert found[0, 0].sum() == 0
    assert found[0, 1].sum() == pytest.approx(1.0)

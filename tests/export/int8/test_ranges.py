"""Ranges of what was seen: quantiles averaged over frames, and 0 always inside."""

import numpy as np
import pytest

from export.int8.ranges import Ranges, RangeSettings


def test_all_values_are_inside_when_none_is_cut_off() -> None:
    ranges = Ranges(RangeSettings(quantile=1))
    ranges.add("x", np.array([-1.0, 5.0]))
    ranges.add("x", np.array([-3.0, 2.0]))
    assert ranges.of("x") == (-3.0, 5.0)


def test_a_rare_value_of_one_frame_does_not_widen_the_range() -> None:
    ranges = Ranges(RangeSettings(quantile=0.99))
    for peak in (1.0, 1000.0):
        values = np.linspace(0, 1, 10_001)
        values[5000] = peak
        ranges.add("x", values)
    low, high = ranges.of("x")
    assert low == pytest.approx(0.0)  # the lowest half percent is cut off, and 0 put back
    assert high == pytest.approx(0.995, abs=1e-3)


def test_frames_count_alike() -> None:
    ranges = Ranges(RangeSettings(quantile=0.5))
    for scale in (1.0, 3.0):
        ranges.add("x", scale * np.linspace(-1, 1, 101))
    assert ranges.of("x") == pytest.approx((-1.0, 1.0))


def test_zero_is_inside_though_it_was_never_seen() -> None:
    ranges = Ranges()
    ranges.add("high", np.array([5.0, 6.0]))
    ranges.add("low", np.array([-6.0, -5.0]))
    ranges.add("none", np.zeros((0, 3)))
    assert ranges.of("high")[0] == 0
    assert ranges.of("low")[1] == 0
    assert list(ranges.all()) == ["high", "low"]

""" "auto" takes the fastest engine whose masks are right, and says what the others did."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from maskstream.engines.choice import Choice, Measured, TrialCutShort, choose
from maskstream.errors import EngineUnavailable

MASK = np.zeros((8, 8), np.float32)
MASK[2:6, 2:6] = 1.0
SLOW = Measured("fp32", 0.5, MASK, MASK)
FAST = Measured("bf16+fp32", 0.25, MASK, MASK)


def tried(**found: Measured | EngineUnavailable) -> Callable[[str], Measured]:
    """Trials that end as they are told to."""

    def trial(name: str) -> Measured:
        outcome = found[name]
        if isinstance(outcome, EngineUnavailable):
            raise outcome
        return outcome

    return trial


@pytest.mark.parametrize("order", [("slow", "fast"), ("fast", "slow")])
def test_the_fastest_is_chosen_and_the_reason_has_all_figures(order: tuple[str, str]) -> None:
    choice = choose(order, tried(slow=SLOW, fast=FAST))
    assert choice.engine == "fast"
    assert choice.reason == "auto: fast bf16+fp32 250 ms a step; slow fp32 500 ms a step"
    assert choice.lasting


def test_masks_that_almost_agree_are_right_and_others_are_left_out_however_fast() -> None:
    near, far = MASK.copy(), MASK.copy()
    near[2, 2] = 0.6  # IoU 15.6 / 16 = 0.975
    far[2, 2] = 0.5  # 15.5 / 16 = 0.969
    assert choose(("checked", "near"), tried(checked=SLOW, near=replace(FAST, coarse=near))).engine == "near"
    choice = choose(("checked", "far"), tried(checked=SLOW, far=replace(FAST, coarse=far)))
    assert choice.engine == "checked"
    assert choice.reason.endswith("far bf16+fp32 250 ms a step, left out: its masks differ (IoU 0.969)")


@pytest.mark.parametrize("part", ["coarse", "answered"])
@pytest.mark.parametrize("wrong", [0 * MASK, np.nan * MASK, MASK[:4]], ids=["empty", "not a number", "another shape"])
def test_both_masks_must_be_right(part: str, wrong: np.ndarray) -> None:
    other = Measured(FAST.precision, FAST.seconds, **{"coarse": MASK, "answered": MASK, part: wrong})
    choice = choose(("checked", "wrong"), tried(checked=SLOW, wrong=other))
    assert choice.engine == "checked"
    assert "left out: its masks differ (IoU 0.000)" in choice.reason


def test_two_empty_masks_agree() -> None:
    empty = replace(FAST, coarse=0 * MASK, answered=0 * MASK)
    assert choose(("checked", "other"), tried(checked=replace(empty, seconds=1.0), other=empty)).engine == "other"


def test_an_engine_that_does_not_start_is_named_with_its_error() -> None:
    choice = choose(("broken", "sound"), tried(broken=EngineUnavailable("it has no such provider"), sound=SLOW))
    assert choice.engine == "sound"
    assert choice.reason == "auto: sound fp32 500 ms a step; broken does not run (it has no such provider)"
    assert choice.lasting, "it will refuse again"


def test_a_trial_that_was_cut_short_may_end_otherwise_another_time() -> None:
    choice = choose(("sound", "late"), tried(sound=SLOW, late=TrialCutShort("stopped after 120 seconds")))
    assert choice.engine == "sound"
    assert not choice.lasting


def test_where_none_runs_all_reasons_are_told() -> None:
    refusals = tried(one=EngineUnavailable("no GPU"), two=TrialCutShort("killed"))
    with pytest.raises(EngineUnavailable, match=r"one does not run \(no GPU\); two does not run \(killed\); name one"):
        choose(("one", "two"), refusals)


def test_a_single_candidate_is_not_tried() -> None:
    assert choose(("only",), tried()) == Choice("only")
    assert choose(("only",), tried()).reason.startswith("auto: only, not timed: no other is installed")

"""Settings: numbers with the values that the shipped weights were learnt with."""

from dataclasses import asdict

import pytest

from train.correspondence import CorrespondenceSettings, active_learners


def test_by_default_the_learners_of_the_shipped_weights_are_on() -> None:
    weights = [(learner.name, weight) for weight, learner in active_learners(CorrespondenceSettings())]
    assert weights == [("walk", 1.0), ("match", 0.5), ("anchors", 0.3)]


def test_settings_are_numbers_so_that_the_command_line_can_set_them() -> None:
    assert {type(value) for value in asdict(CorrespondenceSettings()).values()} == {int, float}


@pytest.mark.parametrize("weight", [-0.1, float("nan")])
def test_a_weight_is_not_negative(weight: float) -> None:
    with pytest.raises(ValueError, match="anchor_weight is"):
        CorrespondenceSettings(anchor_weight=weight)

"""The stages a recipe makes, and recipes that make no sense."""

from dataclasses import replace

import pytest

from train.recipes import RECIPES, StageSettings, tiny
from train.stages import check, stages


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_makes_sense(name: str) -> None:
    recipe = RECIPES[name]()
    check(recipe)
    assert len(stages(recipe)) == 1 + recipe.rounds


def test_correspondence_comes_first_then_rounds_of_masks() -> None:
    assert [(stage.name, stage.round) for stage in stages(replace(tiny(), rounds=2))] == [
        ("correspondence", 0),
        ("masks1", 1),
        ("masks2", 2),
    ]


def test_correspondence_goes_on_between_rounds_and_counts_its_steps() -> None:
    first = StageSettings(steps=100, learning_rate=1.0)
    made = stages(replace(tiny(), correspondence_stage=first, rounds=3, correspondence_between_rounds=10))
    assert [(stage.name, stage.correspondence_steps_before) for stage in made] == [
        ("correspondence", 0),
        ("masks1", 100),
        ("correspondence2", 100),
        ("masks2", 110),
        ("correspondence3", 110),
        ("masks3", 120),
    ]
    assert [stage.settings.steps for stage in made if not stage.learns_masks] == [100, 10, 10]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (replace(tiny(), masks_correspondence_weight=0.5), r"--set masks\.encoder_rate=0\.1"),
        (replace(tiny(), clip_frames_max=8), "at least 32 are needed"),
        (replace(tiny(), ema_decay=1.0), "less than 1"),
    ],
)
def test_a_contradiction_says_what_to_change(changed: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check(changed)  # type: ignore[arg-type]


def test_learning_nothing_is_refused() -> None:
    silent = {field: 0.0 for field in vars(tiny().correspondence) if field.endswith("_weight")}
    with pytest.raises(ValueError, match="nothing to learn"):
        check(replace(tiny(), correspondence=replace(tiny().correspondence, **silent)))

"""Recipes are whole, and --set changes exactly what it names."""

import pytest

from train.recipes import RECIPES, with_overrides


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_builds_and_bears_its_name(name: str) -> None:
    recipe = RECIPES[name]()
    assert recipe.model.name == name
    assert recipe.correspondence.stride == recipe.model.stride
    assert recipe.correspondence.side % recipe.model.stride == 0 == recipe.masks.side % recipe.model.stride


def test_paper_r18_has_the_sizes_of_the_paper() -> None:
    model = RECIPES["paper_r18"]().model
    assert (model.stride, model.key_channels, model.value_channels) == (8, 128, 512)


def test_set_changes_one_value() -> None:
    changed = with_overrides(RECIPES["tiny"](), ["mask_stage.steps=9", "ema_decay=0.5"])
    assert changed.mask_stage.steps == 9
    assert changed.ema_decay == 0.5
    assert changed.correspondence == RECIPES["tiny"]().correspondence


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("mask_stage.step=9", "no setting 'mask_stage.step'; here there are: steps"),
        ("mask_stage.steps=many", "expected int"),
        ("mask_stage", "key=value"),
        ("mask_stage=9", "is a group of settings"),
    ],
)
def test_a_wrong_set_says_what_exists(assignment: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        with_overrides(RECIPES["tiny"](), [assignment])

"""What the ablation compares: each learner by itself, and no training twice."""

from dataclasses import replace

import pytest

from train.ablation_cells import GROUPS, LEARNERS, ablation_recipe, alone, cells_of
from train.correspondence import active_learners
from train.recipes import Recipe
from train.stages import check, stages


@pytest.fixture
def recipe() -> Recipe:
    return ablation_recipe()


def test_every_group_has_rows_of_different_names(recipe: Recipe) -> None:
    cells = cells_of(recipe)
    assert list(dict.fromkeys(cell.group for cell in cells)) == list(GROUPS)
    assert len({(cell.group, cell.row) for cell in cells}) == len(cells)


def test_what_rows_share_is_one_training(recipe: Recipe) -> None:
    cells = {(cell.group, cell.row): cell for cell in cells_of(recipe)}
    once = cells["parts", "+ mask embedding"].training.key
    assert cells["clusterers", recipe.clustering.method].training.key == once
    assert {cell.training.key for (group, _), cell in cells.items() if group == "bank"} == {once}
    mixed = cells["learners", "the recipe's mix"].training.chain
    assert cells["keys", "without"].training.key == mixed[0].key
    assert cells["keys", "with fine keys"].training.key == cells["parts", "correspondence alone"].training.key
    refined = [cells["parts", f"+ refinement, {passes}"].training.key for passes in ("1 pass", "2 passes")]
    assert {*refined} == {cells["parts", "+ alternation, 2 rounds"].training.key}
    # 5 learners alone, the mix with and without fine keys, two that go on; 6 learners' masks, and six more of masks
    assert len({training.key for cell in cells.values() for training in cell.training.chain}) == 9 + 12


def test_as_many_steps_are_as_many_steps(recipe: Recipe) -> None:
    cells = {cell.row: cell.training.chain for cell in cells_of(recipe)}
    steps = [
        {kind: sum(one.steps for one in cells[row] if one.learns_masks == kind) for kind in (False, True)}
        for row in ("+ as many steps as alternation", "+ alternation, 2 rounds")
    ]
    assert steps[0] == steps[1]


@pytest.mark.parametrize("learner", LEARNERS)
def test_alone_means_that_no_other_learner_has_a_weight(recipe: Recipe, learner: str) -> None:
    ((weight, active),) = active_learners(alone(recipe.correspondence, learner))
    assert (weight, active.name) == (1.0, learner)


def test_a_training_is_known_by_what_it_depends_on_and_by_nothing_else(recipe: Recipe) -> None:
    def keys(changed: Recipe) -> tuple[str, str]:
        first, second = next(cell for cell in cells_of(changed) if cell.row == "+ mask embedding").training.chain
        return first.key, second.key

    first, second = keys(recipe)
    assert keys(ablation_recipe()) == (first, second)
    other_masks = keys(replace(recipe, masks=replace(recipe.masks, clips=3)))
    assert other_masks[0] == first
    assert other_masks[1] != second
    other_keys = keys(replace(recipe, correspondence=replace(recipe.correspondence, side=64)))
    assert other_keys[0] != first
    assert other_keys[1] != second, "it comes after another one"


def test_every_training_is_a_recipe_that_can_be_run(recipe: Recipe) -> None:
    for training in {one for cell in cells_of(recipe) for one in cell.training.chain}:
        check(training.recipe)
        learning = [stage for stage in stages(training.recipe) if stage.settings.steps]
        assert [(stage.learns_masks, stage.settings.steps) for stage in learning] == [
            (training.learns_masks, training.steps)
        ]

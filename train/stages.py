"""The stages that a recipe makes of a run, in order, and whether the recipe makes sense."""

from dataclasses import dataclass, replace

from train.correspondence import active_learners
from train.decoding import FEWEST_FRAMES_MAX
from train.recipes import Recipe, StageSettings


@dataclass(frozen=True)
class Stage:
    """One stage of a run. Round 0 is before the first clustering; the mask stage of round n follows its clustering."""

    name: str
    settings: StageSettings
    round: int
    learns_masks: bool
    correspondence_steps_before: int


def stages(recipe: Recipe) -> list[Stage]:
    """The stages in order: correspondence, then rounds of mask learning, with correspondence between them if wanted."""
    first = recipe.correspondence_stage
    between = replace(first, steps=recipe.correspondence_between_rounds)
    made = [Stage("correspondence", first, 0, False, 0)]
    for number in range(1, recipe.rounds + 1):
        before = first.steps + (number - 1) * between.steps
        if number > 1 and between.steps:
            made.append(Stage(f"correspondence{number}", between, number, False, before - between.steps))
        made.append(Stage(f"masks{number}", recipe.mask_stage, number, True, before))
    return made


def check(recipe: Recipe) -> None:
    """Raises ValueError for settings that contradict each other, naming what to change."""
    if recipe.masks_correspondence_weight > 0 and recipe.masks.encoder_rate == 0:
        raise ValueError(
            "masks_correspondence_weight has nothing to teach while masks.encoder_rate is 0; "
            "add --set masks.encoder_rate=0.1"
        )
    if not active_learners(recipe.correspondence):
        raise ValueError("all weights of correspondence are 0, so there is nothing to learn; raise one of them")
    if recipe.clip_frames_max < FEWEST_FRAMES_MAX:
        raise ValueError(f"clip_frames_max={recipe.clip_frames_max}: at least {FEWEST_FRAMES_MAX} are needed")
    if not 0 <= recipe.ema_decay < 1:
        raise ValueError(f"ema_decay={recipe.ema_decay}: expected at least 0 and less than 1")

"""What the ablation compares: rows in groups, each a chain of short trainings and a way to read what comes of it.

A training is known by a digest of all that it depends on. What two rows share is therefore the same training, done
once, and a changed setting never meets old weights.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import Any

from maskstream.model.config import ModelConfig
from train.clustering import METHODS, ClusterSettings
from train.correspondence import CorrespondenceSettings
from train.mask_learning import MaskSettings
from train.recipes import Recipe, StageSettings

GROUPS = ("learners", "parts", "clusterers", "bank", "keys")
LEARNERS = {
    "equivariance": "equivariance_weight",
    "reconstruction": "reconstruction_weight",
    "anchors": "anchor_weight",
    "walk": "walk_weight",
    "match": "match_weight",
}
BANK_SLOTS = (3, 4, 6, 10)  # two are kept for prompts and one for the last frame, so three is the least
DIGEST_DIGITS = 12


@dataclass(frozen=True)
class Training:
    """One stage, correspondence or one round of masks, learnt after another training or from nothing."""

    recipe: Recipe  # the other stage has no steps
    after: "Training | None" = None

    @property
    def learns_masks(self) -> bool:
        """Whether this is a round of masks."""
        return self.recipe.rounds > 0

    @property
    def steps(self) -> int:
        """Of this stage alone."""
        return (self.recipe.mask_stage if self.learns_masks else self.recipe.correspondence_stage).steps

    @property
    def chain(self) -> "tuple[Training, ...]":
        """All trainings up to this one, in the order they are done."""
        return (*(self.after.chain if self.after else ()), self)

    @property
    def key(self) -> str:
        """Hexadecimal digits of all that the weights depend on but clips and seed."""
        parts: tuple[str, ...] = ("model", "clustering", "masks", "mask_stage", "ema_decay")
        if not self.learns_masks:
            parts = ("model", "correspondence", "correspondence_stage", "ema_decay")
        whole = asdict(self.recipe)
        return digest({part: whole[part] for part in parts} | {"after": self.after.key if self.after else None})


@dataclass(frozen=True)
class Cell:
    """One row of one group: the networks of a training, read with some constants of the model changed."""

    group: str
    row: str
    training: Training
    model: tuple[tuple[str, int], ...] = ()


def digest(value: Any) -> str:
    """Hexadecimal digits that differ when the value, of plain types, differs."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:DIGEST_DIGITS]


def ablation_recipe() -> Recipe:
    """A narrow network and short stages, so that correspondence and masks together take a minute or two on a core."""
    model = ModelConfig(
        name="ablation",
        widths=(24, 48, 96),
        blocks=(1, 1, 1),
        key_channels=32,
        fine_channels=32,
        context_channels=48,
        value_channels=48,
        skip8_channels=32,
        skip4_channels=16,
        short_side=240,
    )
    return Recipe(
        model=model,
        correspondence=CorrespondenceSettings(clips=8, side=96, anchor_warmup_steps=40),
        clustering=ClusterSettings(windows_per_clip=1, short_side=240),
        masks=MaskSettings(clips=4, side=112, context_frames=3, scored_frames=2, objects=3, dice_weight=0.0),
        correspondence_stage=StageSettings(steps=160, learning_rate=2e-3, warmup_steps=15),
        mask_stage=StageSettings(steps=100, learning_rate=1.5e-3, warmup_steps=15),
        correspondence_between_rounds=60,
        ema_decay=0.98,
    )


def cells_of(recipe: Recipe) -> list[Cell]:
    """All rows of all groups, those of a group together."""
    return [*_learners(recipe), *_parts(recipe), *_clusterers(recipe), *_bank(recipe), *_keys(recipe)]


def alone(settings: CorrespondenceSettings, learner: str) -> CorrespondenceSettings:
    """Only this learner, with weight 1. Anchors alone need no warm-up, which waits for the others."""
    weights = {weight: float(name == learner) for name, weight in LEARNERS.items()}
    changed: dict[str, Any] = weights | ({"anchor_warmup_steps": 0} if learner == "anchors" else {})
    return replace(settings, **changed)


def _learners(recipe: Recipe) -> list[Cell]:
    """Without fine keys, which anchors do not teach: so all learners are compared on the same networks."""
    plain = _with_fine_keys(recipe, 0)
    recipes = {name: replace(plain, correspondence=alone(plain.correspondence, name)) for name in LEARNERS}
    return [
        Cell("learners", name, _masks(one, _correspondence(one)))
        for name, one in {**recipes, "the recipe's mix": plain}.items()
    ]


def _parts(recipe: Recipe) -> list[Cell]:
    first = _correspondence(recipe)
    once = _masks(recipe, first)
    between = replace(recipe.correspondence_stage, steps=recipe.correspondence_between_rounds)
    more = replace(recipe, correspondence_stage=between)
    twice = _masks(recipe, _correspondence(more, once))
    long = replace(recipe, mask_stage=replace(recipe.mask_stage, steps=2 * recipe.mask_stage.steps))
    return [
        Cell("parts", "correspondence alone", first),
        Cell("parts", "+ mask embedding", once),
        Cell("parts", "+ as many steps as alternation", _masks(long, _correspondence(more, first))),
        Cell("parts", "+ alternation, 2 rounds", twice),
        Cell("parts", "+ refinement, 1 pass", twice, (("refine_passes", 1),)),
        Cell("parts", "+ refinement, 2 passes", twice, (("refine_passes", 2),)),
    ]


def _clusterers(recipe: Recipe) -> list[Cell]:
    first = _correspondence(recipe)
    by_method = {name: replace(recipe, clustering=replace(recipe.clustering, method=name)) for name in METHODS}
    pasted = replace(recipe, masks=replace(recipe.masks, paste_share=1.0, blob_share=1.0))
    return [
        Cell("clusterers", name, _masks(one, first)) for name, one in {**by_method, "none, pasted only": pasted}.items()
    ]


def _bank(recipe: Recipe) -> list[Cell]:
    once = _masks(recipe, _correspondence(recipe))
    return [Cell("bank", f"{slots} slots", once, (("capacity", slots),)) for slots in BANK_SLOTS]


def _keys(recipe: Recipe) -> list[Cell]:
    return [
        Cell("keys", "with fine keys", _correspondence(recipe)),
        Cell("keys", "without", _correspondence(_with_fine_keys(recipe, 0))),
    ]


def _with_fine_keys(recipe: Recipe, channels: int) -> Recipe:
    return replace(recipe, model=replace(recipe.model, fine_channels=channels))


def _correspondence(recipe: Recipe, after: Training | None = None) -> Training:
    return Training(replace(recipe, rounds=0), after)


def _masks(recipe: Recipe, after: Training) -> Training:
    return Training(
        replace(recipe, rounds=1, correspondence_stage=replace(recipe.correspondence_stage, steps=0)), after
    )

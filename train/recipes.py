"""Recipes: functions that return one complete configuration. A recipe picks sizes and amounts; it holds no code."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

from maskstream.model.config import ModelConfig
from train.adaptation import AdaptationSettings
from train.clustering import ClusterSettings
from train.correspondence import CorrespondenceSettings
from train.mask_learning import MaskSettings

T = TypeVar("T")


@dataclass(frozen=True)
class StageSettings:
    """How long a stage learns and how fast. One step is one batch."""

    steps: int
    learning_rate: float
    warmup_steps: int = 50
    weight_decay: float = 0.02


@dataclass(frozen=True)
class Recipe:
    """Everything a run depends on except its data and its seed."""

    model: ModelConfig
    correspondence: CorrespondenceSettings
    clustering: ClusterSettings
    masks: MaskSettings
    correspondence_stage: StageSettings
    mask_stage: StageSettings
    rounds: int = 1  # of cluster -> mask learning after the correspondence stage
    correspondence_between_rounds: int = 0  # steps of correspondence before each round but the first
    masks_correspondence_weight: float = 0.0  # above 0, correspondence goes on in the mask stages; see docs/training.md
    masks_correspondence_clips: int = 4  # of the batch that it takes there
    ema_decay: float = 0.995  # of the average that is exported, a step
    clip_short_side: int = 256  # pixels; training clips are shrunk to this
    clip_frames_max: int = 3000  # of a video; of a longer one, evenly spread runs of frames are kept
    save_seconds: float = 120.0  # between two saves of the state
    adaptation: AdaptationSettings = field(default_factory=AdaptationSettings)  # of runs with --resume-from


def live_r18() -> Recipe:
    """Made for real time: stride 16, a mask encoder on the frame's own features, a slim decoder."""
    return Recipe(
        model=ModelConfig(name="live_r18"),
        correspondence=CorrespondenceSettings(),
        clustering=ClusterSettings(method="spectral", stability=0.4, contrast=1.2),  # whole things; see train/LOG.md
        # Dice pays for masks that are too large where the truth is unsure; refinement that is not served is not learnt
        masks=MaskSettings(dice_weight=0.0, refine_passes=0),
        correspondence_stage=StageSettings(steps=900, learning_rate=1.5e-3),
        mask_stage=StageSettings(steps=900, learning_rate=1e-3),
    )


def adapt_r18() -> Recipe:
    """The shipped weights taken to other cameras: live_r18's networks, few steps, small ones; minutes on a CPU."""
    live = live_r18()
    return replace(
        live,
        model=replace(live.model, name="adapt_r18"),
        correspondence=replace(live.correspondence, anchor_warmup_steps=0),  # the keys mean something already
        clustering=replace(live.clustering, windows_per_clip=8),  # of few clips
        correspondence_stage=StageSettings(steps=100, learning_rate=2e-4, warmup_steps=10),
        mask_stage=StageSettings(steps=100, learning_rate=1e-4, warmup_steps=10),
        ema_decay=0.98,
    )


def paper_r18() -> Recipe:
    """Close to arXiv 2303.10100: four stages at stride 8, 128-channel keys, 512-channel values."""
    model = ModelConfig(
        name="paper_r18",
        stride=8,
        widths=(64, 128, 256, 512),
        blocks=(2, 2, 2, 2),
        key_channels=128,
        fine_channels=0,  # its tokens are fine already
        context_channels=512,
        value_channels=512,
        skip8_channels=128,
        temperature=0.05,
        skip4_channels=64,
    )
    return Recipe(
        model=model,
        correspondence=CorrespondenceSettings(
            side=256, stride=8, fine_weight=0.0, anchor_grid=8, reconstruction_weight=0.3, reconstruction_window=4
        ),
        clustering=ClusterSettings(clusters=7),
        masks=MaskSettings(side=256),
        correspondence_stage=StageSettings(steps=20000, learning_rate=3e-4),
        mask_stage=StageSettings(steps=20000, learning_rate=1e-4),
        rounds=3,
    )


def tiny() -> Recipe:
    """Seconds on a CPU: every part runs, nothing is learnt well. For tests and for trying the command."""
    model = ModelConfig(
        name="tiny",
        widths=(8, 16, 32),
        blocks=(1, 1, 1),
        key_channels=16,
        fine_channels=8,
        context_channels=16,
        value_channels=16,
        skip8_channels=8,
        skip4_channels=8,
        short_side=96,
        capacity=4,
        memory_stride=2,
    )
    return Recipe(
        model=model,
        correspondence=CorrespondenceSettings(clips=2, side=64, anchors=4, far_gap=8),
        clustering=ClusterSettings(clusters=3, frames=4, short_side=96, iterations=5),
        masks=MaskSettings(clips=2, side=64, context_frames=2),
        correspondence_stage=StageSettings(steps=4, learning_rate=1e-3, warmup_steps=1),
        mask_stage=StageSettings(steps=4, learning_rate=1e-3, warmup_steps=1),
        clip_short_side=96,
    )


RECIPES: dict[str, Callable[[], Recipe]] = {
    "live_r18": live_r18,
    "adapt_r18": adapt_r18,
    "paper_r18": paper_r18,
    "tiny": tiny,
}


def with_overrides(recipe: Recipe, assignments: list[str]) -> Recipe:
    """The recipe with `part.field=value` or `field=value` replaced. Raises ValueError naming what exists."""
    for assignment in assignments:
        path, separator, text = assignment.partition("=")
        if not separator:
            raise ValueError(f"--set takes key=value, got {assignment!r}")
        recipe = _replaced(recipe, path.split("."), text, path)
    return recipe


def _replaced(settings: T, path: list[str], text: str, full_path: str) -> T:
    known = list(getattr(settings, "__dataclass_fields__", ()))
    if path[0] not in known:
        raise ValueError(f"no setting {full_path!r}; here there are: {', '.join(known)}")
    old = getattr(settings, path[0])
    new = _replaced(old, path[1:], text, full_path) if len(path) > 1 else _parsed(text, old, full_path)
    return replace(settings, **{path[0]: new})  # type: ignore[type-var]


def _parsed(text: str, old: object, path: str) -> object:
    if not isinstance(old, int | float | str):
        raise ValueError(f"{path} is a group of settings or a list; name one number or text inside it")
    try:
        return type(old)(text)
    except ValueError as error:
        raise ValueError(f"{path}={text}: expected {type(old).__name__}") from error

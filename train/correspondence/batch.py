"""A batch of clips for correspondence learning: views of two frames of each, and what is known about them.

Each clip gives two frames, near or far in time, seen through the same plain view, and of both a strongly augmented view
("again") whose geometry against the plain one is known, and the plain view without one colour channel ("dropped"). Only
the views that a learner with a weight asks for are made. Item i depends on its own random generator alone, so processes
that share a batch each draw their part of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from maskstream.model.config import FINE_STRIDE
from train.augment import PLAIN, STRONG, Image, jitter, look, nearby_view, sample_view, token_partners
from train.clips import Clip
from train.correspondence.lab_colours import cell_colours, lab_of, without_channel
from train.correspondence.learners import active_learners
from train.correspondence.settings import FINE, CorrespondenceSettings

Arrays = dict[str, npt.NDArray[np.generic]]

FRAMES = ("first", "other")

# B clips, N tokens of a view, C colour cells of a token


@dataclass(frozen=True)
class CorrespondenceBatch:
    """Views and facts by name; both hold what the learners with a weight need, and all have the clips first.

    views: uint8 RGB [B, side, side, 3]: first, other; first_again, other_again; first_dropped, other_dropped.
    facts: gap_frames, int64 [B], between the two frames; with an `again` view first_places or other_places, float32
    [B, N, 2], where its tokens lie in the plain view, (x, y) in tokens; with a `dropped` view first_colours or
    other_colours, float32 [B, N, C, 2], Lab's a and b in -1..1, and dropped_channel, int64 [B], 0 for a and 1 for b.
    Places and colours of the fine keys' grid stand beside them as "fine_" and the same name.
    """

    views: dict[str, Tensor]
    facts: dict[str, Tensor]


def sample_batch(
    rngs: Sequence[np.random.Generator], clips: Sequence[Clip], settings: CorrespondenceSettings
) -> CorrespondenceBatch:
    """One item from each generator; clips are drawn evenly, so that a long video does not drown the others."""
    items = [_sample_item(rng, clips[int(rng.integers(len(clips)))], settings) for rng in rngs]
    views, facts = (_stacked(parts) for parts in zip(*items, strict=True))
    return CorrespondenceBatch(views, facts)


def _stacked(items: Sequence[Arrays]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.stack([item[name] for item in items])) for name in items[0]}


def _sample_item(rng: np.random.Generator, clip: Clip, settings: CorrespondenceSettings) -> tuple[Arrays, Arrays]:
    """Views and facts of one clip. All that is random is drawn, or seeded, before asking which learners are on."""
    side = settings.side
    start, other = _sample_pair(rng, len(clip.frames), settings)
    frames = dict(zip(FRAMES, (clip.frames[start], clip.frames[other]), strict=True))
    view = sample_view(rng, (clip.frames.shape[1], clip.frames.shape[2]), side, PLAIN)
    again = {name: nearby_view(rng, view, side, STRONG) for name in FRAMES}
    jitter_rng = {name: np.random.default_rng(rng.integers(2**63)) for name in FRAMES}
    channel = int(rng.integers(2))
    wanted = {view for _, learner in active_learners(settings) for view in learner.views}
    plain = {name: look(frame, view, side) for name, frame in frames.items()}
    views: Arrays = {name: plain[name] for name in FRAMES if name in wanted}
    facts: Arrays = {"gap_frames": np.asarray(abs(other - start), np.int64)}
    for name in FRAMES:
        if f"{name}_again" in wanted:
            views[f"{name}_again"] = jitter(jitter_rng[name], look(frames[name], again[name], side))
            for prefix, stride in grids(settings).items():
                facts[f"{prefix}{name}_places"] = token_partners(view, again[name], side, stride)
    if any(f"{name}_dropped" in wanted for name in FRAMES):
        _add_dropped(channel, plain, settings, views, facts)
    return views, facts


def _sample_pair(rng: np.random.Generator, count: int, settings: CorrespondenceSettings) -> tuple[int, int]:
    """Two frames, near or far apart, the second before or after the first."""
    start = int(rng.integers(count))
    gaps = (settings.near_gap, settings.far_gap) if rng.random() < settings.far_share else (1, settings.near_gap)
    gap = int(rng.integers(gaps[0], gaps[1] + 1)) * int(rng.choice((-1, 1)))
    other = start + gap if 0 <= start + gap < count else int(np.clip(start - gap, 0, count - 1))
    return start, other


def _add_dropped(
    channel: int, plain: dict[str, Image], settings: CorrespondenceSettings, views: Arrays, facts: Arrays
) -> None:
    """The views without colour channel `channel`, and the colours of all cells, that channel too."""
    facts["dropped_channel"] = np.asarray(channel, np.int64)
    for name in FRAMES:
        lab = lab_of(plain[name])
        views[f"{name}_dropped"] = without_channel(lab, channel)
        for prefix, stride in grids(settings).items():
            facts[f"{prefix}{name}_colours"] = cell_colours(lab, stride, settings.reconstruction_cells)


def grids(settings: CorrespondenceSettings) -> dict[str, int]:
    """Stride of each grid that facts are made for, by the prefix of their names."""
    return {"": settings.stride, FINE: FINE_STRIDE} if settings.fine_weight > 0 else {"": settings.stride}

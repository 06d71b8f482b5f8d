"""Correspondence learning: the frame encoder learns which places of two frames are the same, from unlabelled clips.

Three terms over one batch of clips. Each clip gives two frames, near or far in time, and two views of each: a plain
one, and a strongly augmented one ("again") whose geometry against the plain one is known.

walk      short-term appearance consistency: from the first frame seen again to the other frame and on to the first
          frame, every token must reach its own place (a palindrome as in arXiv 2006.14613; the known transform between
          the views makes it equivariant, so position cannot be learnt instead of appearance)
match     the same without the detour, against the tokens of all clips in the batch: other videos are negatives
anchors   long-term semantic dependency (in the manner of arXiv 2111.06265): tokens of the other frame are assigned to
          anchors of the first frame in the plain views, and the augmented view must agree, among all clips' anchors
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from train.augment import PLAIN, STRONG, jitter, look, nearby_view, sample_view, token_partners
from train.clips import Clip

# B clips, N tokens of a view, K key channels, A anchors of a clip


@dataclass(frozen=True)
class CorrespondenceSettings:
    """Batch shape and weights. Gaps are in frames, `side` in pixels."""

    clips: int = 8
    side: int = 160
    stride: int = 16
    near_gap: int = 4
    far_gap: int = 24
    far_share: float = 0.3  # of the pairs
    temperature: float = 0.07
    edge_dropout: float = 0.1
    anchors: int = 16
    walk_weight: float = 1.0
    match_weight: float = 0.5
    anchor_weight: float = 0.3
    anchor_warmup_steps: int = 200  # the labels come from the keys themselves, so the keys must mean something first


@dataclass(frozen=True)
class CorrespondenceBatch:
    """uint8 views [B, side, side, 3] and where each token of a view lies in its partner view, in tokens (x, y)."""

    first: Tensor
    other: Tensor
    first_again: Tensor
    other_again: Tensor
    first_places: Tensor  # [B, N, 2] of the tokens of first_again in first
    other_places: Tensor


def sample_batch(rng: np.random.Generator, clips: list[Clip], settings: CorrespondenceSettings) -> CorrespondenceBatch:
    """One random batch; clips are drawn evenly, so that a long video does not drown the others."""
    items = [_sample_item(rng, clips[rng.integers(len(clips))], settings) for _ in range(settings.clips)]
    return CorrespondenceBatch(*(torch.from_numpy(np.stack(parts)) for parts in zip(*items, strict=True)))


def _sample_item(
    rng: np.random.Generator, clip: Clip, settings: CorrespondenceSettings
) -> tuple[npt.NDArray[np.generic], ...]:
    side, stride, count = settings.side, settings.stride, len(clip.frames)
    start = int(rng.integers(count))
    gaps = (settings.near_gap, settings.far_gap) if rng.random() < settings.far_share else (1, settings.near_gap)
    gap = int(rng.integers(gaps[0], gaps[1] + 1)) * int(rng.choice((-1, 1)))
    other = start + gap if 0 <= start + gap < count else int(np.clip(start - gap, 0, count - 1))
    view = sample_view(rng, (clip.frames.shape[1], clip.frames.shape[2]), side, PLAIN)
    first_again, other_again = (nearby_view(rng, view, side, STRONG) for _ in range(2))
    return (
        look(clip.frames[start], view, side),
        look(clip.frames[other], view, side),
        jitter(rng, look(clip.frames[start], first_again, side)),
        jitter(rng, look(clip.frames[other], other_again, side)),
        token_partners(view, first_again, side, stride),
        token_partners(view, other_again, side, stride),
    )


def correspondence_losses(
    keys: tuple[Tensor, Tensor, Tensor, Tensor], batch: CorrespondenceBatch, settings: CorrespondenceSettings, step: int
) -> dict[str, Tensor]:
    """The weighted terms by name; `keys` [B, K, N] of first, other, first_again, other_again."""
    trust = min(1.0, step / max(1, settings.anchor_warmup_steps))
    first, other, first_again, other_again = keys
    return {
        "walk": settings.walk_weight * walk_loss(first, other, first_again, batch.first_places, settings),
        "match": settings.match_weight * match_loss(first, first_again, batch.first_places, settings),
        "anchors": trust
        * settings.anchor_weight
        * anchor_loss(first, other, other_again, batch.other_places, settings),
    }


def walk_loss(
    first_BKN: Tensor, other_BKN: Tensor, again_BKN: Tensor, places_BN2: Tensor, settings: CorrespondenceSettings
) -> Tensor:
    """Negative log-probability that the walk again -> other -> first ends where it began."""
    out = _transition(again_BKN, other_BKN, settings)
    back = _transition(other_BKN, first_BKN, settings)
    weight_BNM, inside_BN = bilinear_targets(places_BN2, first_BKN.shape[2])
    reached = (torch.bmm(out, back) * weight_BNM).sum(dim=2)
    return _mean_inside(-torch.log(reached + 1e-6), inside_BN)


def match_loss(first_BKN: Tensor, again_BKN: Tensor, places_BN2: Tensor, settings: CorrespondenceSettings) -> Tensor:
    """InfoNCE of each token of the second view against the tokens of all first views in the batch."""
    batch, _, tokens = first_BKN.shape
    all_first_KX = first_BKN.permute(1, 0, 2).flatten(1)
    similarity_BNX = torch.einsum("bkn,kx->bnx", again_BKN, all_first_KX) / settings.temperature
    log_affinity = torch.log_softmax(similarity_BNX, dim=2).unflatten(2, (batch, tokens))
    clip = torch.arange(batch)
    weight_BNM, inside_BN = bilinear_targets(places_BN2, tokens)
    return _mean_inside(-(log_affinity[clip, :, clip] * weight_BNM).sum(dim=2), inside_BN)


def anchor_loss(
    first_BKN: Tensor, other_BKN: Tensor, again_BKN: Tensor, places_BN2: Tensor, settings: CorrespondenceSettings
) -> Tensor:
    """Cross-entropy of the augmented view's assignment to anchors; the plain views give the labels, no gradient."""
    batch, _, tokens = first_BKN.shape
    picked = torch.randperm(tokens)[: settings.anchors]
    with torch.no_grad():
        own_BAN = torch.einsum("bka,bkn->ban", first_BKN[:, :, picked], other_BKN)
        nearest_BN, inside_BN = nearest_token(places_BN2, tokens)
        first_anchor_B1 = settings.anchors * torch.arange(batch)[:, None]
        label_BN = own_BAN.argmax(dim=1).gather(1, nearest_BN) + first_anchor_B1
    anchors_KX = first_BKN[:, :, picked].permute(1, 0, 2).flatten(1)
    logits_BNX = torch.einsum("bkn,kx->bnx", again_BKN, anchors_KX) / settings.temperature
    loss = cross_entropy(logits_BNX.flatten(0, 1), label_BN.flatten(), reduction="none").unflatten(0, (batch, tokens))
    return _mean_inside(loss, inside_BN)


def bilinear_targets(place_BN2: Tensor, tokens: int) -> tuple[Tensor, Tensor]:
    """Bilinear weights [B, N, tokens] of each place (x, y in tokens) on a square grid, and which places are inside."""
    side = round(tokens**0.5)
    axis = torch.arange(side, dtype=place_BN2.dtype)
    weight_x = (1 - (place_BN2[..., 0:1] - axis).abs()).clamp_min(0)
    weight_y = (1 - (place_BN2[..., 1:2] - axis).abs()).clamp_min(0)
    weight = (weight_y[..., :, None] * weight_x[..., None, :]).flatten(2)
    inside = ((place_BN2 >= 0) & (place_BN2 <= side - 1)).all(dim=2)
    return weight, inside


def nearest_token(place_BN2: Tensor, tokens: int) -> tuple[Tensor, Tensor]:
    """Index of the token nearest to each place, and which places are inside."""
    side = round(tokens**0.5)
    inside = ((place_BN2 > -0.5) & (place_BN2 < side - 0.5)).all(dim=2)
    nearest = place_BN2.round().clamp(0, side - 1).long()
    return nearest[..., 1] * side + nearest[..., 0], inside


def _transition(from_BKN: Tensor, to_BKM: Tensor, settings: CorrespondenceSettings) -> Tensor:
    """Row-stochastic [B, N, M] with some edges dropped, so that a walk cannot rely on a single one."""
    similarity = torch.bmm(from_BKN.transpose(1, 2), to_BKM) / settings.temperature
    dropped = torch.rand_like(similarity) < settings.edge_dropout
    return torch.softmax(similarity.masked_fill(dropped, -1e4), dim=2)


def _mean_inside(loss_BN: Tensor, inside_BN: Tensor) -> Tensor:
    return (loss_BN * inside_BN).sum() / inside_BN.sum().clamp_min(1)

"""Anchors: long-term semantic dependency by dense self-training, in the manner of arXiv 2111.06265.

Tokens of the first frame serve as anchors. In the plain views each token of the other frame, near or far in time, is
assigned to the anchor of its own clip that it resembles most; the augmented view of the other frame must choose the
same one among the anchors of all clips. Other videos are negatives, and never a label.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from train.correspondence.token_grid import mean_over, nearest_token

# B clips, K key channels, N tokens of a view, A anchors of a clip, X = B * A anchors of all clips


@dataclass(frozen=True)
class Anchors:
    """Cross-entropy of the augmented view's assignment; the plain views give the labels, without gradient."""

    temperature: float
    anchors: int
    grid: int
    warmup_steps: int

    name: ClassVar[str] = "anchors"
    near: ClassVar[bool] = False  # anchors stand for things, not for places
    views: ClassVar[tuple[str, ...]] = ("first", "other", "other_again")

    def loss(
        self, keys: Mapping[str, Tensor], facts: Mapping[str, Tensor], step: int, generator: torch.Generator
    ) -> Tensor:
        """Counts in full from `warmup_steps` on. Raises ValueError where a view has too few tokens for the grid."""
        first_BKN, again_BKN = keys["first"], keys["other_again"]
        tokens = first_BKN.shape[2]
        picked_A = grid_anchors(tokens, self.grid, generator) if self.grid else self._scattered(tokens, generator)
        anchor_BKA = first_BKN[:, :, picked_A.to(first_BKN.device)]
        nearest_BN, inside_BN = nearest_token(facts["other_places"], tokens)
        label_BN = own_anchor(anchor_BKA, keys["other"]).gather(1, nearest_BN)
        anchor_KX = anchor_BKA.permute(1, 0, 2).flatten(1)
        logits_BNX = torch.einsum("bkn,kx->bnx", again_BKN, anchor_KX) / self.temperature
        entropy_BN = cross_entropy(logits_BNX.transpose(1, 2), label_BN, reduction="none")
        return min(1.0, step / max(1, self.warmup_steps)) * mean_over(entropy_BN, inside_BN)

    def _scattered(self, tokens: int, generator: torch.Generator) -> Tensor:
        return torch.randperm(tokens, generator=generator)[: self.anchors]


@torch.no_grad()
def own_anchor(anchor_BKA: Tensor, token_BKN: Tensor) -> Tensor:
    """Index [B, N] among the anchors of all clips of the one of its own clip that each token resembles most."""
    batch, _, anchors = anchor_BKA.shape
    own_BAN = torch.einsum("bka,bkn->ban", anchor_BKA, token_BKN)
    first_anchor_B1 = anchors * torch.arange(batch, device=token_BKN.device)[:, None]
    return own_BAN.argmax(dim=1) + first_anchor_B1


def grid_anchors(tokens: int, grid: int, generator: torch.Generator) -> Tensor:
    """Token indices [grid * grid] on an even grid with one random offset. Raises ValueError where it does not fit."""
    side = round(tokens**0.5)
    step = side // grid
    if step < 1:
        raise ValueError(f"anchor_grid={grid} does not fit views of {side}x{side} tokens; lower it or enlarge `side`")
    offset_x, offset_y = torch.randint(side - step * (grid - 1), (2,), generator=generator).tolist()
    axis = step * torch.arange(grid)
    return ((offset_y + axis)[:, None] * side + offset_x + axis).flatten()

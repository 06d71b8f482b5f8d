"""Matching: each token of an augmented view must find its place among the tokens of all clips of the batch.

Other places and other videos are the negatives. It is the walk without the detour over another frame, and the part of
arXiv 2111.06265 that ties two views of one frame together.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from train.correspondence.token_grid import bilinear_targets, mean_over

# B clips, K key channels, N and M tokens of two views, X = B * M tokens of all clips


def own_log_affinity(query_BKN: Tensor, token_BKM: Tensor, temperature: float) -> Tensor:
    """Log of the softmax over the tokens of all clips, as far as it falls on the own clip: [B, N, M]."""
    batch, _, tokens = token_BKM.shape
    token_KX = token_BKM.permute(1, 0, 2).flatten(1)
    similarity_BNX = torch.einsum("bkn,kx->bnx", query_BKN, token_KX) / temperature
    log_affinity = torch.log_softmax(similarity_BNX, dim=2).unflatten(2, (batch, tokens))
    clip = torch.arange(batch, device=log_affinity.device)
    return log_affinity[clip, :, clip]


@dataclass(frozen=True)
class Match:
    """InfoNCE of the tokens of the first frame seen again against the tokens of all first frames."""

    temperature: float

    name: ClassVar[str] = "match"
    near: ClassVar[bool] = True
    views: ClassVar[tuple[str, ...]] = ("first", "first_again")

    def loss(
        self, keys: Mapping[str, Tensor], facts: Mapping[str, Tensor], step: int, generator: torch.Generator
    ) -> Tensor:
        """The same at every step, and nothing is drawn."""
        log_affinity_BNM = own_log_affinity(keys["first_again"], keys["first"], self.temperature)
        weight_BNM, inside_BN = bilinear_targets(facts["first_places"], keys["first"].shape[2])
        return mean_over(-(log_affinity_BNM * weight_BNM).sum(dim=2), inside_BN)

"""Contrastive random walk: from the first frame seen again to the other frame and on to the first, each token home.

A palindrome as in arXiv 2006.14613. The two ends are different views of one frame whose geometry is known, so that
position cannot be learnt instead of appearance.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from train.correspondence.token_grid import bilinear_targets, mean_over

# B clips, K key channels, N and M tokens of two views


@dataclass(frozen=True)
class Walk:
    """Negative log-probability that the walk again -> other -> first ends where it began."""

    temperature: float
    edge_dropout: float

    name: ClassVar[str] = "walk"
    near: ClassVar[bool] = True
    views: ClassVar[tuple[str, ...]] = ("first", "other", "first_again")

    def loss(
        self, keys: Mapping[str, Tensor], facts: Mapping[str, Tensor], step: int, generator: torch.Generator
    ) -> Tensor:
        """The same at every step."""
        out_BNM = self._transition(keys["first_again"], keys["other"], generator)
        back_BMN = self._transition(keys["other"], keys["first"], generator)
        weight_BNN, inside_BN = bilinear_targets(facts["first_places"], keys["first"].shape[2])
        reached_BN = (torch.bmm(out_BNM, back_BMN) * weight_BNN).sum(dim=2)
        return mean_over(-torch.log(reached_BN + 1e-6), inside_BN)

    def _transition(self, from_BKN: Tensor, to_BKM: Tensor, generator: torch.Generator) -> Tensor:
        """Row-stochastic [B, N, M] with some edges dropped, so that a walk cannot rely on a single one."""
        similarity_BNM = torch.bmm(from_BKN.transpose(1, 2), to_BKM) / self.temperature
        dropped_BNM = torch.rand(similarity_BNM.shape, generator=generator) < self.edge_dropout
        return torch.softmax(similarity_BNM.masked_fill(dropped_BNM.to(similarity_BNM.device), -1e4), dim=2)

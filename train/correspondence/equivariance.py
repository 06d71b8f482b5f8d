"""Equivariance: short-term appearance consistency, under a known transform and a little unknown motion.

The transformed view of a neighbouring frame must have, at each place, the key that the plain view of the first frame
has there. Things move between the frames, so any token within a small window of that place will do: the one that fits
best. Being told apart from all other places and other clips is what keeps the keys from becoming one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from train.correspondence.matching import own_log_affinity
from train.correspondence.token_grid import mean_over, nearest_token, within_window

# B clips, K key channels, N and M tokens of two views


@dataclass(frozen=True)
class Equivariance:
    """InfoNCE whose positive is the best match within the window; the plain view gets no gradient."""

    temperature: float
    window: float  # tokens, each way
    gap_frames: int

    name: ClassVar[str] = "equivariance"
    near: ClassVar[bool] = True
    views: ClassVar[tuple[str, ...]] = ("first", "other_again")

    def loss(
        self, keys: Mapping[str, Tensor], facts: Mapping[str, Tensor], step: int, generator: torch.Generator
    ) -> Tensor:
        """The same at every step, and nothing is drawn; 0 where all pairs of the batch are too far apart."""
        first_BKM = keys["first"].detach()
        places_BN2 = facts["other_places"]
        log_affinity_BNM = own_log_affinity(keys["other_again"], first_BKM, self.temperature)
        near_BNM = within_window(places_BN2, first_BKM.shape[2], self.window)
        best_BN = log_affinity_BNM.masked_fill(~near_BNM, -1e4).amax(dim=2)
        _, inside_BN = nearest_token(places_BN2, first_BKM.shape[2])
        neighbours_B1 = facts["gap_frames"][:, None] <= self.gap_frames
        return mean_over(-best_BN, inside_BN & near_BNM.any(dim=2) & neighbours_B1)

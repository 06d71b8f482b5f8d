"""Reconstruction: the other frame's colours from the first frame's, through the affinity of their keys (2002.07793).

The encoder sees both frames without one of Lab's two colour channels, and the affinity between them must carry that
channel over. What it was never shown it cannot copy by looking, only by finding the same thing. The window is local:
neighbouring frames differ little, and farther away there are lookalikes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import smooth_l1_loss

from train.correspondence.token_grid import token_places, within_window

COLOUR_SCALE = 20.0  # of arXiv 2002.07793: errors of colours in -1..1 are small, and this puts most on the linear part

# B clips, K key channels, N tokens of the other frame, M of the first, C colour cells of a token


@dataclass(frozen=True)
class Reconstruction:
    """Smooth-L1 between the dropped channel of the other frame and what the affinity brings of it."""

    temperature: float
    window: int  # tokens, each way
    gap_frames: int

    name: ClassVar[str] = "reconstruction"
    near: ClassVar[bool] = True
    views: ClassVar[tuple[str, ...]] = ("first_dropped", "other_dropped")

    def loss(
        self, keys: Mapping[str, Tensor], facts: Mapping[str, Tensor], step: int, generator: torch.Generator
    ) -> Tensor:
        """The same at every step, and nothing is drawn; 0 where no pair of the batch is of neighbours."""
        affinity_BNM = self.affinity(keys["other_dropped"], keys["first_dropped"])
        first_BMC, other_BNC = (_dropped_channel(facts, name) for name in ("first", "other"))
        carried_BNC = torch.bmm(affinity_BNM, first_BMC)
        error_BNC = smooth_l1_loss(COLOUR_SCALE * carried_BNC, COLOUR_SCALE * other_BNC, reduction="none")
        gap_B = facts["gap_frames"]
        counted_B = (gap_B >= 1) & (gap_B <= self.gap_frames)  # a frame carried to itself teaches nothing
        return (error_BNC.mean(dim=(1, 2)) * counted_B).sum() / counted_B.sum().clamp_min(1)

    def affinity(self, other_BKN: Tensor, first_BKM: Tensor) -> Tensor:
        """How much each token of the first frame says about each of the other: [B, N, M], 0 outside the window."""
        similarity_BNM = torch.bmm(other_BKN.transpose(1, 2), first_BKM) / self.temperature
        tokens = first_BKM.shape[2]
        near_NM = within_window(token_places(tokens, first_BKM.device), tokens, self.window)
        return torch.softmax(similarity_BNM.masked_fill(~near_NM, -torch.inf), dim=2)


def _dropped_channel(facts: Mapping[str, Tensor], frame: str) -> Tensor:
    """Colours [B, N, C] of the channel that was dropped, of colours [B, N, C, 2]."""
    colours_BNC2 = facts[f"{frame}_colours"]
    channel_B111 = facts["dropped_channel"][:, None, None, None]
    return colours_BNC2.gather(3, channel_B111.expand(*colours_BNC2.shape[:3], 1)).squeeze(3)

"""Mask encoder: one object's mask on the frame's own features -> its value.

No second backbone runs on the pixels: the frame's context is convolved once for all objects, and each object adds its
mask cells (the mask at stride 4, folded into channels) and the cells of all others. The cells ride on the value
unchanged, so the read-out propagates the mask itself beside what was learnt about it.
"""

import torch
from torch import Tensor, nn

from maskstream.model.config import MASK_STRIDE, ModelConfig


def to_cells(soft_XHW: Tensor, stride: int) -> Tensor:
    """Masks [X, H/4, W/4] -> [X, cells, h, w]: the mask values inside each token."""
    return nn.functional.pixel_unshuffle(soft_XHW[:, None], stride // MASK_STRIDE)


def from_cells(cells_XChw: Tensor, stride: int) -> Tensor:
    """Inverse of `to_cells`: [X, cells, h, w] -> [X, H/4, W/4]."""
    return nn.functional.pixel_shuffle(cells_XChw, stride // MASK_STRIDE)[:, 0]


class MaskEncoder(nn.Module):
    """context [B, C, h, w], soft masks [B, O, H/4, W/4] -> value [B, O, V, N]."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.stride, width = config.stride, config.value_channels
        self.from_context = nn.Conv2d(config.context_channels, width, 3, padding=1)
        self.from_mask = nn.Conv2d(2 * config.cells, width, 3, padding=1, bias=False)
        self.mix = nn.Sequential(
            nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 1)
        )

    def forward(self, context: Tensor, soft_BOHW: Tensor) -> Tensor:
        batch, objects = soft_BOHW.shape[:2]
        others_BOHW = soft_BOHW.sum(dim=1, keepdim=True) - soft_BOHW
        cells = to_cells(soft_BOHW.flatten(0, 1), self.stride)
        other_cells = to_cells(others_BOHW.flatten(0, 1), self.stride)
        per_object = self.from_mask(torch.cat((cells, other_cells), dim=1))
        shared = self.from_context(context)[:, None]
        hidden = (per_object.unflatten(0, (batch, objects)) + shared).flatten(0, 1)
        value = torch.cat((self.mix(hidden), cells), dim=1)
        return value.flatten(2).unflatten(0, (batch, objects))

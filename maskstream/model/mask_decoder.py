"""Mask decoder: read-out and frame features -> one logit a pixel at stride 4.

Convolutions are linear, so the part over the shared context is computed once for all objects. The decoder corrects the
propagated mask rather than redrawing it: its output is added to that mask's own logit, weighted by a learnt scale, so
an untrained decoder starts as label propagation. Each object is told what the others hold: only so can it be kept apart
from a neighbour that looks like it.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from maskstream.model.config import ModelConfig
from maskstream.model.mask_encoder import to_cells

LEAST_PROBABILITY = 1e-3  # of a mask and of what is left of it


class Refined(NamedTuple):
    """The mask an earlier pass decoded and its value on the current frame's own features."""

    soft: Tensor  # [B, O, H/4, W/4]
    value: Tensor  # [B, O, V, P]


class MaskDecoder(nn.Module):
    """readout [B, O, V, P], coarse masks [B, O, H/4, W/4], context, skip8, skip4 -> logits [B, O, H/4, W/4]."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.stride = config.stride
        wide, middle, slim = 128, config.skip8_channels, config.skip4_channels
        self.from_readout = nn.Conv2d(config.value_channels + config.cells, wide, 3, padding=1)
        self.from_context = nn.Conv2d(config.context_channels, wide, 3, padding=1, bias=False)
        self.from_refined = nn.Conv2d(config.value_channels + config.cells, wide, 3, padding=1, bias=False)
        nn.init.zeros_(self.from_refined.weight)
        self.from_others = nn.Conv2d(config.cells, wide, 3, padding=1, bias=False)
        nn.init.zeros_(self.from_others.weight)
        self.deep = nn.Sequential(nn.ReLU(), nn.Conv2d(wide, wide, 3, padding=1), nn.ReLU(), nn.Conv2d(wide, middle, 1))
        self.at8 = nn.Sequential(
            nn.ReLU(), nn.Conv2d(middle, middle, 3, padding=1), nn.ReLU(), nn.Conv2d(middle, slim, 1)
        )
        self.coarse4 = nn.Conv2d(2, slim, 3, padding=1, bias=False)  # its own mask, that of all others
        correction = nn.Conv2d(slim, 1, 3, padding=1)
        nn.init.zeros_(correction.weight)
        nn.init.zeros_(correction.bias)  # type: ignore[arg-type]
        self.at4 = nn.Sequential(nn.ReLU(), nn.Conv2d(slim, slim, 3, padding=1), nn.ReLU(), correction)
        self.coarse_scale = nn.Parameter(torch.tensor(1.0))

    def forward(
        self,
        readout_BOVP: Tensor,
        coarse_BOHW: Tensor,
        context: Tensor,
        skip8: Tensor,
        skip4: Tensor,
        refined: Refined | None = None,
    ) -> Tensor:
        """Logits; `refined` is what an earlier pass found, on which this pass improves."""
        batch, objects = readout_BOVP.shape[:2]
        per_object = readout_BOVP.flatten(0, 1).unflatten(2, (context.shape[2], context.shape[3]))
        seen_BOHW = coarse_BOHW if refined is None else refined.soft
        others_BOHW = (seen_BOHW.sum(dim=1, keepdim=True) - seen_BOHW).clamp(0, 1)
        x = self._shared(self.from_readout(per_object), self.from_context(context), batch)
        x = x + self.from_others(to_cells(others_BOHW.flatten(0, 1), self.stride))
        if refined is not None:
            value = refined.value.flatten(0, 1).unflatten(2, (context.shape[2], context.shape[3]))
            x = x + self.from_refined(value)
        x = self.deep(x)
        if self.stride == 16:
            x = interpolate(x, size=(skip8.shape[2], skip8.shape[3]), mode="bilinear", align_corners=False)
        x = self.at8(self._shared(x, skip8, batch))
        x = interpolate(x, size=(skip4.shape[2], skip4.shape[3]), mode="bilinear", align_corners=False)
        masks_X2HW = torch.stack((seen_BOHW, others_BOHW), dim=2).flatten(0, 1)
        x = self._shared(x + self.coarse4(masks_X2HW), skip4, batch)
        logit_XHW = self.at4(x)[:, 0] + self.coarse_scale * logit(coarse_BOHW.flatten(0, 1))
        return logit_XHW.unflatten(0, (batch, objects))

    @staticmethod
    def _shared(per_object: Tensor, shared: Tensor, batch: int) -> Tensor:
        """Add a frame's map [B, C, h, w] to the maps [B*O, C, h, w] of all its objects."""
        return (per_object.unflatten(0, (batch, per_object.shape[0] // batch)) + shared[:, None]).flatten(0, 1)


def logit(probability: Tensor) -> Tensor:
    """Logit in float32, its ends cut off. 1 - p comes before the cut: 0.999 is 1 in bfloat16."""
    probability = probability.float()
    inside = torch.log(probability.clamp_min(LEAST_PROBABILITY))
    return inside - torch.log((1 - probability).clamp_min(LEAST_PROBABILITY))

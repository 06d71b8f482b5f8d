"""Networks made ready to run in half precision: what is folded, what is cast, and what stays in float32.

The same islands of float32 as in the exported graphs: keys and their norms, affinity, softmax and what normalises the
read-out. Frames are normalised in float32 too, as bfloat16 has 8 bits and would shift the mean of every pixel. Batch
norms are folded into the convolutions first, in float32: one rounding less, and one pass over memory less a layer.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from maskstream.model.segmenter import Segmenter

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class CastTo(nn.Module):
    """Its input in another type."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        return x.to(self.dtype)


def prepared(segmenter: Segmenter, dtype: torch.dtype, device: torch.device) -> Segmenter:
    """`segmenter` itself, changed to compute in `dtype` on `device`, its weights laid out with channels last."""
    segmenter = segmenter.eval().requires_grad_(False)
    fold_norms(segmenter)
    encoder = segmenter.frame_encoder
    mean, std = encoder.pixel_mean.float(), encoder.pixel_std.float()
    segmenter = segmenter.to(device=device, dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    encoder.pixel_mean, encoder.pixel_std = mean.to(device), std.to(device)
    encoder.stem = nn.Sequential(CastTo(dtype), encoder.stem)
    return segmenter


def fold_norms(network: nn.Module) -> int:
    """Fold each batch norm that follows a convolution in a sequence into it; returns how many. Evaluation mode only."""
    folded = 0
    for sequence in [module for module in network.modules() if isinstance(module, nn.Sequential)]:
        for place in range(len(sequence) - 1):
            convolution, norm = sequence[place], sequence[place + 1]
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                sequence[place], sequence[place + 1] = fuse_conv_bn_eval(convolution, norm), nn.Identity()
                folded += 1
    return folded

"""Propagation: the memory's values and masks carried to the current frame.

The read-out over whole tokens sees the whole frame and carries what was learnt; the fine read-out sees what is near, at
stride 8, and carries the mask alone. The coarse mask is both sums divided by both masses, on one scale: fine keys are
compared at twice the temperature of tokens, so a fine weight counts as often as its object's mass there. Else whatever
lies where a thing once was, though like nothing, outweighs its true match at the other side of the frame.
"""

# B streams, O objects, K key channels, V value channels, T slots, N tokens of a frame, P positions of the query,
# h and w tokens by rows and columns

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from maskstream.model.config import ModelConfig
from maskstream.model.fine_read_out import fine_read_out
from maskstream.model.mask_encoder import from_cells, to_cells
from maskstream.model.read_out import NO_MASS, read_out

FINE_WEIGHT = 3.0  # of a fine match against a token's that is as good


def propagate(
    query_BKhw: Tensor, key_BKTN: Tensor, value_BOVTN: Tensor, valid_BOT: Tensor, age_BT: Tensor, config: ModelConfig
) -> tuple[Tensor, Tensor]:
    """Read-out [B, O, V, P] of the values and coarse masks [B, O, H/4, W/4] (of the frame's H and W), float32.

    Values are zero where `valid_BOT` is. The last channels of the read-out are the coarse mask's own cells.
    """
    height, width = query_BKhw.shape[2:]
    channels, learnt = config.key_channels, config.value_channels
    trust_BT, held_BOT = valid_BOT.amax(dim=1), (valid_BOT > 0).to(valid_BOT.dtype)
    query, key = query_BKhw[:, :channels], key_BKTN[:, :channels]
    sum_BOVP, mass_BOP = read_out(query, key, value_BOVTN, held_BOT, trust_BT, age_BT, config)
    readout_BOVP = sum_BOVP[:, :, :learnt] / mass_BOP.clamp_min(NO_MASS)[:, :, None]
    cells_XChw = sum_BOVP[:, :, learnt:].flatten(0, 1).unflatten(2, (height, width))
    mask_BOHW = from_cells(cells_XChw, config.stride).unflatten(0, valid_BOT.shape[:2])
    mass_BOhw = mass_BOP.unflatten(2, (height, width))
    if config.fine_channels:
        cells_BOCTN = value_BOVTN[:, :, learnt:]
        query, key = query_BKhw[:, channels:], key_BKTN[:, channels:]
        fine_mask, fine_mass = fine_read_out(query, key, cells_BOCTN, held_BOT, trust_BT, age_BT, config)
        weight_BOhw = FINE_WEIGHT * fine_mass
        mask_BOHW = mask_BOHW + fine_mask * _enlarged(weight_BOhw, fine_mask)
        mass_BOhw = _enlarged(mass_BOhw, fine_mass) + fine_mass * weight_BOhw
    coarse = mask_BOHW / _enlarged(mass_BOhw, mask_BOHW).clamp_min(NO_MASS)
    cells = to_cells(coarse.flatten(0, 1), config.stride).flatten(2).unflatten(0, valid_BOT.shape[:2])
    return torch.cat((readout_BOVP, cells), dim=2), coarse


def _enlarged(small: Tensor, like: Tensor) -> Tensor:
    """Each value repeated over the positions it stands for."""
    return interpolate(small, size=(like.shape[2], like.shape[3]), mode="nearest")

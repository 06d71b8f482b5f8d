"""Propagation: the memory's values and masks carried to the current frame.

The read-out over whole tokens sees the whole frame and carries what was learnt; the fine read-out sees what is near, at
stride 8, and carries the mask alone. The coarse mask is both together, each weighed by how much it found.
"""

# B streams, O objects, K key channels, V value channels, T slots, N tokens of a frame, P positions of the query,
# h and w tokens by rows and columns, H and W fine positions

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pixel_shuffle

from maskstream.model.config import FINE_STRIDE, MASK_STRIDE, ModelConfig
from maskstream.model.fine_read_out import FineReadOut, fine_read_out, unfold_cells, unfold_keys
from maskstream.model.mask_encoder import from_cells, to_cells
from maskstream.model.read_out import affinity, read_out


def propagate(
    query_BKhw: Tensor, key_BKTN: Tensor, value_BOVTN: Tensor, valid_BOT: Tensor, age_BT: Tensor, config: ModelConfig
) -> tuple[Tensor, Tensor]:
    """Read-out [B, O, V, P] of the values and coarse masks [B, O, H/4, W/4] (of the frame's H and W), float32.

    The last channels of the read-out are the coarse mask's own cells.
    """
    height, width = query_BKhw.shape[2:]
    channels = config.key_channels
    trust_BT, valid_BOT = valid_BOT.amax(dim=1), (valid_BOT > 0).to(valid_BOT.dtype)
    found, log_mass_BP = affinity(query_BKhw[:, :channels], key_BKTN[:, :channels], trust_BT, age_BT, config)
    readout_BOVP, mass_BOP = read_out(found, value_BOVTN, valid_BOT)
    cells_XChw = readout_BOVP[:, :, -config.cells :].flatten(0, 1).unflatten(2, (height, width))
    coarse = from_cells(cells_XChw, config.stride).unflatten(0, valid_BOT.shape[:2])
    if not config.fine_channels:
        return readout_BOVP, coarse
    fine = _fine(query_BKhw[:, channels:], key_BKTN[:, channels:], value_BOVTN, trust_BT, age_BT, config)
    token_mass = (log_mass_BP.unflatten(1, (height, width))[:, None], mass_BOP.unflatten(2, (height, width)))
    coarse = joined(coarse, token_mass, fine, valid_BOT)
    cells = to_cells(coarse.flatten(0, 1), config.stride).flatten(2).unflatten(0, valid_BOT.shape[:2])
    return torch.cat((readout_BOVP[:, :, : -config.cells], cells), dim=2), coarse


def _fine(
    folded_BFhw: Tensor, folded_BFTN: Tensor, value_BOVTN: Tensor, trust_BT: Tensor, age_BT: Tensor, config: ModelConfig
) -> FineReadOut:
    height, width = folded_BFhw.shape[2:]
    query_BKHW = pixel_shuffle(folded_BFhw, config.stride // FINE_STRIDE)
    key_BTKHW = unfold_keys(folded_BFTN, height, width, config)
    cells_BXTN = value_BOVTN[:, :, -config.cells :].flatten(1, 2)
    cells_BTCHW = unfold_cells(cells_BXTN, value_BOVTN.shape[1], height, width, config)
    return fine_read_out(query_BKHW, key_BTKHW, cells_BTCHW, trust_BT, age_BT, config)


def joined(coarse: Tensor, token_mass: tuple[Tensor, Tensor], fine: FineReadOut, valid_BOT: Tensor) -> Tensor:
    """Both propagated masks [B, O, H/4, W/4], each weighed by its mass; `token_mass` is (log [B, 1, h, w], share)."""
    log_token_mass, share_BOhw = (_enlarged(part, fine.log_mass) for part in token_mass)
    fine_weight_B1HW = torch.sigmoid(fine.log_mass - log_token_mass)
    fine_share_BOHW = torch.einsum("bot,bthw->bohw", valid_BOT, fine.slot_mass)
    token_part = (1 - fine_weight_B1HW) * share_BOhw
    total = (token_part + fine_weight_B1HW * fine_share_BOHW).clamp_min(1e-12)
    fine_mask = pixel_shuffle(fine.cells, FINE_STRIDE // MASK_STRIDE)
    return _enlarged(token_part / total, coarse) * coarse + _enlarged(fine_weight_B1HW / total, coarse) * fine_mask


def _enlarged(small: Tensor, like: Tensor) -> Tensor:
    """Each value repeated over the positions it stands for."""
    return interpolate(small, size=(like.shape[2], like.shape[3]), mode="nearest")

"""Fine read-out: the mask inside a token moves with the fine keys, searched near each position's own place.

A token is 16 pixels wide, and copying the mask inside it is right only for motion by whole tokens. So every token
carries four keys at stride 8, and each stride-8 position of the current frame looks for its like in all slots, but only
in the block of 6 x 6 positions it lies in and the eight blocks around: at least 48 pixels each way. Blocks make that a
batch of small matrix products without any gather, in operations every engine has.

Both read-outs weigh what they find by exp((cosine - 1) / temperature), so they join in one normalisation: where nothing
near matches, the token's own read-out, which sees the whole frame, decides.
"""

# B streams, O objects, K key channels, T slots, C mask cells of a fine position (of all objects), H and W fine
# positions by rows and columns; y and x blocks by rows and columns, Q positions in a block, X candidates of a block in
# all slots

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from maskstream.model.config import FINE_STRIDE, ModelConfig
from maskstream.model.read_out import MASKED, floored, log_mass, log_trust, position_channels

BLOCK = 6  # fine positions


class FineReadOut(NamedTuple):
    """What each fine position found, normalised over all slots, and how much there was to find."""

    cells: Tensor  # [B, C, H, W]
    slot_mass: Tensor  # [B, T, H, W], the share of the affinity that each slot got
    log_mass: Tensor  # [B, 1, H, W]


def fine_read_out(
    query_BKHW: Tensor, key_BTKHW: Tensor, cells_BTCHW: Tensor, trust_BT: Tensor, age_BT: Tensor, config: ModelConfig
) -> FineReadOut:
    """Mask cells and their mass for every fine position; float32."""
    height, width = query_BKHW.shape[2:]
    slots = key_BTKHW.shape[1]
    rows, columns = (height + BLOCK - 1) // BLOCK, (width + BLOCK - 1) // BLOCK
    query, key, trust = _with_position(query_BKHW, key_BTKHW, trust_BT, age_BT, config)
    beyond = (0, columns * BLOCK - width, 0, rows * BLOCK - height)
    around = (BLOCK, beyond[1] + BLOCK, BLOCK, beyond[3] + BLOCK)
    key = torch.cat((pad(key, around), pad(trust, around, value=MASKED)), dim=2)
    query_ByxQK = _blocks(pad(query, beyond)[:, None], rows, columns)
    key_ByxXK = _candidates(_blocks(key, rows + 2, columns + 2))
    cells_ByxXC = _candidates(_blocks(pad(cells_BTCHW.float(), around), rows + 2, columns + 2))
    similarity_ByxQX = floored(torch.matmul(query_ByxQK, key_ByxXK.transpose(3, 4)), config.fine_temperature)
    affinity_ByxQX = torch.softmax(similarity_ByxQX, dim=4)
    found_ByxQC = torch.matmul(affinity_ByxQX, cells_ByxXC)
    slot_ByxQT = affinity_ByxQX.unflatten(4, (9, slots, BLOCK * BLOCK)).sum(dim=(4, 6))
    mass_ByxQ1 = log_mass(similarity_ByxQX, affinity_ByxQX, config.fine_temperature)[..., None]
    parts = torch.cat((found_ByxQC, slot_ByxQT, mass_ByxQ1), dim=4).unflatten(3, (BLOCK, BLOCK))
    merged = parts.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)[:, :, :height, :width]
    return FineReadOut(*torch.split(merged, [cells_BTCHW.shape[2], slots, 1], dim=1))


def _with_position(
    query_BKHW: Tensor, key_BTKHW: Tensor, trust_BT: Tensor, age_BT: Tensor, config: ModelConfig
) -> tuple[Tensor, Tensor, Tensor]:
    """Query and key with the prior on motion as channels, and the channel of trust, which masks empty slots."""
    height, width = query_BKHW.shape[2:]
    position_q, position_k = (p.unflatten(1, (height, width)) for p in position_channels(height, width, query_BKHW))
    start, growth = config.locality_start_pixels / FINE_STRIDE, config.locality_growth_pixels / FINE_STRIDE
    tightness_BT111 = (0.5 / (start**2 + growth**2 * age_BT))[:, :, None, None, None]
    ones = torch.ones_like(query_BKHW[:, :1])
    position = position_q[None].expand(query_BKHW.shape[0], -1, -1, -1)
    query = torch.cat((query_BKHW / config.fine_temperature, position, ones), dim=1)
    key = torch.cat((key_BTKHW, position_k * tightness_BT111), dim=2)
    trust_BT1HW = log_trust(trust_BT)[:, :, None, None, None].expand(-1, -1, 1, height, width)
    return query, key, trust_BT1HW


def _blocks(x_BTCHW: Tensor, rows: int, columns: int) -> Tensor:
    """[B, T, C, rows * BLOCK, columns * BLOCK] -> [B, rows, columns, T * BLOCK * BLOCK, C]."""
    cut = x_BTCHW.unflatten(4, (columns, BLOCK)).unflatten(3, (rows, BLOCK))
    return cut.permute(0, 3, 5, 1, 4, 6, 2).flatten(3, 5)


def _candidates(blocks: Tensor) -> Tensor:
    """Blocks with a ring around them [B, y + 2, x + 2, Q, C] -> each with its eight neighbours [B, y, x, 9 * Q, C]."""
    rows, columns = blocks.shape[1] - 2, blocks.shape[2] - 2
    return torch.cat([blocks[:, y : y + rows, x : x + columns] for y in range(3) for x in range(3)], dim=3)


def unfold_keys(folded_BFTN: Tensor, height: int, width: int, config: ModelConfig) -> Tensor:
    """Fine keys as a memory holds them, folded into tokens, -> [B, T, K, H, W]."""
    side = config.stride // FINE_STRIDE
    return _unfolded(folded_BFTN, side, config.fine_channels, height, width)


def unfold_cells(cells_BXTN: Tensor, objects: int, height: int, width: int, config: ModelConfig) -> Tensor:
    """Mask cells of tokens [B, O * cells, T, N] -> of fine positions [B, T, O * 4, H, W]."""
    side = config.stride // FINE_STRIDE
    inner = round((config.cells // side**2) ** 0.5)
    batch, _, slots, _ = cells_BXTN.shape
    # channels of a token are rows (fine row, row within), then columns (fine column, column within)
    split = cells_BXTN.reshape(batch, objects, side, inner, side, inner, slots, cells_BXTN.shape[3])
    regrouped = split.permute(0, 1, 3, 5, 2, 4, 6, 7).flatten(1, 5)
    return _unfolded(regrouped, side, objects * inner * inner, height, width)


def _unfolded(folded: Tensor, side: int, channels: int, height: int, width: int) -> Tensor:
    """[B, C * side * side, T, h * w] -> [B, T, C, h * side, w * side]."""
    batch, _, slots, _ = folded.shape
    parts = folded.reshape(batch, channels, side, side, slots, height, width)
    return parts.permute(0, 4, 1, 5, 2, 6, 3).reshape(batch, slots, channels, height * side, width * side)

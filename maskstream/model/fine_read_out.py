"""Fine read-out: the mask inside a token moves with the fine keys, searched near each position's own place.

A token is 16 pixels wide, and copying the mask inside it is right only for motion by whole tokens. So every token
carries four keys at stride 8, and each stride-8 position of the current frame looks for its like in all slots, but only
in the block of 6 x 6 positions it lies in and a margin around. Blocks make that a batch of small matrix products, in
operations every engine has, and one gather of whole blocks of tokens, which is a plain copy.

Weights are on the scale of the token's own read-out (maskstream.model.read_out), so sums and masses of both add up:
where nothing near matches, the token's read-out, which sees the whole frame, decides. A place outside the frame holds
no object, so it needs no mask.
"""

# B streams, O objects, F fine key channels, T slots, N tokens of a frame, C cells of a fine position: 4 mask values and
# one that counts mass, of each object; R and S blocks by rows and columns, G of both together, Q positions in a block,
# X candidates of a block in all slots

from math import gcd

import torch
from torch import Tensor
from torch.nn.functional import pad

from maskstream.model.config import FINE_STRIDE, ModelConfig
from maskstream.model.read_out import log_trust, tightness

BLOCK = 6  # fine positions by side
MARGIN = 6  # fine positions around a block that are searched as well: 48 pixels


def fine_read_out(  # noqa: PLR0913 - the memory as `propagate` has it
    folded_BFhw: Tensor,
    folded_BFTN: Tensor,
    cells_BOCTN: Tensor,
    held_BOT: Tensor,
    trust_BT: Tensor,
    age_BT: Tensor,
    config: ModelConfig,
) -> tuple[Tensor, Tensor]:
    """Sums of the mask [B, O, H/4, W/4] and mass [B, O, H/8, W/8] (of the frame's H and W) by weight; float32."""
    height, width = folded_BFhw.shape[2:]
    side = config.stride // FINE_STRIDE  # fine positions in a token, by side
    block, margin = BLOCK // side, MARGIN // side
    rows, columns = (height + block - 1) // block, (width + block - 1) // block
    beyond = (rows * block - height, columns * block - width)

    query_BhwZ = _tokens_first(folded_BFhw[:, :, None])[:, 0] / config.fine_temperature
    query_BGQF = _blocks(pad(query_BhwZ, (0, 0, 0, beyond[1], 0, beyond[0]))[:, None], block)
    query_BGQF = query_BGQF.unflatten(3, (side * side, -1)).flatten(2, 3)
    around = (0, 0, margin, margin + beyond[1], margin, margin + beyond[0])
    key_BThwZ = pad(_tokens_first(folded_BFTN.unflatten(3, (height, width))), around)
    key_BGXF = _windows(key_BThwZ, rows, columns, block, margin).unflatten(3, (side * side, -1)).flatten(2, 3)
    cells_BThwZ = pad(_cell_table(cells_BOCTN.unflatten(4, (height, width)), held_BOT, side), around)
    cells_BGXC = _windows(cells_BThwZ, rows, columns, block, margin).unflatten(3, (side * side, -1)).flatten(2, 3)

    similarity_BGQX = torch.matmul(query_BGQF, key_BGXF.transpose(2, 3)).float()
    weight_BGQX = torch.exp(similarity_BGQX + _prior(trust_BT, age_BT, side, config)[:, None])
    found_BGQC = torch.matmul(weight_BGQX, cells_BGXC)
    return _unblocked(found_BGQC, (rows, columns), (height, width), held_BOT.shape[1], side)


def _tokens_first(folded_BZThw: Tensor) -> Tensor:
    """[B, Z, T, h, w] -> [B, T, h, w, Z]; as a matrix is transposed, which every engine does fast."""
    return folded_BZThw.flatten(2).transpose(1, 2).unflatten(1, folded_BZThw.shape[2:])


def _cell_table(cells_BOCThw: Tensor, held_BOT: Tensor, side: int) -> Tensor:
    """Mask cells of tokens, and 1 for each where the object is held -> [B, T, h, w, side * side * O * (cells + 1)]."""
    inner = round(cells_BOCThw.shape[2] ** 0.5) // side
    places = cells_BOCThw.shape[3:]  # taken together: TensorRT has no more than eight axes
    # channels of a token are rows (fine row, row within), then columns (fine column, column within)
    split = cells_BOCThw.float().flatten(3).unflatten(2, (side, inner, side, inner))
    table = split.permute(0, 6, 2, 4, 1, 3, 5).flatten(5).flatten(2, 3)  # [B, T * h * w, side * side, O, cells]
    held = held_BOT.float().transpose(1, 2)[:, :, None].expand(-1, -1, places[1] * places[2], -1).flatten(1, 2)
    held = held[:, :, None, :, None].expand(-1, -1, side * side, -1, 1)
    return torch.cat((table, held), dim=4).flatten(2).unflatten(1, places)


def _blocks(x_BThwZ: Tensor, block: int) -> Tensor:
    """Cut into blocks of tokens -> [B, blocks, T * block * block, Z]; h and w are multiples of `block`."""
    cut = x_BThwZ.unflatten(3, (-1, block)).unflatten(2, (-1, block))
    return cut.permute(0, 2, 4, 1, 3, 5, 6).flatten(3, 5).flatten(1, 2)


def _windows(x_BThwZ: Tensor, rows: int, columns: int, block: int, margin: int) -> Tensor:
    """Blocks with `margin` tokens around -> [B, G, X / side^2, Z], X by parts of the window, slots, tokens."""
    step = gcd(block, 2 * margin)  # windows overlap by whole pieces of so many tokens
    parts = (block + 2 * margin) // step  # by side, of the window
    across = (columns * block + 2 * margin) // step
    pieces = _blocks(x_BThwZ, step)
    row = torch.arange(rows, device=x_BThwZ.device)[:, None, None, None] * (block // step)
    column = torch.arange(columns, device=x_BThwZ.device)[None, :, None, None] * (block // step)
    part = torch.arange(parts, device=x_BThwZ.device)
    index = (row + part[None, None, :, None]) * across + column + part[None, None, None, :]
    gathered = torch.index_select(pieces, 1, index.flatten())
    return gathered.unflatten(1, (rows * columns, parts * parts)).flatten(2, 3)


def _prior(trust_BT: Tensor, age_BT: Tensor, side: int, config: ModelConfig) -> Tensor:
    """The prior on motion and the slots' trust [B, Q, X], as exponents."""
    square_QYS = _squares(side, age_BT)
    bound_BT = tightness(age_BT, config, FINE_STRIDE)
    exponent = log_trust(trust_BT, config.fine_temperature)[:, None, None, :, None] - (
        square_QYS[None, :, :, None] * bound_BT[:, None, None, :, None]
    )
    return exponent.flatten(2)


def _squares(side: int, like: Tensor) -> Tensor:
    """Squared distance in fine positions from each position of a block to each of its window [Q, parts, X / parts]."""
    block, margin = BLOCK // side, MARGIN // side
    step = gcd(block, 2 * margin)
    parts = (block + 2 * margin) // step
    token, within, part, piece = (torch.arange(size, device=like.device).float() for size in (block, side, parts, step))
    query = token[:, None] * side + within  # along one axis, by token and position within
    key = (part[:, None, None] * step + piece[:, None] - margin) * side + within  # by part, token and position within
    query_y = query[:, None, :, None].expand(block, block, side, side).flatten()
    query_x = query[None, :, None, :].expand(block, block, side, side).flatten()
    key_y = key[:, None, :, None, :, None].expand(parts, parts, step, step, side, side).flatten()
    key_x = key[None, :, None, :, None, :].expand(parts, parts, step, step, side, side).flatten()
    down, across = query_y[:, None] - key_y, query_x[:, None] - key_x
    return (down * down + across * across).unflatten(1, (parts * parts, -1))


def _unblocked(
    found_BGQC: Tensor, blocks: tuple[int, int], size: tuple[int, int], objects: int, side: int
) -> tuple[Tensor, Tensor]:
    """Masks [B, O, h * side * inner, w * side * inner] and mass [B, O, h * side, w * side], what is beyond cut off."""
    rows, columns = blocks
    block = BLOCK // side
    split = found_BGQC.unflatten(2, (block, block, side, side)).unflatten(1, (rows, columns))
    merged = split.permute(0, 7, 1, 3, 5, 2, 4, 6).flatten(5).flatten(2, 4).unflatten(1, (objects, -1))
    merged = merged[:, :, :, : size[0] * side, : size[1] * side]
    inner = round((merged.shape[2] - 1) ** 0.5)
    mask = torch.nn.functional.pixel_shuffle(merged[:, :, :-1].flatten(0, 1), inner)
    return mask[:, 0].unflatten(0, (-1, objects)), merged[:, :, -1]

"""Read-out: what the memory says about each position of the current frame.

One set of weights is shared by all objects. A token of a slot weighs, for a position of the frame,

    trust * exp(cosine(query, key) / temperature  -  distance^2 / (2 (start^2 + growth^2 * age))  -  1 / temperature)

so a perfect match at its own place weighs 1 and nothing can overflow: no maximum has to be looked for first. The second
term is a prior on motion: a token d pixels away in a slot that is `age` frames old. Because
-|p - q|^2 = 2 p.q - |p|^2 - |q|^2, it is four more channels of the same matrix product: no mask, no window and no
gather. What is read for an object is divided by its own mass, the weight of the slots that hold it; where a slot does
not, its value is zero and adds to neither, so an object added late is read from the frames that know it, exactly as if
the others were not there.
"""

# B streams, O objects, K key channels, V value channels, T slots, N tokens of a frame, X tokens of all slots,
# P positions of the query, R rows of values: V of each object

import torch
from torch import Tensor

from maskstream.model.config import ModelConfig

# Weights end at exp(-60): nothing beside any that matches, yet their products with values are no denormal float32, on
# which a CPU would spend several times the work of all others.
FLOOR_DEPTH = 60.0
NO_MASS = 1e-30  # less than one token at the floor: no slot holds the object


def position_channels(height: int, width: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Query and key channels [4, N] whose product is -|p - q|^2, in tokens."""
    y = torch.arange(height, device=like.device, dtype=like.dtype)[:, None].expand(height, width).reshape(-1)
    x = torch.arange(width, device=like.device, dtype=like.dtype)[None, :].expand(height, width).reshape(-1)
    y, x = y - (height - 1) / 2, x - (width - 1) / 2  # from the centre: the squares cancel, so they had better be small
    square, one = y * y + x * x, torch.ones_like(y)
    return torch.stack((2 * y, 2 * x, -one, -square)), torch.stack((y, x, square, one))


def read_out(  # noqa: PLR0913 - the memory as `propagate` has it
    query_BKhw: Tensor,
    key_BKTN: Tensor,
    value_BOVTN: Tensor,
    held_BOT: Tensor,
    trust_BT: Tensor,
    age_BT: Tensor,
    config: ModelConfig,
) -> tuple[Tensor, Tensor]:
    """Sums [B, O, V, P] of the values by weight, and mass [B, O, P]: the weight of the slots where `held_BOT` is 1.

    Both float32 and not divided by one another, so that other read-outs can be added first.
    """
    objects, channels = value_BOVTN.shape[1:3]
    query_BPK, key_BKX = _with_position(query_BKhw, key_BKTN, trust_BT, age_BT, config)
    weight_BPX = torch.exp(torch.matmul(query_BPK, key_BKX).float().clamp_min(-FLOOR_DEPTH))
    held_BOX = held_BOT[:, :, :, None].expand(-1, -1, -1, key_BKTN.shape[3]).flatten(2)
    value_BRX = value_BOVTN.flatten(3).flatten(1, 2)
    if value_BRX.dtype == torch.float16:
        sum_BPR, mass_BPO = _in_half(weight_BPX, value_BRX, held_BOX)
    else:
        # Mass is one more row of the product for each object: a sum over [P, X] of its own costs a tenth of a read.
        read_BRX = torch.cat((value_BRX, held_BOX.to(value_BRX.dtype)), dim=1)
        found_BPR = torch.matmul(weight_BPX.to(read_BRX.dtype), read_BRX.transpose(1, 2)).float()
        sum_BPR, mass_BPO = found_BPR[:, :, :-objects], found_BPR[:, :, -objects:]
    return sum_BPR.transpose(1, 2).unflatten(1, (objects, channels)), mass_BPO.transpose(1, 2)


def _in_half(weight_BPX: Tensor, value_BRX: Tensor, held_BOX: Tensor) -> tuple[Tensor, Tensor]:
    """Sums [B, P, R] and masses [B, P, O] where values are float16, which ends at 6e-8: so weights sum to 1 there."""
    total_BP1 = weight_BPX.sum(dim=2, keepdim=True)
    sum_BPR = torch.matmul((weight_BPX / total_BP1).half(), value_BRX.transpose(1, 2)).float() * total_BP1
    return sum_BPR, torch.matmul(weight_BPX, held_BOX.transpose(1, 2))


def _with_position(
    query_BKhw: Tensor, key_BKTN: Tensor, trust_BT: Tensor, age_BT: Tensor, config: ModelConfig
) -> tuple[Tensor, Tensor]:
    """Query [B, P, K] and key [B, K, X] whose product is the exponent of the weights."""
    height, width = query_BKhw.shape[2:]
    position_q_4P, position_k_4N = position_channels(height, width, key_BKTN)
    tightness_BT = tightness(age_BT, config, config.stride)
    position_B4TN = position_k_4N[None, :, None] * tightness_BT[:, None, :, None]
    # Trust is one more channel: adding to similarity [P, X] instead costs a fifth of a read.
    trust_B1TN = log_trust(trust_BT, config.temperature)[:, None, :, None].expand(-1, -1, -1, key_BKTN.shape[3])
    query = query_BKhw.flatten(2) / config.temperature
    query = torch.cat((query, position_q_4P.expand(query.shape[0], -1, -1), torch.ones_like(query[:, :1])), dim=1)
    key = torch.cat((key_BKTN, position_B4TN, trust_B1TN), dim=1)
    return query.transpose(1, 2), key.flatten(2)


def tightness(age_BT: Tensor, config: ModelConfig, stride: int) -> Tensor:
    """What the prior on motion multiplies squared distances by, which are in units of `stride` pixels."""
    start, growth = config.locality_start_pixels / stride, config.locality_growth_pixels / stride
    return 0.5 / (start**2 + growth**2 * age_BT)


def log_trust(trust_BT: Tensor, temperature: float) -> Tensor:
    """What a slot's cosine / temperature is raised by, so that a perfect match in a trusted slot comes to 0."""
    return torch.log(trust_BT.clamp_min(1e-6)) - 1 / temperature

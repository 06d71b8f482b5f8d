"""Read-out: what the memory says about each position of the current frame.

One affinity is shared by all objects: a softmax over all tokens of all slots of

    cosine(query, key) / temperature  -  distance^2 / (2 (start^2 + growth^2 * age))

The second term is a prior on motion: a token d pixels away in a slot that is `age` frames old. Because
-|p - q|^2 = 2 p.q - |p|^2 - |q|^2, it is four more channels of the same matrix product: no mask, no window and
no gather. A slot's similarities are raised by the logarithm of its trust. Slots that never saw an object are zero in
its value and left out of its own normalisation, so an object added late is read from the frames that know it, exactly
as if the others were not there.
"""

# B streams, O objects, K key channels, V value channels, T slots, N tokens of a frame, P positions of the query

import torch
from torch import Tensor

from maskstream.model.config import ModelConfig

MASKED = -1e4  # added to the similarity of an empty slot; representable in fp16, unlike -1e10
FLOOR_DEPTH = 80.0  # similarities end this far below the highest there can be; exp(-88) is no normal float32 any more


def position_channels(height: int, width: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Query and key channels [4, N] whose product is -|p - q|^2, in tokens."""
    y = torch.arange(height, device=like.device, dtype=like.dtype)[:, None].expand(height, width).reshape(-1)
    x = torch.arange(width, device=like.device, dtype=like.dtype)[None, :].expand(height, width).reshape(-1)
    y, x = y - (height - 1) / 2, x - (width - 1) / 2  # from the centre: the squares cancel, so they had better be small
    square, one = y * y + x * x, torch.ones_like(y)
    return torch.stack((2 * y, 2 * x, -one, -square)), torch.stack((y, x, square, one))


def affinity(
    query_BKhw: Tensor, key_BKTN: Tensor, trust_BT: Tensor, age_BT: Tensor, config: ModelConfig
) -> tuple[Tensor, Tensor]:
    """Affinity [B, P, T, N], each position summing to 1 over slots and tokens, and its log mass [B, P]; float32."""
    batch, _, slots, tokens = key_BKTN.shape
    height, width = query_BKhw.shape[2:]
    position_q_4P, position_k_4N = position_channels(height, width, key_BKTN)
    start, growth = config.locality_start_pixels / config.stride, config.locality_growth_pixels / config.stride
    tightness_BT = 0.5 / (start**2 + growth**2 * age_BT)
    position_B4TN = position_k_4N[None, :, None] * tightness_BT[:, None, :, None]
    # Trust is one more channel: adding to similarity [P, T, N] instead costs a fifth of a read.
    trust_B1TN = log_trust(trust_BT)[:, None, :, None].expand(-1, -1, -1, tokens)
    query = query_BKhw.flatten(2) / config.temperature
    query = torch.cat((query, position_q_4P[None].expand(batch, -1, -1), torch.ones_like(query[:, :1])), dim=1)
    key = torch.cat((key_BKTN, position_B4TN, trust_B1TN), dim=1)
    similarity_BPX = floored(torch.matmul(query.transpose(1, 2), key.flatten(2)), config.temperature)
    affinity_BPX = torch.softmax(similarity_BPX, dim=2)
    mass_BP = log_mass(similarity_BPX, affinity_BPX, config.temperature)
    return affinity_BPX.unflatten(2, (slots, tokens)), mass_BP


def log_trust(trust_BT: Tensor) -> Tensor:
    """What a slot's similarities are raised by: nothing at full trust, so little that none counts in an empty slot."""
    return torch.log(trust_BT.clamp_min(1e-6)) + (trust_BT <= 0).to(trust_BT.dtype) * MASKED


def floored(similarity: Tensor, temperature: float) -> Tensor:
    """Similarities in float32, none too far below the highest there can be.

    A token at the floor weighs nothing beside any that matches, yet its weight is no denormal number, on which a CPU
    would spend several times the work of all others.
    """
    return similarity.float().clamp_min(1 / temperature - FLOOR_DEPTH)


def log_mass(similarity: Tensor, affinity: Tensor, temperature: float) -> Tensor:
    """Logarithm of what a softmax over the last axis divided by, where a perfect match at its own place counts 1."""
    return similarity.amax(dim=-1) - torch.log(affinity.amax(dim=-1)) - 1 / temperature


def read_out(affinity_BPTN: Tensor, value_BOVTN: Tensor, valid_BOT: Tensor) -> tuple[Tensor, Tensor]:
    """Read-out [B, O, V, P] and mass [B, O, P]: values mixed by affinity over the slots where `valid_BOT` is 1.

    The mass is the share of the affinity that those slots got; where it is 0, so is the read-out.
    """
    objects, channels = value_BOVTN.shape[1:3]
    weights_BPX = affinity_BPTN.flatten(2).to(value_BOVTN.dtype)  # values may be fp16; what normalises them may not
    mixed_BXP = torch.matmul(value_BOVTN.flatten(3).flatten(1, 2), weights_BPX.transpose(1, 2)).float()
    slot_mass_BPT = affinity_BPTN.sum(dim=3)
    mass_BOP = torch.matmul(valid_BOT, slot_mass_BPT.transpose(1, 2))
    return mixed_BXP.unflatten(1, (objects, channels)) / mass_BOP.clamp_min(1e-12)[:, :, None], mass_BOP

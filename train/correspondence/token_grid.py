"""Places on the square grid of tokens of a view: shares, nearest tokens, windows, and means over what is inside.

A place is (x, y) in tokens; (0, 0) is the centre of the first token. Tokens are numbered row by row.
"""

import torch
from torch import Tensor

# B clips, N places, M tokens of the view they lie in


def bilinear_targets(place_BN2: Tensor, tokens: int) -> tuple[Tensor, Tensor]:
    """Bilinear weights [B, N, tokens] of each place on a square grid, and which places are inside [B, N]."""
    side = round(tokens**0.5)
    axis = torch.arange(side, dtype=place_BN2.dtype, device=place_BN2.device)
    weight_x = (1 - (place_BN2[..., 0:1] - axis).abs()).clamp_min(0)
    weight_y = (1 - (place_BN2[..., 1:2] - axis).abs()).clamp_min(0)
    weight_BNM = (weight_y[..., :, None] * weight_x[..., None, :]).flatten(2)
    inside_BN = ((place_BN2 >= 0) & (place_BN2 <= side - 1)).all(dim=2)
    return weight_BNM, inside_BN


def nearest_token(place_BN2: Tensor, tokens: int) -> tuple[Tensor, Tensor]:
    """Index [B, N] of the token nearest to each place, and which places are inside [B, N]."""
    side = round(tokens**0.5)
    inside_BN = ((place_BN2 > -0.5) & (place_BN2 < side - 0.5)).all(dim=2)
    nearest_BN2 = place_BN2.round().clamp(0, side - 1).long()
    return nearest_BN2[..., 1] * side + nearest_BN2[..., 0], inside_BN


def token_places(tokens: int, device: torch.device) -> Tensor:
    """(x, y) of every token [tokens, 2], float32."""
    side = round(tokens**0.5)
    index = torch.arange(tokens, device=device)
    return torch.stack((index % side, index // side), dim=1).float()


def within_window(place_BN2: Tensor, tokens: int, reach: float) -> Tensor:
    """Which tokens lie at most `reach` tokens from each place in x and in y: bool [B, N, tokens]."""
    token_M2 = token_places(tokens, place_BN2.device)
    distance_BNM = (place_BN2[..., :, None, :] - token_M2).abs().amax(dim=-1)
    return distance_BNM <= reach


def mean_over(loss_BN: Tensor, counted_BN: Tensor) -> Tensor:
    """Mean of the losses that count; 0 where none does."""
    return (loss_BN * counted_BN).sum() / counted_BN.sum().clamp_min(1)

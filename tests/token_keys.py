"""Keys of a small grid of tokens, made by hand: as good as keys can be, or as bad."""

import torch
from torch import Tensor

SIDE = 4
TOKENS = SIDE * SIDE
LATE = 1_000_000  # a step after every warm-up


def own_places(batch: int) -> Tensor:
    """Every token at its own place: [B, TOKENS, 2], (x, y)."""
    index = torch.arange(TOKENS)
    return torch.stack((index % SIDE, index // SIDE), dim=1).float().expand(batch, -1, -1)


def distinct_keys(batch: int) -> Tensor:
    """Orthogonal keys [B, K, TOKENS], all different, across clips too."""
    return torch.eye(batch * TOKENS).unflatten(1, (batch, TOKENS)).permute(1, 0, 2)


def equal_keys(batch: int) -> Tensor:
    """The same key everywhere: what a collapsed encoder gives."""
    return torch.full((batch, batch * TOKENS, TOKENS), (batch * TOKENS) ** -0.5)


def shifted(of_tokens: Tensor, x: int, y: int) -> Tensor:
    """What lies on the grid [B, C, TOKENS] moved right by x and down by y tokens, round the border."""
    return of_tokens.unflatten(2, (SIDE, SIDE)).roll((y, x), (2, 3)).flatten(2)


def dice() -> torch.Generator:
    return torch.Generator().manual_seed(7)

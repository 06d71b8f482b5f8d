"""The read-out in plain arithmetic: what every engine must compute, written to be read rather than to be fast.

    similarity(q, k) = query . key / temperature - distance^2 / (2 (start^2 + growth^2 age))
    affinity         = softmax of the similarity + log trust over all tokens of all slots that hold something
    read-out         = sum of affinity * value over the slots that hold the object, divided by the affinity they got

    mass             = sum of trust * exp(similarity - 1 / temperature): 1 for one perfect match at its own place

The read-out of tokens goes over all of a frame, the fine one only over what is `near`; their masks are joined in
proportion to the mass of the one and the squared mass of the other, whose temperature is twice as high. The networks
compute the same with matrix products (maskstream/model/read_out.py and fine_read_out.py have the how); tests compare
both.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from maskstream.networks import F32

# K key channels, V value channels, T slots, N tokens of a frame, P positions of the query, O objects


@dataclass(frozen=True)
class ReadOutSettings:
    """Temperature of the cosine; how far things move, in tokens: at once, and with the square root of the age."""

    temperature: float
    start_tokens: float
    growth_tokens: float


def similarity(query_KP: F32, key_KTN: F32, age_T: F32, size: tuple[int, int], settings: ReadOutSettings) -> F32:
    """Similarity [P, T, N] of positions and tokens, both row-major on a grid of `size` (height, width)."""
    cosine_PTN = np.einsum("kp,ktn->ptn", query_KP, key_KTN) / settings.temperature
    place_N2 = np.stack(np.unravel_index(np.arange(size[0] * size[1]), size), axis=1)
    distance_PN = ((place_N2[:, None] - place_N2[None]) ** 2).sum(axis=2)
    spread_T = settings.start_tokens**2 + settings.growth_tokens**2 * age_T
    total: F32 = cosine_PTN - distance_PN[:, None, :] / (2 * spread_T[None, :, None])
    return total


def affinity(similarity_PTN: F32, trust_T: F32) -> F32:
    """Softmax over the tokens of all slots, each weighed by its trust, 0 where it is empty; each position sums to 1."""
    masked = np.where(trust_T[None, :, None] > 0, similarity_PTN, -np.inf)
    weight = trust_T[None, :, None] * np.exp(masked - masked.max(axis=(1, 2), keepdims=True))
    normalised: F32 = weight / weight.sum(axis=(1, 2), keepdims=True)
    return normalised


def read_out(affinity_PTN: F32, value_OVTN: F32, valid_OT: F32) -> F32:
    """Read-out [O, V, P]; each object normalised over its own slots."""
    held_OT = (valid_OT > 0).astype(np.float32)
    mixed_OVP = np.einsum("ptn,ovtn,ot->ovp", affinity_PTN, value_OVTN, held_OT)
    mass_OP = np.einsum("ptn,ot->op", affinity_PTN, held_OT)
    result: F32 = mixed_OVP / np.maximum(mass_OP, 1e-12)[:, None]
    return result


def mass(similarity_PTN: F32, trust_T: F32, temperature: float) -> F32:
    """Mass [P]: what the affinity was divided by, on a scale on which read-outs of other grids can be compared."""
    weight = np.exp(similarity_PTN - 1 / temperature) * trust_T[None, :, None]
    total: F32 = weight.sum(axis=(1, 2))
    return total


def near(size: tuple[int, int], block: int, margin: int) -> npt.NDArray[np.bool_]:
    """Pairs [P, N] of a grid of `size` that a fine read-out compares: N is in P's block or at most `margin` beside."""
    place_N2 = np.stack(np.unravel_index(np.arange(size[0] * size[1]), size), axis=1)
    first_P2 = place_N2 // block * block
    beside_PN2 = place_N2[None] - first_P2[:, None]
    return np.asarray(((beside_PN2 >= -margin) & (beside_PN2 < block + margin)).all(axis=2))

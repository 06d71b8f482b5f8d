"""What the keys of a frame say of a region that was only hinted at: is this cell more like the thing, or the rest?

A cell is judged by its mean likeness to examples of both sides. The examples are few and the arithmetic is one matrix
product, because this runs between two calls of the networks, where other streams wait.
"""

import cv2
import numpy as np
import numpy.typing as npt

from maskstream.networks import F32

Cells = npt.NDArray[np.float32]  # [h, w] one weight for each token of a frame

WIDTH = 0.3  # of the cosine: what differs by this much is e times less alike
SUREST = 4.0  # log-odds; no cell says more
MOST_EXAMPLES = 128  # of each side


def log_odds(key_Khw: F32, inside: Cells, outside: Cells) -> Cells:
    """float32 [h, w]: above 0 where a token is more like those weighted by `inside`; 0 without examples of each."""
    keys_KN = key_Khw.reshape(len(key_Khw), -1)
    if not (inside.any() and outside.any() and np.isfinite(keys_KN).all()):
        return np.zeros(inside.shape, np.float32)
    near, far = (_likeness(keys_KN, weight.ravel()) for weight in (inside, outside))
    odds = np.log(near + 1e-9) - np.log(far + 1e-9)
    return np.asarray(np.clip(odds, -SUREST, SUREST), np.float32).reshape(inside.shape)


def _likeness(keys_KN: F32, weight_N: Cells) -> F32:
    """float32 [N]: mean likeness of every token to the weightiest examples, evenly taken where there are too many."""
    examples = np.flatnonzero(weight_N)
    examples = examples[:: -(-len(examples) // MOST_EXAMPLES)]
    weights = weight_N[examples] / weight_N[examples].sum()
    return np.asarray(weights @ np.exp((keys_KN[:, examples].T @ keys_KN - 1.0) / WIDTH), np.float32)


def at_pixels(cells: Cells, size: tuple[int, int], corners: tuple[int, int, int, int]) -> F32:
    """Cells of a frame of `size` (height, width), smoothly at its pixels left, top, right, bottom of `corners`."""
    left, top, right, bottom = corners
    scale_x, scale_y = cells.shape[1] / size[1], cells.shape[0] / size[0]
    back = np.array([[scale_x, 0, (left + 0.5) * scale_x - 0.5], [0, scale_y, (top + 0.5) * scale_y - 0.5]], np.float64)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    target = (right - left, bottom - top)
    return np.asarray(cv2.warpAffine(cells, back, target, flags=flags, borderMode=cv2.BORDER_REPLICATE), np.float32)


def covered(region: npt.NDArray[np.float32], grid: tuple[int, int]) -> Cells:
    """Share of each cell of a grid (h, w) that a region float32 [H, W] of 0..1 covers."""
    return np.asarray(cv2.resize(region, (grid[1], grid[0]), interpolation=cv2.INTER_AREA), np.float32)

"""Lab colours of a view, and its picture without one of the two colour channels.

The encoder takes RGB, so a view without a channel is an RGB picture again. Not every pair of lightness and remaining
colour exists in RGB, and what does not exist comes back with the dropped channel filled in; so the remaining channel is
first cut to what the lightness allows. The picture then depends on nothing of the dropped channel.
"""

from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from train.augment import Image

Lab = npt.NDArray[np.float32]  # [H, W, 3]: lightness, a (green to red), b (blue to yellow), each in -1..1

SHIFT = np.array([50, 0, 0], np.float32)  # of OpenCV's Lab, whose lightness is 0..100
SCALE = np.array([50, 127, 127], np.float32)
LIGHTNESS_STEPS = 101
TOLERANCE = 0.5  # of OpenCV's units, about half a step of 8 bits


def lab_of(image: Image) -> Lab:
    """Lab of uint8 RGB."""
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
    return np.asarray((lab - SHIFT) / SCALE, np.float32)


def without_channel(lab: Lab, channel: int) -> Image:
    """uint8 RGB with colour channel `channel` (0: a, 1: b) neutral, at the same lightness."""
    kept = 2 - channel
    lowest, highest = _limits(kept)
    lightness = np.linspace(-1, 1, LIGHTNESS_STEPS)
    flat = np.zeros_like(lab)
    flat[..., 0] = lab[..., 0]
    flat[..., kept] = np.clip(
        lab[..., kept], np.interp(lab[..., 0], lightness, lowest), np.interp(lab[..., 0], lightness, highest)
    )
    return np.rint(_rgb(flat) * 255).astype(np.uint8)


def cell_colours(lab: Lab, stride: int, cells: int) -> npt.NDArray[np.float32]:
    """Mean (a, b) of each token's cells, both row by row: [N, cells * cells, 2].

    Raises ValueError where the cells do not divide the token.
    """
    if cells < 1 or stride % cells:
        raise ValueError(f"reconstruction_cells={cells} does not divide a token of {stride} pixels")
    grid, cell = lab.shape[0] // stride, stride // cells
    blocks = lab[..., 1:].reshape(grid, cells, cell, grid, cells, cell, 2).mean(axis=(2, 5))
    return np.ascontiguousarray(blocks.transpose(0, 2, 1, 3, 4).reshape(grid * grid, cells * cells, 2))


def _rgb(lab: Lab) -> npt.NDArray[np.float32]:
    rgb = cv2.cvtColor(lab * SCALE + SHIFT, cv2.COLOR_Lab2RGB)
    return np.clip(np.asarray(rgb, np.float32), 0, 1)


@cache
def _limits(kept: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Lowest and highest value of channel `kept` (1: a, 2: b), the other neutral, for each lightness."""
    return _limit(kept, -1.0), _limit(kept, 1.0)


def _limit(kept: int, farthest: float) -> npt.NDArray[np.float32]:
    """By halving: the largest share of `farthest` that survives the way to RGB and back."""
    lab = np.zeros((LIGHTNESS_STEPS, 1, 3), np.float32)
    lab[:, 0, 0] = np.linspace(-1, 1, LIGHTNESS_STEPS)
    exists, fails = np.zeros(LIGHTNESS_STEPS, np.float32), np.full(LIGHTNESS_STEPS, farthest, np.float32)
    for _ in range(10):
        lab[:, 0, kept] = (exists + fails) / 2
        back = (cv2.cvtColor(_rgb(lab), cv2.COLOR_RGB2Lab) - SHIFT) / SCALE
        survives = (np.abs(back - lab) * SCALE).max(axis=(1, 2)) < TOLERANCE
        exists, fails = np.where(survives, lab[:, 0, kept], exists), np.where(survives, fails, lab[:, 0, kept])
    return exists

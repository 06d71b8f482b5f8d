"""A clip drawn in a few lines, for tests that learn from pictures and must not need data."""

import cv2
import numpy as np


def moving_square(frames: int = 16, size: tuple[int, int] = (96, 128), seed: int = 0) -> np.ndarray:
    """uint8 [T, H, W, 3]: a textured square crossing a textured ground."""
    rng = np.random.default_rng(seed)
    ground = cv2.resize(rng.integers(0, 120, (12, 16, 3), dtype=np.uint8), (size[1], size[0]))
    thing = cv2.resize(rng.integers(120, 256, (6, 6, 3), dtype=np.uint8), (36, 36), interpolation=cv2.INTER_NEAREST)
    clip = np.repeat(ground[None], frames, axis=0)
    for t in range(frames):
        clip[t, 30:66, 5 + 4 * t : 41 + 4 * t] = thing[:, : max(0, min(36, size[1] - 5 - 4 * t))]
    return clip

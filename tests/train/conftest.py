"""Small moving clips to learn from, drawn here so that no test needs data."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from maskstream.video import VideoWriter
from train.clips import Clip


def moving_square(frames: int = 16, size: tuple[int, int] = (96, 128), seed: int = 0) -> np.ndarray:
    """uint8 [T, H, W, 3]: a textured square crossing a textured ground."""
    rng = np.random.default_rng(seed)
    ground = cv2.resize(rng.integers(0, 120, (12, 16, 3), dtype=np.uint8), (size[1], size[0]))
    thing = cv2.resize(rng.integers(120, 256, (6, 6, 3), dtype=np.uint8), (36, 36), interpolation=cv2.INTER_NEAREST)
    clip = np.repeat(ground[None], frames, axis=0)
    for t in range(frames):
        clip[t, 30:66, 5 + 4 * t : 41 + 4 * t] = thing[:, : max(0, min(36, size[1] - 5 - 4 * t))]
    return clip


@pytest.fixture(scope="session")
def clips() -> list[Clip]:
    return [Clip(f"clip{seed}", moving_square(seed=seed)) for seed in range(3)]


@pytest.fixture(scope="session")
def video_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for seed in range(2):
        with VideoWriter(folder / f"clip{seed}.mp4") as writer:
            for frame in moving_square(seed=seed):
                writer.write(frame)
    return folder

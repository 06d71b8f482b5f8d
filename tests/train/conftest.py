"""Small moving clips to learn from, drawn here so that no test needs data."""

from pathlib import Path

import pytest
from moving_square import moving_square

from maskstream.video import VideoWriter
from train.clips import Clip


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

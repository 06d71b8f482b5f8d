"""Hostile clients are as hostile as they say."""

import cv2
import numpy as np
import pytest

from maskstream.load.encoded_clip import encoded_clip
from maskstream.load.hostile import png_bomb
from maskstream.wire import read_png_header


def test_a_bomb_is_small_and_claims_a_lot() -> None:
    bomb = png_bomb()
    header = read_png_header(bomb)
    assert (header.width, header.height) == (30_000, 30_000)
    assert len(bomb) < 200_000


def test_a_small_bomb_is_a_valid_picture() -> None:
    decoded = cv2.imdecode(np.frombuffer(png_bomb(side=40), np.uint8), cv2.IMREAD_UNCHANGED)
    assert decoded is not None
    assert decoded.shape[:2] == (40, 40)
    assert not decoded.any()


@pytest.mark.parametrize("objects", [1, 3])
def test_the_clip_goes_to_and_fro_and_prompts_on_its_first_frame(objects: int) -> None:
    clip = encoded_clip((64, 96), objects)
    assert clip.period == 30
    assert clip.jpeg(0) == clip.jpeg(30) != clip.jpeg(15)
    assert clip.jpeg(14) == clip.jpeg(16)
    assert len(clip.message(0).prompts.objects) == objects
    assert not clip.message(30).HasField("prompts")
    assert clip.pixels(3).shape == (64, 96, 3)

"""A tiny YouTube-VOS split: squares that stand still, so that networks that copy the last mask follow them exactly."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from maskstream.masks import IdMap
from maskstream.pictures import write_id_map, write_jpeg

SIZE = (64, 96)
PLACES = {1: (0, 0), 2: (0, 32), 5: (0, 64), 7: (32, 0), 40: (32, 32), 255: (32, 64)}  # top, left of each id's square


def squares(*ids: int) -> IdMap:
    """An id map with a 32x32 square for each id."""
    id_map = np.zeros(SIZE, dtype=np.uint8)
    for i in ids:
        top, left = PLACES[i]
        id_map[top : top + 32, left : left + 32] = i
    return id_map


def names(*numbers: int) -> list[str]:
    """Frame names, as 00005."""
    return [f"{number:05d}" for number in numbers]


def add_frames(folder: Path, numbers: Iterable[int]) -> None:
    """Grey JPEGs."""
    for name in names(*numbers):
        write_jpeg(folder / f"{name}.jpg", np.full((*SIZE, 3), 90, dtype=np.uint8))


def add_video(
    split: Path, video: str, frames: Iterable[int], listed: dict[int, list[int]], masks: dict[int, IdMap]
) -> None:
    """Add a video's files and its part of meta.json."""
    add_frames(split / "JPEGImages" / video, frames)
    for number, id_map in masks.items():
        write_id_map(split / "Annotations" / video / f"{number:05d}.png", id_map)
    path = split / "meta.json"
    meta = json.loads(path.read_text()) if path.exists() else {"videos": {}}
    objects = {str(i): {"category": "square", "frames": names(*numbers)} for i, numbers in listed.items()}
    meta["videos"][video] = {"objects": objects}
    path.write_text(json.dumps(meta))

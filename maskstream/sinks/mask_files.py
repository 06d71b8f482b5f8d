"""Masks as PNG files that other tools read: one folder of them, or the trees of the DAVIS and YouTube-VOS benchmarks.

    FOLDER/00000.png
    FOLDER/Annotations/480p/SEQ/00000.png         DAVIS; called 480p whatever the size, as its tools expect
    FOLDER/Annotations/SEQ/00000.png, meta.json   YouTube-VOS; meta.json lists the frames that show each object

All are palette PNGs with the colours of DAVIS, whose pixel value is the object's id. A tree may hold several videos.
"""

import json
from pathlib import Path
from typing import Any

from maskstream.dataset import RESOLUTION
from maskstream.errors import VideoError
from maskstream.followed import FollowedFrame
from maskstream.masks import object_ids
from maskstream.pictures import write_id_map
from maskstream.sinks.sink import Draw, replace_file
from maskstream.youtube_vos import META


def mask_name(index: int) -> str:
    """Name of a frame in all of these trees, without suffix."""
    return f"{index:05d}"


class MaskFolder:
    """A PNG a frame in one folder."""

    def __init__(self, name: str, folder: Path) -> None:
        """`name` is that of the output in the report."""
        self._name, self._folder = name, folder
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def outputs(self) -> dict[str, str]:
        """The folder."""
        return {self._name: str(self._folder)}

    def add(self, followed: FollowedFrame, draw: Draw) -> None:
        """Write the frame's mask."""
        write_id_map(self._folder / f"{mask_name(followed.index)}.png", followed.id_map)

    def close(self) -> None:
        """Nothing is open."""


class DavisTree:
    """The tree of DAVIS."""

    def __init__(self, folder: Path, video: str) -> None:
        self._folder = folder
        self._masks = MaskFolder("davis", folder / "Annotations" / RESOLUTION / video)

    @property
    def outputs(self) -> dict[str, str]:
        """The root of the tree."""
        return {"davis": str(self._folder)}

    def add(self, followed: FollowedFrame, draw: Draw) -> None:
        """Write the frame's mask."""
        self._masks.add(followed, draw)

    def close(self) -> None:
        """Nothing is open."""


class YouTubeVosTree:
    """The tree of YouTube-VOS. meta.json is written when an object appears, ever more rarely after that, and last."""

    def __init__(self, folder: Path, video: str) -> None:
        self._folder, self._video = folder, video
        self._masks = MaskFolder("youtube-vos", folder / "Annotations" / video)
        self._frames: dict[int, list[str]] = {}  # by object
        self._count = self._listed = 0

    @property
    def outputs(self) -> dict[str, str]:
        """The root of the tree."""
        return {"youtube-vos": str(self._folder)}

    def add(self, followed: FollowedFrame, draw: Draw) -> None:
        """Write the frame's mask and note which objects it shows."""
        self._masks.add(followed, draw)
        shown = object_ids(followed.id_map)
        appeared = set(shown) - set(self._frames)
        for object_id in shown:
            self._frames.setdefault(object_id, []).append(mask_name(followed.index))
        self._count += 1
        if appeared or self._count >= 2 * self._listed:
            self._list()

    def close(self) -> None:
        """List all frames."""
        if self._count:
            self._list()

    def _list(self) -> None:
        path = self._folder / META
        videos = _videos_of(path)
        objects = {str(i): {"category": "object", "frames": frames} for i, frames in sorted(self._frames.items())}
        videos[self._video] = {"objects": objects}
        replace_file(path, json.dumps({"videos": videos}))
        self._listed = self._count


def _videos_of(path: Path) -> dict[str, Any]:
    """What meta.json lists of earlier videos."""
    if not path.exists():
        return {}
    try:
        videos = json.loads(path.read_text(encoding="utf-8"))["videos"]
    except (ValueError, KeyError, TypeError) as error:
        raise VideoError(
            f"{path}: not a {META} to add a video to ({error}); remove it, or give another --out"
        ) from None
    if not isinstance(videos, dict):
        raise VideoError(f'{path}: its "videos" is no object; remove it, or give another --out')
    return videos

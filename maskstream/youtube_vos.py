"""Videos in the YouTube-VOS layout of 2018 and 2019, where objects appear on different frames.

    SPLIT/JPEGImages/SEQ/00000.jpg ...       SPLIT is the given folder, or valid, train or test in it
    SPLIT/Annotations/SEQ/00000.png ...      at least each object's first mask
    SPLIT/meta.json                          {"videos": {SEQ: {"objects": {ID: {"frames": ["00000", "00005", ...]}}}}}
    all_frames/SPLIT_all_frames/JPEGImages   beside SPLIT, if it was fetched: every frame, not only each fifth

All frames there are get followed, but masks are expected of those alone that meta.json lists. A mask that hands out an
object says nothing of the others (0 is "no label" there), so a video is scored only where every listed frame has one.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from maskstream.dataset import without_void
from maskstream.errors import VideoError
from maskstream.masks import MAX_OBJECT_ID, IdMap, object_ids
from maskstream.pictures import read_id_map, read_picture
from maskstream.steps import Step
from maskstream.tracker import Frame, Prompt
from maskstream.video import list_pictures

META = "meta.json"
SPLITS = ("valid", "train", "test")
_EXPECTED = "expected the YouTube-VOS layout: meta.json, JPEGImages/SEQ/*.jpg and Annotations/SEQ/*.png"
_SHAPE = '{"videos": {SEQ: {"objects": {ID: {"frames": ["00000", "00005", ...]}}}}}'


@dataclass(frozen=True)
class ListedObject:
    """One object of meta.json."""

    object_id: int
    frames: frozenset[str]  # where its masks are expected
    prompt: str  # the frame whose mask hands it out


@dataclass(frozen=True)
class ListedVideo:
    """One video of meta.json: `frames` are its pictures from the first listed one to the last, in order."""

    name: str
    frames: tuple[Path, ...]
    masks: Path  # folder
    objects: tuple[ListedObject, ...]
    last_is_scored: bool = True

    @property
    def num_frames(self) -> int:
        """Frames to be followed."""
        return len(self.frames)

    @property
    def num_expected(self) -> int:
        """Frames whose masks are wanted."""
        return len(self.expected)

    @cached_property
    def expected(self) -> frozenset[str]:
        """Names of the frames whose masks the benchmark takes: those listed for any object."""
        return frozenset().union(*(listed.frames for listed in self.objects))

    @cached_property
    def has_truth(self) -> bool:
        """Whether every expected frame has a mask, and not only because it hands an object out."""
        handing_out = {listed.prompt for listed in self.objects}
        return self.expected > handing_out and all((self.masks / f"{name}.png").is_file() for name in self.expected)

    def steps(self) -> Iterator[Step]:
        """Every frame from the first listed one on. Raises VideoError or MaskFileError for files that do not fit."""
        size: tuple[int, ...] | None = None
        for path in self.frames:
            frame = read_picture(path)
            if size is not None and frame.shape != size:
                was, found = (f"{shape[1]}x{shape[0]}" for shape in (size, frame.shape))
                raise VideoError(f"{path} is {found}, the frames before it are {was}; a video has one size")
            size = frame.shape
            yield self._step(path.stem, frame)

    def _step(self, name: str, frame: Frame) -> Step:
        new_ids = [listed.object_id for listed in self.objects if listed.prompt == name]
        expected = name in self.expected
        scored = expected and self.has_truth
        if not new_ids and not scored:
            return Step(name, frame, expected=expected)
        path = self.masks / f"{name}.png"
        mask = _read_mask(path, self.name, [listed.object_id for listed in self.objects])
        if mask.shape != frame.shape[:2]:
            was, found = (f"{shape[1]}x{shape[0]}" for shape in (frame.shape, mask.shape))
            raise VideoError(f"{path} is {found}, its frame is {was}; masks and frames of a video have one size")
        prompts = tuple(Prompt(i, mask == i) for i in new_ids)
        if not scored:
            return Step(name, frame, prompts)
        listed_here = frozenset(listed.object_id for listed in self.objects if name in listed.frames)
        return Step(name, frame, prompts, mask, listed_here)


@dataclass(frozen=True)
class YouTubeSplit:
    """A split and what its meta.json lists: the frames of each object of each video."""

    folder: Path
    listed: dict[str, dict[int, list[str]]]

    def names(self, chosen: Sequence[str] = ()) -> list[str]:
        """The chosen videos, else all. Raises VideoError for one that is not listed."""
        unknown = [name for name in chosen if name not in self.listed]
        if unknown:
            raise VideoError(
                f"{self.folder / META}: lists no video {', '.join(unknown)}, but {len(self.listed)} others"
            )
        return list(chosen) or list(self.listed)

    def video(self, name: str) -> ListedVideo:
        """One video, checked for all that can be told without following it, first masks included.

        Raises VideoError or MaskFileError for a missing folder or frame, or an object without a first mask.
        """
        objects = self.listed[name]
        masks = _folder_of(self.folder / "Annotations", name)
        folder = self.frames_of(name)
        pictures = {path.stem: path for path in list_pictures(folder)}
        listed = {frame for frames in objects.values() for frame in frames}
        missing = sorted(listed - set(pictures))
        if missing:
            raise VideoError(f"{folder}: no {missing[0]}.jpg, which {self.folder / META} lists")
        order = {frame: index for index, frame in enumerate(pictures)}
        places = [order[frame] for frame in listed]
        between = tuple(pictures.values())[min(places) : max(places) + 1]  # no mask is expected before or after
        in_order = {i: sorted(set(frames), key=order.__getitem__) for i, frames in sorted(objects.items())}
        prompts = _prompt_frames(masks, in_order)
        found = tuple(ListedObject(i, frozenset(frames), prompts[i]) for i, frames in in_order.items())
        return ListedVideo(name, between, masks, found)

    def frames_of(self, name: str) -> Path:
        """The folder of a video's frames: every frame, if that was fetched, else what the split holds."""
        part = f"{self.folder.name}_all_frames"
        choices = (self.folder.parent / "all_frames" / part, self.folder.parent / part)
        parents = [parent for choice in choices if _holds(parent := choice / "JPEGImages", name)]
        return _folder_of(parents[0] if parents else self.folder / "JPEGImages", name)


def find_split(root: Path) -> Path | None:
    """The folder of `root` that holds meta.json: itself, else valid, train or test; None when there is none."""
    return next((folder for folder in (root, *(root / name for name in SPLITS)) if (folder / META).is_file()), None)


def open_split(root: Path) -> YouTubeSplit:
    """The split at `root`. Raises VideoError when there is no meta.json or it is broken."""
    folder = find_split(root)
    if folder is None:
        raise VideoError(f"{root}: no {META} in it, nor in {', '.join(SPLITS)} under it; {_EXPECTED}")
    return YouTubeSplit(folder, _read_meta(folder / META))


def _read_meta(path: Path) -> dict[str, dict[int, list[str]]]:
    """Frames of each object of each video, as meta.json has them."""
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise VideoError(f"{path}: cannot be read ({error}); expected {_SHAPE}") from error
    videos = meta.get("videos") if isinstance(meta, dict) else None
    if not isinstance(videos, dict) or not videos:
        raise VideoError(f'{path}: no "videos" in it; expected {_SHAPE}')
    return {name: _objects_of(video, f"{path}: video {name}") for name, video in videos.items()}


def _objects_of(video: Any, where: str) -> dict[int, list[str]]:
    objects = video.get("objects") if isinstance(video, dict) else None
    if not isinstance(objects, dict) or not objects:
        raise VideoError(f'{where}: no "objects"; expected {_SHAPE}')
    return {_object_id(key, where): _frames_of(value, f"{where}, object {key}") for key, value in objects.items()}


def _object_id(key: str, where: str) -> int:
    if not key.isdecimal() or not 1 <= int(key) <= MAX_OBJECT_ID:
        raise VideoError(f"{where}: {key!r} is no object id; expected a number from 1 to {MAX_OBJECT_ID}")
    return int(key)


def _frames_of(value: Any, where: str) -> list[str]:
    frames = value.get("frames") if isinstance(value, dict) else None
    if not isinstance(frames, list) or not frames or not all(isinstance(name, str) for name in frames):
        raise VideoError(f'{where}: "frames" is no list of frame names; expected {_SHAPE}')
    return frames


def _holds(parent: Path, name: str) -> bool:
    return Path(name).name == name and (parent / name).is_dir()  # a name from a file must not lead anywhere else


def _folder_of(parent: Path, name: str) -> Path:
    if not _holds(parent, name):
        raise VideoError(f"{parent}: no folder {name}, which {META} lists; {_EXPECTED}")
    return parent / name


def _prompt_frames(folder: Path, frames_of: dict[int, list[str]]) -> dict[int, str]:
    """For each object the first of its frames whose mask shows it."""
    shown: dict[str, list[int]] = {}  # ids by frame, read once for all objects

    def shows(name: str, object_id: int) -> bool:
        if name not in shown:
            path = folder / f"{name}.png"
            shown[name] = object_ids(_read_mask(path, folder.name, list(frames_of))) if path.is_file() else []
        return object_id in shown[name]

    found = {}
    for object_id, frames in frames_of.items():
        first = next((name for name in frames if shows(name, object_id)), None)
        if first is None:
            raise VideoError(
                f"{folder}: no PNG shows object {object_id}, which {META} lists from frame {frames[0]} on; "
                f"expected its first mask in {frames[0]}.png"
            )
        found[object_id] = first
    return found


def _read_mask(path: Path, video: str, ids: Sequence[int]) -> IdMap:
    """An id map that holds the video's objects alone; 255, unless it is one of them, is void."""
    mask = read_id_map(path)
    known = mask if MAX_OBJECT_ID in ids else without_void(mask)
    unknown = sorted(set(object_ids(known)) - set(ids))
    if unknown:
        raise VideoError(
            f"{path}: holds object id {unknown[0]}, which {META} does not list for {video}; "
            f"its objects are {', '.join(map(str, sorted(ids)))}"
        )
    return np.ascontiguousarray(known)

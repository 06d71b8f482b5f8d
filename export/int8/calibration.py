"""Calibration: short runs of frames, with something to follow in each, that show int8 what values the graphs see.

The real tracker runs over them, so masks and memory banks are real ones too. Footage comes without masks, so two boxes
side by side in the middle of the frame are prompted, cut to what stands out in them. It matters little whether that is
a thing: values of all layers are seen either way, what is followed is compared with what fp32 follows, and two regions
that touch show the decoder what another object looks like. Without footage the drawn clip stands in; real frames are
better, since its colours and textures are its own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from maskstream import masks
from maskstream.errors import MaskstreamError
from maskstream.moving_shapes import render
from maskstream.prompts import mask_from_box
from maskstream.tracker import Prompt
from maskstream.video import list_pictures, open_source

Frame = npt.NDArray[np.uint8]  # [H, W, 3] RGB

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".mpg", ".mpeg", ".ts", ".wmv")
_DRAWN_SIZE = (480, 854)
_DRAWN_SEED = 3  # not the clip of the gate, which would then be judged by what it had taught
_BOXES = ((0.2, 0.25), (0.5, 0.25))  # left and top as shares of the frame; they touch in the middle
_BOX_SIZE = (0.3, 0.5)  # width and height, as shares


class CalibrationError(MaskstreamError):
    """No frames to calibrate on."""

    reason = "CALIBRATION_FAILED"


@dataclass(frozen=True)
class CalibrationSettings:
    """How much is looked at: `clips` videos spread over those given, `frames` of each, every `every`-th frame."""

    clips: int = 6
    frames: int = 8
    every: int = 2  # neighbours look alike; every other frame shows more motion and reaches the bank's older slots


@dataclass(frozen=True)
class CalibrationClip:
    """Consecutive frames uint8 [H, W, 3] and the prompts of the first."""

    name: str
    frames: tuple[Frame, ...]
    prompts: tuple[Prompt, ...]


def calibration_clips(
    paths: Sequence[Path], settings: CalibrationSettings | None = None
) -> tuple[CalibrationClip, ...]:
    """Clips of the videos in `paths`; without any path, of the drawn clip.

    Raises CalibrationError when there is no video in `paths`, VideoError when one cannot be read.
    """
    chosen = settings or CalibrationSettings()
    if not paths:
        return _drawn(chosen)
    videos = find_videos(paths)
    places = np.linspace(0, len(videos) - 1, min(chosen.clips, len(videos))).round().astype(int)
    clips = (_clip(videos[place], chosen) for place in places)
    long_enough = tuple(clip for clip in clips if len(clip.frames) > 1)
    if not long_enough:
        raise CalibrationError(f"{', '.join(map(str, paths))}: no video of at least {chosen.every + 1} frames")
    return long_enough


def find_videos(paths: Sequence[Path]) -> list[Path]:
    """Video files, and folders of pictures, in the given files and folders (recursively), in the order of names.

    Raises CalibrationError for a path that is not there, or when nothing is found.
    """
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise CalibrationError(f"{path}: no such file or folder; --calibration takes videos or folders of videos")
        found += _videos_below(path) if path.is_dir() else [path]
    if not found:
        raise CalibrationError(
            f"no video in {', '.join(map(str, paths))}; looked for files ending in {', '.join(VIDEO_SUFFIXES)} "
            "and for folders of pictures"
        )
    return found


def _videos_below(folder: Path) -> Iterator[Path]:
    for path in sorted((folder, *folder.rglob("*"))):
        is_video = path.is_file() and path.suffix.lower() in VIDEO_SUFFIXES
        if is_video or (path.is_dir() and len(list_pictures(path)) > 1):
            yield path


def _clip(video: Path, settings: CalibrationSettings) -> CalibrationClip:
    with open_source(video) as source:
        taken = islice(source, 0, settings.frames * settings.every, settings.every)
        frames = tuple(frame for frame, _ in taken)
    return CalibrationClip(video.stem, frames, _regions(frames[0]))


def _regions(frame: Frame) -> tuple[Prompt, ...]:
    height, width = frame.shape[:2]
    size = (max(1, round(_BOX_SIZE[0] * width)), max(1, round(_BOX_SIZE[1] * height)))
    boxes = [(round(left * width), round(top * height), *size) for left, top in _BOXES]
    return tuple(Prompt(i, mask_from_box(frame, box)) for i, box in enumerate(boxes, start=1))


def _drawn(settings: CalibrationSettings) -> tuple[CalibrationClip, ...]:
    """As many clips, each another scene, with their exact masks."""
    clips = []
    for index in range(settings.clips):
        clip = render(settings.frames * settings.every, _DRAWN_SIZE, _DRAWN_SEED + 100 * index, num_objects=2)
        first = clip.id_maps[0]
        prompts = tuple(Prompt(i, first == i) for i in masks.object_ids(first))
        clips.append(CalibrationClip(f"drawn {index}", tuple(clip.frames[:: settings.every]), prompts))
    return tuple(clips)

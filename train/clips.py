"""Clips: any folder of videos -> frames to learn from.

Each video is decoded once to its training size and kept as a memory-mapped .npy in a cache folder, so that epochs read
pages instead of decoding and a data set larger than memory still trains. A video that cannot be decoded, or is too
short or too small to learn from, is skipped by name and counted.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt
from rich.progress import track

from maskstream.errors import VideoError

Frames = npt.NDArray[np.uint8]  # [T, H, W, 3]

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".mpg", ".ts")
SMALLEST_SIDE = 64  # pixels
SHORTEST_CLIP = 8  # frames


@dataclass(frozen=True)
class Clip:
    """One decoded video; `frames` is memory-mapped."""

    name: str
    frames: Frames


def find_videos(paths: Sequence[Path]) -> list[Path]:
    """All video files in the given files and folders (recursively), in a stable order. Raises VideoError for none."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(p for p in path.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES)
        elif path.is_file():
            found.append(path)
        else:
            raise VideoError(f"{path}: no such file or folder; --data takes videos or folders of videos")
    if not found:
        raise VideoError(f"no video in {', '.join(map(str, paths))}; looked for {', '.join(VIDEO_SUFFIXES)}")
    return found


def load_clips(paths: Sequence[Path], cache: Path, short_side: int) -> tuple[list[Clip], list[str]]:
    """Decoded clips and one line for each video that was skipped. Raises VideoError when nothing is left."""
    clips, skipped = [], []
    cache.mkdir(parents=True, exist_ok=True)
    for video in track(find_videos(paths), description="decoding videos", transient=True):
        try:
            clips.append(Clip(video.stem, _cached(video, cache, short_side)))
        except VideoError as error:
            skipped.append(str(error))
    if not clips:
        raise VideoError("none of the videos can be learnt from:\n  " + "\n  ".join(skipped))
    return clips, skipped


def _cached(video: Path, cache: Path, short_side: int) -> Frames:
    stat = video.stat()
    identity = f"{video.resolve()} {stat.st_size} {stat.st_mtime_ns} {short_side}"
    path = cache / f"{video.stem}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}.npy"
    if not path.exists():
        frames = decode(video, short_side)
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            np.save(file, frames)
        partial.replace(path)
    loaded: Frames = np.load(path, mmap_mode="r")
    return loaded


def decode(video: Path, short_side: int) -> Frames:
    """All frames, their short side at most `short_side` pixels. Raises VideoError naming the file and the reason."""
    frames = []
    try:
        with av.open(str(video)) as container:
            if not container.streams.video:
                raise VideoError(f"{video}: holds no video stream")
            for frame in container.decode(video=0):
                frames.append(_shrink(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8), short_side))
    except (av.FFmpegError, OSError) as error:
        if len(frames) < SHORTEST_CLIP:
            raise VideoError(f"{video}: cannot be decoded ({error})") from error
    if len(frames) < SHORTEST_CLIP:
        raise VideoError(f"{video}: {len(frames)} frames; at least {SHORTEST_CLIP} are needed")
    frames = [frame for frame in frames if frame.shape == frames[0].shape]
    if min(frames[0].shape[:2]) < SMALLEST_SIDE:
        raise VideoError(f"{video}: {frames[0].shape[1]}x{frames[0].shape[0]}; sides of {SMALLEST_SIDE} are needed")
    return np.stack(frames)


def _shrink(frame: Frames, short_side: int) -> Frames:
    height, width = frame.shape[:2]
    scale = short_side / min(height, width)
    if scale >= 1:
        return frame
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), np.uint8)

"""Decoding: one video, or folder of pictures, into an .npy of frames at training size.

Frames are written to disk as they come, so that memory holds one of them, however long the video is.

A video with more frames than are wanted is kept as evenly spread runs of consecutive frames, not as every n-th frame:
learning needs neighbouring frames. Such a file has one more axis, [runs, frames, H, W, 3].
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from maskstream.errors import VideoError
from maskstream.pictures import read_picture
from maskstream.video import list_pictures, open_source

Frame = npt.NDArray[np.uint8]  # [H, W, 3] RGB

SMALLEST_SIDE = 64  # pixels
SHORTEST_CLIP = 8  # frames
FEWEST_FRAMES_MAX = 32  # the least that `frames_max` may be: four runs of the shortest clip
RUN_FRAMES = 100  # of the runs that a long video is kept as


@dataclass(frozen=True)
class DecodeSettings:
    """What becomes of a video: the short side of its frames in pixels, and how many frames are kept at most."""

    short_side: int = 256
    frames_max: int = 3000


def decode(source: Path, target: Path, settings: DecodeSettings, pulse: Callable[[int], None]) -> str:
    """Write the frames of `source` to `target`, whole or not at all; returns a note on what was left out, or "".

    `pulse` is told after each frame how many there were. Raises VideoError naming the file and the reason, and OSError
    when it is the disk under `target` that fails.
    """
    partial = partial_of(target)
    try:
        with partial.open("w+b") as file:
            frames = _FrameFile(file, settings.frames_max)
            note = _collect(source, frames, settings.short_side, pulse)
            frames.finish()
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return note


def partial_of(target: Path) -> Path:
    """Where `target` is written until it is whole."""
    return target.with_suffix(".partial")


def _collect(source: Path, kept: "_FrameFile", short_side: int, pulse: Callable[[int], None]) -> str:
    note, others = "", 0
    try:
        for frame in _pictures(source) if source.is_dir() else _video(source):
            others += frame is None or not kept.add(_fitting(frame, short_side, source))
            pulse(kept.seen)
    except VideoError as error:
        if kept.seen < SHORTEST_CLIP:
            raise
        note = f"{error}; the frames before that are used"
    if kept.seen < SHORTEST_CLIP:
        raise VideoError(f"{source}: {kept.seen} frames; at least {SHORTEST_CLIP} are needed")
    return note or (f"{source}: {others} frames that are unreadable or of another size are left out" if others else "")


def _fitting(frame: Frame, short_side: int, source: Path) -> Frame:
    small = shrunk(frame, short_side)
    if min(small.shape[:2]) < SMALLEST_SIDE:
        raise VideoError(f"{source}: {frame.shape[1]}x{frame.shape[0]}; sides of {SMALLEST_SIDE} are needed")
    return small


def _video(source: Path) -> Iterator[Frame]:
    with open_source(source) as opened:
        for frame, _ in opened:
            yield frame


def _pictures(folder: Path) -> Iterator[Frame | None]:
    """Frames of a folder in order; None for a picture that cannot be read."""
    for path in list_pictures(folder):
        try:
            yield read_picture(path)
        except VideoError:
            yield None


def shrunk(frame: Frame, short_side: int) -> Frame:
    """The frame with its short side at most `short_side` pixels."""
    height, width = frame.shape[:2]
    scale = short_side / min(height, width)
    if scale >= 1:
        return frame
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), np.uint8)


class _FrameFile:
    """A growing .npy. When it is full, every second run of frames goes, and from then on half as many come in."""

    def __init__(self, file: Any, frames_max: int) -> None:
        self._file = file
        self._run = min(RUN_FRAMES, frames_max // 4)
        self._most = frames_max // self._run * self._run
        self._every = 1  # of the runs, one in so many is kept
        self._shape: tuple[int, ...] = ()
        self._head = 0  # bytes before the first frame
        self._count = 0
        self.seen = 0

    def add(self, frame: Frame) -> bool:
        """Take the frame if its turn has come; False if it has another size than the first."""
        if not self._shape:
            self._shape = frame.shape
            self._head = self._write_head((0, *frame.shape))
        if frame.shape != self._shape:
            return False
        if self._count == self._most and self._wanted():
            self._thin_out()
        if self._wanted():
            self._file.write(np.ascontiguousarray(frame).data)
            self._count += 1
        self.seen += 1
        return True

    def finish(self) -> None:
        """Set the header to what there is: [T, H, W, 3], or [runs, frames, H, W, 3] of a thinned-out video."""
        runs = self._count // self._run
        shape = (self._count, *self._shape) if self._every == 1 else (runs, self._run, *self._shape)
        self._file.truncate(self._head + int(np.prod(shape)))
        self._file.seek(0)
        head = self._write_head(shape)
        assert head == self._head

    def _wanted(self) -> bool:
        return self.seen // self._run % self._every == 0

    def _thin_out(self) -> None:
        frame_bytes = int(np.prod(self._shape))
        runs = range(0, self._count // self._run, 2)
        for place, run in enumerate(runs):
            for index in range(self._run):
                self._file.seek(self._head + (run * self._run + index) * frame_bytes)
                frame = self._file.read(frame_bytes)
                self._file.seek(self._head + (place * self._run + index) * frame_bytes)
                self._file.write(frame)
        self._count = len(runs) * self._run
        self._every *= 2

    def _write_head(self, shape: tuple[int, ...]) -> int:
        np.lib.format.write_array_header_1_0(
            self._file, {"descr": "|u1", "fortran_order": False, "shape": shape}
        )  # leaves room to grow
        return int(self._file.tell())

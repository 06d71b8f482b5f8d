"""Frames from files, folders, cameras and network streams, and back into a video file, by FFmpeg through PyAV.

A source is opened and its first frame decoded at once, so that whatever is wrong with it is said before anything else
starts. Frames are uint8 [H, W, 3] RGB, turned upright when the file says how the camera was held.
"""

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import cv2
import numpy as np
import numpy.typing as npt

from maskstream.errors import VideoError
from maskstream.pictures import PICTURE_SUFFIXES, read_picture

Frame = npt.NDArray[np.uint8]  # [H, W, 3] RGB
TimedFrame = tuple[Frame, float]  # frame, presentation time in seconds

DEFAULT_RATE = 24.0  # frames a second, where the source does not say
EXPECTED = "expected a video file, a folder of pictures, a camera number or an rtsp/http address"
_OPEN_SECONDS, _READ_SECONDS = 10.0, 20.0  # how long a network stream may keep us waiting
_URL = re.compile(r"^(rtsps?|rtmps?|https?|udp|tcp|srt)://", re.IGNORECASE)
_ENCODERS = (("libx264", {"crf": "20", "preset": "veryfast"}), ("mpeg4", {"qscale": "3"}))
_TEXT_FORMATS = {"tty"}  # FFmpeg would happily draw a text file as a picture of its letters


@dataclass
class FrameSource:
    """An open source of frames. Iterate once; close when done (or use it in a `with`)."""

    name: str
    frames_per_second: float
    num_frames: int | None  # as the source claims; None when it does not know or never ends
    live: bool  # a camera or network stream: late frames are worthless, and it cannot be rewound
    size: tuple[int, int]  # height, width of the first frame
    _frames: Iterator[TimedFrame]
    _close: Callable[[], None]

    def __iter__(self) -> Iterator[TimedFrame]:
        """Frames with their presentation time. Raises VideoError when decoding fails on the way."""
        return self._frames

    def close(self) -> None:
        """Let go of file or device."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def open_source(source: str | Path) -> FrameSource:
    """Open a file, a folder of pictures (in order of their names), a camera ("0") or an address (rtsp://, http://).

    Raises VideoError, naming the source and what was expected, when it is missing, empty or not a video.
    """
    text = str(source)
    if text.isdecimal():
        return _open_camera(int(text))
    if _URL.match(text):
        return _open_container(text, text, live=True, timeout=(_OPEN_SECONDS, _READ_SECONDS))
    path = Path(text).expanduser()
    if path.is_dir():
        return _open_folder(path)
    if not path.exists():
        raise VideoError(f"{text}: no such file; {EXPECTED}")
    if path.stat().st_size == 0:
        raise VideoError(f"{text}: the file is empty; {EXPECTED}")
    return _open_container(str(path), text, live=False)


def list_pictures(folder: Path) -> list[Path]:
    """Picture files of a folder by name; numbers in names count as numbers, so that 10 follows 9."""
    found = (path for path in folder.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file())
    return sorted(found, key=lambda path: [int(part) if part.isdecimal() else part for part in _parts(path.name)])


def _parts(name: str) -> list[str]:
    return re.split(r"(\d+)", name)  # words and numbers alternate, so that like is compared to like


def _open_folder(folder: Path) -> FrameSource:
    pictures = list_pictures(folder)
    if not pictures:
        raise VideoError(f"{folder}: no picture in this folder; expected files ending in {', '.join(PICTURE_SUFFIXES)}")
    size = read_picture(pictures[0]).shape
    frames = ((read_picture(path), index / DEFAULT_RATE) for index, path in enumerate(pictures))
    return FrameSource(str(folder), DEFAULT_RATE, len(pictures), False, (size[0], size[1]), frames, lambda: None)


def _open_camera(index: int) -> FrameSource:
    devices = {"linux": (f"/dev/video{index}", "v4l2"), "darwin": (str(index), "avfoundation")}
    if sys.platform not in devices:
        raise VideoError(f"camera {index}: numbers work on Linux and macOS; give the camera's rtsp/http address")
    device, driver = devices[sys.platform]
    if sys.platform == "linux" and not Path(device).exists():
        raise VideoError(f"camera {index}: there is no {device}; {EXPECTED}")
    return _open_container(device, f"camera {index}", live=True, format=driver)


def _open_container(location: str, name: str, *, live: bool, **options: Any) -> FrameSource:
    """Any source FFmpeg reads; `options` go to `av.open`."""
    try:
        container = av.open(location, **options)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise VideoError(f"{name}: not a readable video ({_reason(error)}); {EXPECTED}") from error
    try:
        if container.format.name in _TEXT_FORMATS or not container.streams.video:
            raise VideoError(f"{name}: no video stream in it ({container.format.long_name}); {EXPECTED}")
        stream = container.streams.video[0]
        stream.thread_type = "SLICE" if live else "AUTO"  # frame threads would hold a camera's frames back
        rate = float(stream.average_rate or stream.guessed_rate or DEFAULT_RATE)
        frames = _decode(container, name, rate)
        first = next(frames, None)
        if first is None:
            raise VideoError(f"{name}: it holds no frame that can be decoded; {EXPECTED}")
    except BaseException:
        container.close()
        raise
    claimed = None if live else stream.frames or None
    size = first[0].shape
    return FrameSource(name, rate, claimed, live, (size[0], size[1]), _chain(first, frames), container.close)


def _chain(first: TimedFrame, rest: Iterator[TimedFrame]) -> Iterator[TimedFrame]:
    yield first
    yield from rest


def _decode(container: Any, name: str, rate: float) -> Iterator[TimedFrame]:
    index = 0
    try:
        for picture in container.decode(video=0):
            frame = np.rot90(picture.to_ndarray(format="rgb24"), _quarter_turns(picture))
            yield np.ascontiguousarray(frame), picture.time if picture.time is not None else index / rate
            index += 1
    except (av.FFmpegError, OSError) as error:
        raise VideoError(f"{name}: decoding failed after {index} frames ({_reason(error)})") from error


def _quarter_turns(picture: Any) -> int:
    """Counter-clockwise quarter turns that put the frame upright."""
    return round((picture.rotation or 0) / 90) % 4


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


class VideoWriter:
    """Writes frames to an MP4 that browsers play: H.264 where the FFmpeg build has it, else MPEG-4; sides made even.

    The file is opened at the first frame. Closing it, also after an error or Ctrl-C, leaves what was written playable.
    """

    def __init__(self, path: Path, frames_per_second: float = DEFAULT_RATE) -> None:
        self._path = path
        self._rate = Fraction(frames_per_second).limit_denominator(1001)
        self._container: Any = None
        self._stream: Any = None
        self._count = 0

    def write(self, frame: Frame) -> None:
        """Append a frame uint8 [H, W, 3] RGB; all frames have the size of the first. Raises ValueError if not."""
        frame = _even(frame)
        if self._container is None:
            self._open(frame.shape[1], frame.shape[0])
        if frame.shape[:2] != (self._stream.height, self._stream.width):
            was = f"{self._stream.width}x{self._stream.height}"
            raise ValueError(f"{self._path} is {was}; a frame of {frame.shape[1]}x{frame.shape[0]} does not fit")
        picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
        picture.pts, picture.time_base = self._count, 1 / self._rate
        self._container.mux(self._stream.encode(picture))
        self._count += 1

    def close(self) -> None:
        """Finish the file; without any frame there is none."""
        if self._container is not None:
            self._container.mux(self._stream.encode())
            self._container.close()
            self._container = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _open(self, width: int, height: int) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        codec, options = next(choice for choice in _ENCODERS if choice[0] in av.codecs_available)
        self._container = av.open(str(self._path), "w", options={"movflags": "+faststart"})
        self._stream = self._container.add_stream(codec, rate=self._rate, options=options)
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"


def _even(frame: Frame) -> Frame:
    """The frame with odd sides lengthened by a copy of the last row or column: 4:2:0 colour comes in pairs."""
    bottom, right = frame.shape[0] % 2, frame.shape[1] % 2
    if not bottom and not right:
        return np.ascontiguousarray(frame)
    return cv2.copyMakeBorder(frame, 0, bottom, 0, right, cv2.BORDER_REPLICATE)  # type: ignore[return-value]

"""Frames from files, folders, cameras and network streams, and back into a video file, by FFmpeg through PyAV.

A source is opened and its first frame decoded at once, so that whatever is wrong with it is said before anything else
starts. Frames are uint8 [H, W, 3] RGB, turned upright when the file says how the camera was held.
"""

import itertools
import math
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import cv2
import numpy as np

from maskstream.containers import DEFAULT_RATE, EXPECTED, Frame, OpenContainer, TimedFrame, open_container, public_name
from maskstream.errors import VideoError
from maskstream.live_source import Connect, LiveReader, LiveSettings, Say, say_nothing
from maskstream.pictures import PICTURE_SUFFIXES, read_picture
from maskstream.pipe_source import PipeReader

__all__ = ["STDIN", "Frame", "FrameSource", "TimedFrame", "VideoWriter", "list_pictures", "open_source"]

STDIN = "-"
_STDIN_NAME = "standard input"
_URL = re.compile(r"^(rtsps?|rtmps?|https?|udp|tcp|srt)://", re.IGNORECASE)
_ENCODERS = (("libx264", {"crf": "20", "preset": "veryfast"}), ("mpeg4", {"qscale": "3"}))
_RTSP_OPTIONS = {"rtsp_flags": "prefer_tcp"}  # over UDP a full line shows as smeared pictures
_FRAGMENT_SECONDS = 2.0  # what a file whose writer was killed lacks at its end, and a little more
_FILE_OPTIONS = {"movflags": "+hybrid_fragmented+delay_moov", "flush_packets": "1"}  # pieces, one file when it is whole


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
    _reader: LiveReader | None = None

    def __iter__(self) -> Iterator[TimedFrame]:
        """Frames with their presentation time. Raises VideoError when decoding fails on the way."""
        return self._frames

    @property
    def dropped(self) -> int:
        """Frames of a live source that newer ones replaced before they were asked for."""
        return self._reader.dropped if self._reader else 0

    @property
    def losses(self) -> int:
        """How often a live source was lost and tried again."""
        return self._reader.losses if self._reader else 0

    @property
    def arrived(self) -> float:
        """When the frame last taken came from the camera, in seconds of time.perf_counter(); of a recording: now."""
        return self._reader.arrived if self._reader else time.perf_counter()

    def close(self) -> None:
        """Let go of file or device."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def open_source(source: str | Path, live: LiveSettings | None = None, say: Say = say_nothing) -> FrameSource:
    """Open a file, a folder of pictures (in order of their names), a camera ("0"), an address (rtsp://, http://) or a
    pipe ("-", standard input).

    `live` is for cameras and streams, which are opened again when they are lost; `say` hears of it. Raises VideoError,
    naming the source and what was expected, when it is missing, empty or not a video.
    """
    text, settings = str(source), live or LiveSettings()
    if text == STDIN:
        return _open_pipe()
    if text.isdecimal():
        return _open_camera(int(text), settings, say)
    if _URL.match(text):
        return _open_address(text, settings, say)
    path = Path(text).expanduser()
    if path.is_dir():
        return _open_folder(path)
    if not path.exists():
        raise VideoError(f"{text}: no such file; {EXPECTED}")
    if path.stat().st_size == 0:
        raise VideoError(f"{text}: the file is empty; {EXPECTED}")
    return _recording(open_container(str(path), text, live=False))


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


def _open_pipe() -> FrameSource:
    if sys.stdin.isatty():
        raise VideoError(f"{_STDIN_NAME} is a terminal: pipe a video into it, of any kind that FFmpeg reads")
    reader = PipeReader(sys.stdin.fileno(), _STDIN_NAME)
    return FrameSource(
        _STDIN_NAME, reader.frames_per_second, reader.num_frames, False, reader.size, reader.frames(), reader.close
    )


def _open_address(address: str, settings: LiveSettings, say: Say) -> FrameSource:
    timeout = (settings.open_seconds, settings.stall_seconds)
    options = _RTSP_OPTIONS if address.lower().startswith("rtsp") else {}
    name = public_name(address)
    connect = partial(open_container, address, name, live=True, timeout=timeout, options=options)
    return _open_live(connect, settings, say)


def _open_camera(index: int, settings: LiveSettings, say: Say) -> FrameSource:
    devices = {"linux": (f"/dev/video{index}", "v4l2"), "darwin": (str(index), "avfoundation")}
    if sys.platform not in devices:
        raise VideoError(f"camera {index}: numbers work on Linux and macOS; give the camera's rtsp/http address")
    device, driver = devices[sys.platform]
    if sys.platform == "linux" and not Path(device).exists():
        raise VideoError(f"camera {index}: there is no {device}; {EXPECTED}")
    connect = partial(open_container, device, f"camera {index}", live=True, format=driver)
    return _open_live(connect, settings, say)


def _recording(opened: OpenContainer) -> FrameSource:
    frames = opened.frames()
    try:
        first = next(frames, None)
        if first is None:
            raise VideoError(f"{opened.name}: it holds no frame that can be decoded; {EXPECTED}")
    except BaseException:
        opened.close()
        raise
    size, claimed = first[0].shape, opened.stream.frames or None
    chained = itertools.chain([first], frames)
    return FrameSource(opened.name, opened.frames_per_second, claimed, False, (size[0], size[1]), chained, opened.close)


def _open_live(connect: Connect, settings: LiveSettings, say: Say) -> FrameSource:
    """What has an end is read as a file, each frame of it; else the newest frame is what counts."""
    opened = connect()
    if opened.is_recording:
        opened.stream.thread_type = "AUTO"  # nobody waits for the newest frame
        return _recording(opened)
    reader = LiveReader(opened, connect, settings, say)
    try:
        size = reader.first_size()
    except BaseException:
        reader.close()
        raise
    rate = opened.frames_per_second
    return FrameSource(opened.name, rate, None, True, size, reader.frames(), reader.close, reader)


class VideoWriter:
    """Writes frames to an MP4 that browsers play: H.264 where the FFmpeg build has it, else MPEG-4; sides made even.

    The file is opened at the first frame. Closing it, also after an error or Ctrl-C, leaves what was written playable;
    a writer that is killed leaves it playable but for its last seconds.
    """

    def __init__(self, path: Path, frames_per_second: float = DEFAULT_RATE) -> None:
        self._path = path
        self._rate = Fraction(frames_per_second).limit_denominator(1001)
        self._container: Any = None
        self._stream: Any = None
        self._tick = -1  # of the last frame; there are `frames_per_second` ticks in a second
        self._begin_seconds = 0.0

    def write(self, frame: Frame, pts_seconds: float | None = None) -> None:
        """Append a frame uint8 [H, W, 3] RGB; all frames have the size of the first. Raises ValueError if not.

        With `pts_seconds` it is shown at its own time, so that a stream with frames left out plays as fast as it was.
        """
        frame = _even(frame)
        if self._container is None:
            self._open(frame.shape[1], frame.shape[0])
            self._begin_seconds = pts_seconds or 0.0
        if frame.shape[:2] != (self._stream.height, self._stream.width):
            was = f"{self._stream.width}x{self._stream.height}"
            raise ValueError(f"{self._path} is {was}; a frame of {frame.shape[1]}x{frame.shape[0]} does not fit")
        due = 0 if pts_seconds is None else round((pts_seconds - self._begin_seconds) * self._rate)
        self._tick = max(self._tick + 1, due)
        picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
        picture.pts, picture.time_base = self._tick, 1 / self._rate
        self._container.mux(self._stream.encode(picture))

    def close(self) -> None:
        """Finish the file; without any frame there is none."""
        container, self._container = self._container, None
        if container is not None:
            try:
                container.mux(self._stream.encode())
            finally:
                container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _open(self, width: int, height: int) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        codec, options = next(choice for choice in _ENCODERS if choice[0] in av.codecs_available)
        self._container = av.open(str(self._path), "w", options=_FILE_OPTIONS)
        group = {"g": str(max(1, math.ceil(self._rate * _FRAGMENT_SECONDS)))}
        self._stream = self._container.add_stream(codec, rate=self._rate, options={**options, **group})
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"


def _even(frame: Frame) -> Frame:
    """The frame with odd sides lengthened by a copy of the last row or column: 4:2:0 colour comes in pairs."""
    bottom, right = frame.shape[0] % 2, frame.shape[1] % 2
    if not bottom and not right:
        return np.ascontiguousarray(frame)
    return cv2.copyMakeBorder(frame, 0, bottom, 0, right, cv2.BORDER_REPLICATE)  # type: ignore[return-value]

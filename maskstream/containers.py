"""What FFmpeg reads, opened by PyAV: the first video stream of a file, an address, a camera or a pipe.

The name of a source in messages and file names never holds what logs one in: `public_name` takes user, password and
query out of an address, and no error carries FFmpeg's own words for a place.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from maskstream.errors import VideoError

Frame = npt.NDArray[np.uint8]  # [H, W, 3] RGB
TimedFrame = tuple[Frame, float]  # frame, presentation time in seconds

DEFAULT_RATE = 24.0  # frames a second, where the source does not say
EXPECTED = "expected a video file, a folder of pictures, a camera number, an rtsp/http address or - for a pipe"
_TEXT_FORMATS = {"tty"}  # FFmpeg would happily draw a text file as a picture of its letters
_UNTIMED_FORMATS = {"mpjpeg", "mjpeg", "jpeg_pipe"}  # pictures one after the other: FFmpeg makes their times up
_ADDRESS = re.compile(r"^([a-z]+)://(?:[^/?#]*@)?([^?#]*)([?#].*)?$", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class OpenContainer:
    """An open container and its video stream."""

    name: str  # for messages
    container: Any
    stream: Any
    frames_per_second: float

    @property
    def is_recording(self) -> bool:
        """Whether it has an end: a camera's stream has no duration."""
        return self.container.duration is not None

    @property
    def is_timed(self) -> bool:
        """Whether the times of its pictures are its own."""
        return self.container.format.name not in _UNTIMED_FORMATS

    def frames(self) -> Iterator[TimedFrame]:
        """Frames and their times in seconds. Raises VideoError when decoding fails on the way."""
        count = 0
        try:
            for picture in self.container.decode(video=0):
                yield upright(picture), picture.time if picture.time is not None else count / self.frames_per_second
                count += 1
        except (av.FFmpegError, OSError) as error:
            raise VideoError(f"{self.name}: decoding failed after {count} frames ({reason(error)})") from None

    def close(self) -> None:
        """Let go of file or device."""
        self.container.close()


def open_container(location: Any, name: str, *, live: bool, **options: Any) -> OpenContainer:
    """Any source FFmpeg reads: a path, an address or a binary file; `options` go to `av.open`.

    Raises VideoError, by `name`, for what is no video.
    """
    try:
        container = av.open(location, **options)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise VideoError(f"{name}: not a readable video ({reason(error, location, name)}); {EXPECTED}") from None
    if container.format.name in _TEXT_FORMATS or not container.streams.video:
        kind = container.format.long_name
        container.close()
        raise VideoError(f"{name}: no video stream in it ({kind}); {EXPECTED}")
    stream = container.streams.video[0]
    stream.thread_type = "SLICE" if live else "AUTO"  # frame threads would hold a camera's frames back
    rate = float(stream.average_rate or stream.guessed_rate or DEFAULT_RATE)
    return OpenContainer(name, container, stream, rate)


def upright(picture: Any) -> Frame:
    """A decoded picture as uint8 [H, W, 3] RGB, turned as the file says the camera was held."""
    quarter_turns = round((picture.rotation or 0) / 90) % 4  # counter-clockwise
    return np.ascontiguousarray(np.rot90(picture.to_ndarray(format="rgb24"), quarter_turns))


def public_name(source: str) -> str:
    """The source without what logs one in: rtsp://user:password@camera/1?token=x is rtsp://camera/1."""
    address = _ADDRESS.match(source)
    return f"{address[1]}://{address[2]}" if address else source


def reason(error: BaseException, location: Any = None, name: str = "") -> str:
    """What went wrong, without the place, which may hold a password."""
    if isinstance(error, av.error.ExitError):  # how FFmpeg calls that its time was up
        return "nothing came in time"
    words = str(getattr(error, "strerror", None) or error)
    return words.replace(location, name) if isinstance(location, str) and location != name else words

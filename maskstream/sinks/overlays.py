"""What people look at: the overlay video and a contact sheet of it."""

from pathlib import Path

from maskstream.followed import FollowedFrame
from maskstream.overlay import EvenSample, contact_sheet, titled
from maskstream.pictures import write_jpeg
from maskstream.sinks.sink import Draw
from maskstream.video import VideoWriter

_SHEET_PICTURES = 9


class OverlayVideo:
    """The frames with their objects in colour, each at its own time."""

    def __init__(self, path: Path, frames_per_second: float) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._video = path, VideoWriter(path, frames_per_second)

    @property
    def outputs(self) -> dict[str, str]:
        """The file."""
        return {"overlay": str(self._path)}

    def add(self, followed: FollowedFrame, draw: Draw) -> None:
        """Append the frame."""
        self._video.write(draw(), followed.pts_seconds)

    def close(self) -> None:
        """Finish the file."""
        self._video.close()


class Sheet:
    """A few frames of the whole video in one picture, which is written at the end."""

    def __init__(self, path: Path) -> None:
        self._path, self._sample = path, EvenSample(_SHEET_PICTURES)

    @property
    def outputs(self) -> dict[str, str]:
        """The file."""
        return {"sheet": str(self._path)}

    def add(self, followed: FollowedFrame, draw: Draw) -> None:
        """Keep the frame if it is wanted."""
        text = f"frame {followed.index}  {followed.pts_seconds:.2f} s"
        self._sample.offer(titled(draw(), text) if self._sample.wants_next() else None)

    def close(self) -> None:
        """Write the picture, if there was a frame."""
        pictures = self._sample.pictures()
        if pictures:
            write_jpeg(self._path, contact_sheet(pictures))

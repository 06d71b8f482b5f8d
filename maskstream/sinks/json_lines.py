"""A line of JSON a frame: into a file, or to standard output for the next program of a pipe."""

import json
import os
import sys
from pathlib import Path
from typing import Any, TextIO

from maskstream.followed import FollowedFrame
from maskstream.report import STDOUT
from maskstream.sinks.sink import Draw


class JsonLines:
    """Each line is written out at once."""

    def __init__(self, name: str, path: Path) -> None:
        """`name` is that of the output in the report; `path` may be STDOUT."""
        self._name, self._path = name, path
        if path != STDOUT:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._file: TextIO = sys.stdout if path == STDOUT else path.open("w", encoding="utf-8")

    @property
    def outputs(self) -> dict[str, str]:
        """The file."""
        return {self._name: str(self._path)}

    def add(self, followed: FollowedFrame, draw: Draw) -> None:
        """Write the frame's line. Raises BrokenPipeError when nobody reads standard output any more."""
        try:
            self._file.write(json.dumps(line_of(followed)) + "\n")
            self._file.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._file.fileno())  # or Python complains when it ends
            raise

    def close(self) -> None:
        """Finish the file."""
        if self._path != STDOUT:
            self._file.close()


def line_of(followed: FollowedFrame) -> dict[str, Any]:
    """What a line says: frame, pts_seconds, objects; of a live source also age_seconds and dropped."""
    line: dict[str, Any] = {"frame": followed.index, "pts_seconds": round(followed.pts_seconds, 6)}
    if followed.age_seconds is not None:
        line |= {"age_seconds": round(followed.age_seconds, 4), "dropped": followed.dropped}
    objects = [
        {
            "id": seen.object_id,
            "score": round(seen.score, 4),
            "visible": round(seen.visible, 4),
            "area": seen.area,
            "box": list(seen.box) if seen.box else None,
            "lost": seen.lost,
        }
        for seen in followed.objects
    ]
    return {**line, "objects": objects}

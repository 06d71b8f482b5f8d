"""The masks a YouTube-VOS server takes, as Annotations/SEQ/FRAME.png, and the zip with those paths.

The zip holds what this run has written, not what else lies in the folder, and appears when it is whole: half of one
would be refused by the server after hours of waiting.
"""

import zipfile
from pathlib import Path

from maskstream.masks import IdMap
from maskstream.pictures import write_id_map

ZIP_NAME = "submission.zip"


class Submission:
    """Writes masks under `folder` one by one and, at the end, the zip beside them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written: list[Path] = []  # relative to the folder, hence as in the zip

    @property
    def num_masks(self) -> int:
        """Masks written so far."""
        return len(self._written)

    def add(self, video: str, frame: str, id_map: IdMap) -> None:
        """Write the mask of one frame as a palette PNG."""
        path = Path("Annotations", video, f"{frame}.png")
        write_id_map(self._folder / path, id_map)
        self._written.append(path)

    def finish(self) -> Path:
        """Write the zip; where it is."""
        target = self._folder / ZIP_NAME
        unfinished = target.with_suffix(".part")
        with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_STORED) as archive:  # a PNG is compressed already
            for path in self._written:
                archive.write(self._folder / path, path.as_posix())
        unfinished.replace(target)
        return target

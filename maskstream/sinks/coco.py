"""Masks in the JSON of COCO, with `videos` and track ids as data sets of video instances have them.

A run-length mask of COCO counts pixels down the columns, zeros first, and may be packed into a string: each count but
the first three as its difference to the one before the last, in groups of five bits of which the lowest come first;
bit 5 says that another group follows, bit 4 of the last group is the sign, and 48 is added to make it a letter. It is
what pycocotools reads, written out here so that nobody needs a compiler to install this.

Lines are kept in two files while frames come, so that a long video takes no memory. The JSON is put together at the
end, also at Ctrl-C, and appears when it is whole: half a JSON file is none. After a crash the two .part files hold a
line for each frame and each mask.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt

from maskstream.followed import FollowedFrame
from maskstream.masks import bounding_box, encode_runs, object_ids
from maskstream.sinks.mask_files import mask_name
from maskstream.sinks.sink import Draw

_CATEGORY = 1
_GROUP_BITS, _GROUP, _MORE, _SIGN, _FIRST_LETTER = 5, 0x1F, 0x20, 0x10, 48


def run_lengths(mask: npt.NDArray[np.bool_]) -> list[int]:
    """Runs of bool [H, W] down its columns, the zeros first (0 when it starts with the object)."""
    values, lengths = encode_runs(np.ascontiguousarray(mask.T).view(np.uint8))
    starts_inside = len(values) > 0 and values[0] != 0
    return [0, *lengths.tolist()] if starts_inside else lengths.tolist()


def packed(lengths: Sequence[int]) -> str:
    """Runs as the string of COCO."""
    letters: list[int] = []
    for place, length in enumerate(lengths):
        rest = length - lengths[place - 2] if place > 2 else length
        more = True
        while more:
            group, rest = rest & _GROUP, rest >> _GROUP_BITS
            more = rest != (-1 if group & _SIGN else 0)
            letters.append(_FIRST_LETTER + (group | _MORE if more else group))
    return bytes(letters).decode("ascii")


def segmentation(mask: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """A mask bool [H, W] as COCO has it: {"size": [H, W], "counts": "..."}."""
    return {"size": list(mask.shape), "counts": packed(run_lengths(mask))}


class CocoFile:
    """One video in one JSON file."""

    def __init__(self, path: Path, video: str, frames_per_second: float) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._video, self._rate = path, video, frames_per_second
        self._images = path.with_name(path.name + ".images.part").open("w+", encoding="utf-8")
        self._annotations = path.with_name(path.name + ".annotations.part").open("w+", encoding="utf-8")
        self._size = (0, 0)
        self._frames = self._masks = 0
        self._tracks: set[int] = set()

    @property
    def outputs(self) -> dict[str, str]:
        """The file."""
        return {"coco": str(self._path)}

    def add(self, followed: FollowedFrame, draw: Draw) -> None:
        """Keep the frame and the mask of each object it shows."""
        self._frames += 1
        self._size = height, width = (followed.id_map.shape[0], followed.id_map.shape[1])
        image = {
            "id": self._frames,
            "video_id": 1,
            "frame_id": followed.index,
            "file_name": f"{self._video}/{mask_name(followed.index)}.jpg",
            "width": width,
            "height": height,
            "pts_seconds": round(followed.pts_seconds, 6),
        }
        _add_line(self._images, image)
        scores = {seen.object_id: seen.score for seen in followed.objects}
        for object_id in object_ids(followed.id_map):
            self._add_mask(object_id, followed.id_map == object_id, scores.get(object_id, 0.0))

    def _add_mask(self, object_id: int, mask: npt.NDArray[np.bool_], score: float) -> None:
        self._masks += 1
        self._tracks.add(object_id)
        annotation = {
            "id": self._masks,
            "image_id": self._frames,
            "video_id": 1,
            "track_id": object_id,
            "category_id": _CATEGORY,
            "iscrowd": 0,
            "segmentation": segmentation(mask),
            "area": int(np.count_nonzero(mask)),
            "bbox": list(bounding_box(mask) or (0, 0, 0, 0)),
            "score": round(score, 4),
        }
        _add_line(self._annotations, annotation)

    def close(self) -> None:
        """Put the file together. The two .part files stay when that fails."""
        parts = (self._images, self._annotations)
        if any(part.closed for part in parts):
            return
        unfinished = self._path.with_name(self._path.name + ".part")
        try:
            with self._images, self._annotations, unfinished.open("w", encoding="utf-8") as whole:
                self._write(whole)
            unfinished.replace(self._path)
        except OSError:
            unfinished.unlink(missing_ok=True)
            raise
        for part in parts:
            Path(part.name).unlink()

    def _write(self, whole: TextIO) -> None:
        height, width = self._size
        video = {"id": 1, "name": self._video, "width": width, "height": height}
        videos = [{**video, "length": self._frames, "frames_per_second": self._rate}]
        categories = [{"id": _CATEGORY, "name": "object", "supercategory": "object"}]
        tracks = [{"id": i, "video_id": 1, "category_id": _CATEGORY} for i in sorted(self._tracks)]
        whole.write(f'{{"videos": {json.dumps(videos)},\n"categories": {json.dumps(categories)},\n')
        whole.write(f'"tracks": {json.dumps(tracks)},\n"images": [\n')
        _copy_lines(self._images, whole)
        whole.write('],\n"annotations": [\n')
        _copy_lines(self._annotations, whole)
        whole.write("]}\n")


def _add_line(file: TextIO, entry: dict[str, Any]) -> None:
    file.write(json.dumps(entry) + "\n")
    file.flush()


def _copy_lines(lines: TextIO, whole: TextIO) -> None:
    """Lines as the entries of a JSON list; a last one that a full disk cut short is left out."""
    lines.seek(0)
    for place, line in enumerate(_complete(lines)):
        whole.write((",\n" if place else "") + line)
    whole.write("\n")


def _complete(lines: Iterable[str]) -> Iterable[str]:
    return (line.removesuffix("\n") for line in lines if line.endswith("\n"))

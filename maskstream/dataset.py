"""Sequences with masks in the DAVIS layout, frames as a folder of JPEGs or as one video file.

    ROOT/JPEGImages/480p/SEQ/00000.jpg ...   or   ROOT/JPEGImages/480p/SEQ.mp4
    ROOT/Annotations/480p/SEQ/00000.png ...
    ROOT/ImageSets/2017/val.txt              which sequences to take when none are named; without it, all

Another resolution folder is taken when there is no 480p. In masks, 255 beside other ids means "not annotated" and
counts as background, as in the DAVIS toolkit; a first mask of 0 and 255 alone is the older two-valued form, and 255 its
object.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from maskstream.errors import VideoError
from maskstream.masks import IdMap, object_ids
from maskstream.pictures import read_id_map
from maskstream.video import Frame, list_pictures, open_source

RESOLUTION = "480p"
VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".webm")
_IMAGE_SETS = ("2017/val.txt", "2016/val.txt")
_VOID = 255
_EXPECTED = "expected the DAVIS layout: JPEGImages/480p/SEQ/*.jpg (or SEQ.mp4) and Annotations/480p/SEQ/*.png"


@dataclass(frozen=True)
class AnnotatedSequence:
    """One sequence: `frames` is a folder or video file, `masks` holds one PNG for each frame, in order."""

    name: str
    frames: Path
    masks: tuple[Path, ...]

    def pairs(self) -> Iterator[tuple[Frame, IdMap]]:
        """Frame uint8 [H, W, 3] and its id map uint8 [H, W]. Raises VideoError when their numbers or sizes differ."""
        two_valued = object_ids(read_id_map(self.masks[0])) == [_VOID]
        with open_source(self.frames) as source:
            frames = iter(source)
            for index, path in enumerate(self.masks):
                timed = next(frames, None)
                if timed is None:
                    raise self._wrong_count(index)
                truth = read_id_map(path)
                self._check_size(timed[0], truth, path)
                yield timed[0], truth if two_valued else _without_void(truth)
            surplus = sum(1 for _ in frames)
        if surplus:
            raise self._wrong_count(len(self.masks) + surplus)

    def _wrong_count(self, frames: int) -> VideoError:
        return VideoError(
            f"{self.frames} has {frames} frames, but {self.masks[0].parent} has {len(self.masks)} masks; "
            "a sequence needs one mask for each frame"
        )

    def _check_size(self, frame: Frame, truth: IdMap, path: Path) -> None:
        if frame.shape[:2] != truth.shape:
            raise VideoError(
                f"{path} is {truth.shape[1]}x{truth.shape[0]}, its frame in {self.frames} is "
                f"{frame.shape[1]}x{frame.shape[0]}; masks and frames of a sequence have one size"
            )


def find_sequences(root: Path, names: Sequence[str] = ()) -> list[AnnotatedSequence]:
    """The named sequences of a dataset; without names those of its validation list, else all that have masks.

    Raises VideoError when the folder is no such dataset or a sequence is not in it.
    """
    annotations = _resolution_folder(root / "Annotations")
    frames = root / "JPEGImages" / annotations.name
    if not frames.is_dir():
        raise VideoError(f"{frames}: no such folder; {_EXPECTED}")
    annotated = sorted(path.name for path in annotations.iterdir() if path.is_dir())
    wanted = list(names) or _listed(root) or annotated
    if not wanted:
        raise VideoError(f"{annotations}: no sequence in it; {_EXPECTED}")
    unknown = [name for name in wanted if name not in annotated]
    if unknown:
        raise VideoError(
            f"{annotations}: no sequence {', '.join(unknown)}; there are: {', '.join(annotated) or 'none'}"
        )
    return [_sequence(name, frames, annotations / name) for name in wanted]


def _resolution_folder(annotations: Path) -> Path:
    if not annotations.is_dir():
        raise VideoError(f"{annotations}: no such folder; {_EXPECTED}")
    folders = sorted(path for path in annotations.iterdir() if path.is_dir())
    usual = annotations / RESOLUTION
    if usual in folders:
        return usual
    if len(folders) != 1:
        found = ", ".join(folder.name for folder in folders) or "none"
        raise VideoError(
            f"{annotations}: one resolution folder is expected, {RESOLUTION} or a single other; found {found}"
        )
    return folders[0]


def _listed(root: Path) -> list[str]:
    """Sequences of the validation list, in its order; empty when there is none."""
    lists = (root / "ImageSets" / name for name in _IMAGE_SETS)
    found = next((path for path in lists if path.is_file()), None)
    return found.read_text(encoding="utf-8").split() if found else []


def _sequence(name: str, frames: Path, annotations: Path) -> AnnotatedSequence:
    masks = tuple(path for path in list_pictures(annotations) if path.suffix.lower() == ".png")
    if not masks:
        raise VideoError(f"{annotations}: no mask PNG in it; {_EXPECTED}")
    choices = [frames / name, *(frames / f"{name}{suffix}" for suffix in VIDEO_SUFFIXES)]
    found = next((path for path in choices if path.exists()), None)
    if found is None:
        raise VideoError(f"{frames}: neither a folder {name} nor {name}.mp4 in it; {_EXPECTED}")
    return AnnotatedSequence(name, found, masks)


def _without_void(truth: IdMap) -> IdMap:
    return np.where(truth == _VOID, 0, truth).astype(np.uint8)

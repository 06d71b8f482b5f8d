"""Sequences with masks in the DAVIS layout, frames as a folder of JPEGs or as one video file.

    ROOT/JPEGImages/480p/SEQ/00000.jpg ...   or   ROOT/JPEGImages/480p/SEQ.mp4
    ROOT/Annotations/480p/SEQ/00000.png ...
    ROOT/ImageSets/2017/val.txt              which sequences to take when none are named; without it, all

Another resolution folder is taken when there is no 480p. In masks, 255 beside other ids means "not annotated" and
counts as background, as in the toolkit of DAVIS 2017; a first mask of 0 and 255 alone is the older two-valued form, and
255 its object. DAVIS 2016 knows one object a sequence: whatever is not 0, as fperazzi/davis-2017 loads it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from maskstream.errors import VideoError
from maskstream.masks import IdMap, object_ids
from maskstream.pictures import read_id_map
from maskstream.steps import Step
from maskstream.tracker import Prompt
from maskstream.video import Frame, list_pictures, open_source

RESOLUTION = "480p"
VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".webm")
_LISTS_2017 = ("2017/val.txt", "2016/val.txt", "480p/val.txt")
_LISTS_2016 = ("480p/val.txt", "2016/val.txt")
_VOID = 255
_EXPECTED = "expected the DAVIS layout: JPEGImages/480p/SEQ/*.jpg (or SEQ.mp4) and Annotations/480p/SEQ/*.png"


@dataclass(frozen=True)
class AnnotatedSequence:
    """One sequence: `frames` is a folder or video file, `masks` holds one PNG for each frame, in order."""

    name: str
    frames: Path
    masks: tuple[Path, ...]
    single_object: bool = False  # all that is not 0 is object 1
    last_is_scored: bool = False

    @property
    def num_frames(self) -> int:
        """Frames to be followed."""
        return len(self.masks)

    @property
    def num_expected(self) -> int:
        """Frames whose masks are wanted: all."""
        return len(self.masks)

    def steps(self) -> Iterator[Step]:
        """Every frame with its truth; an object is handed out on the first frame that shows it. Raises as `pairs`."""
        known: set[int] = set()
        for path, (frame, truth) in zip(self.masks, self.pairs(), strict=True):
            new_ids = [i for i in object_ids(truth) if i not in known]
            known.update(new_ids)
            yield Step(path.stem, frame, tuple(Prompt(i, truth == i) for i in new_ids), truth)

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
                yield timed[0], self._objects(truth, two_valued)
            surplus = sum(1 for _ in frames)
        if surplus:
            raise self._wrong_count(len(self.masks) + surplus)

    def _objects(self, truth: IdMap, two_valued: bool) -> IdMap:
        if self.single_object:
            return np.asarray(truth != 0, np.uint8)
        return truth if two_valued else without_void(truth)

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
    return _find(root, names, _LISTS_2017)


def find_single_object_sequences(root: Path, names: Sequence[str] = ()) -> list[AnnotatedSequence]:
    """As `find_sequences`, by the list of DAVIS 2016, with all objects of a mask merged into object 1."""
    return [replace(sequence, single_object=True) for sequence in _find(root, names, _LISTS_2016)]


def without_void(truth: IdMap) -> IdMap:
    """The id map with 255, which says that nobody knows, as background."""
    return np.where(truth == _VOID, 0, truth).astype(np.uint8)


def _find(root: Path, names: Sequence[str], lists: Sequence[str]) -> list[AnnotatedSequence]:
    annotations = _resolution_folder(root / "Annotations")
    frames = root / "JPEGImages" / annotations.name
    if not frames.is_dir():
        raise VideoError(f"{frames}: no such folder; {_EXPECTED}")
    annotated = sorted(path.name for path in annotations.iterdir() if path.is_dir())
    wanted = list(names) or _listed(root, lists) or annotated
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


def _listed(root: Path, lists: Sequence[str]) -> list[str]:
    """Sequences of the first of these lists that exists, in its order; empty when there is none."""
    found = next((path for name in lists if (path := root / "ImageSets" / name).is_file()), None)
    if found is None:
        return []
    lines = found.read_text(encoding="utf-8").splitlines()
    return list(dict.fromkeys(name for line in lines for name in _names(line, found)))


def _names(line: str, source: Path) -> list[str]:
    """Sequences of one line: names, or the files of a frame, as /JPEGImages/480p/SEQ/00000.jpg /Annotations/..."""
    words = line.split()
    if "/" not in line:
        return words
    folder = PurePosixPath(words[0]).parent.name
    if not folder:
        raise VideoError(
            f"{source}: cannot read the line {line.strip()!r}; expected a sequence name, or files as in "
            "/JPEGImages/480p/SEQ/00000.jpg /Annotations/480p/SEQ/00000.png"
        )
    return [folder]


def _sequence(name: str, frames: Path, annotations: Path) -> AnnotatedSequence:
    masks = tuple(path for path in list_pictures(annotations) if path.suffix.lower() == ".png")
    if not masks:
        raise VideoError(f"{annotations}: no mask PNG in it; {_EXPECTED}")
    choices = [frames / name, *(frames / f"{name}{suffix}" for suffix in VIDEO_SUFFIXES)]
    found = next((path for path in choices if path.exists()), None)
    if found is None:
        raise VideoError(f"{frames}: neither a folder {name} nor {name}.mp4 in it; {_EXPECTED}")
    return AnnotatedSequence(name, found, masks)

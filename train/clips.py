"""Clips: any folder of videos, or of folders of pictures -> frames to learn from.

Each video is decoded once to its training size and kept as a memory-mapped .npy in a cache folder, so that epochs read
pages instead of decoding and a data set larger than memory still trains. A video that cannot be decoded, or is too
short or too small to learn from, is skipped by name and counted, whatever it does to the decoder.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import astuple, dataclass
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import numpy.typing as npt

from maskstream.errors import VideoError
from maskstream.pictures import PICTURE_SUFFIXES
from maskstream.progress import progress
from maskstream.video import list_pictures
from train.decoder import Decoder, Limits
from train.decoding import SHORTEST_CLIP, DecodeSettings
from train.saving import SaveFailed

Frames = npt.NDArray[np.uint8]  # [T, H, W, 3]

VIDEO_SUFFIXES = tuple(
    ".mp4 .mov .mkv .avi .webm .m4v .mpg .mpeg .ts .mts .m2ts .wmv .flv .3gp .ogv".split()  # noqa: SIM905
)
MOST_DECODERS = 8  # at a time; a disk feeds no more
CACHE_VERSION = 2  # of what a cached file holds
_PNG_SIGNATURE, _PNG_COLOUR_TYPE, _PALETTE = b"\x89PNG\r\n\x1a\n", 25, 3


@dataclass(frozen=True)
class Clip:
    """Consecutive frames to learn from; `frames` is memory-mapped."""

    name: str
    frames: Frames


@dataclass(frozen=True)
class Footage:
    """What was decoded: name and .npy of each video; a line for each video that was skipped, or not used whole."""

    files: tuple[tuple[str, Path], ...]
    skipped: tuple[str, ...]
    notes: tuple[str, ...]


def find_sources(paths: Sequence[Path], leave_out: Path | None = None) -> list[Path]:
    """All videos in the given files and folders (recursively), in a stable order.

    A folder without videos that holds at least `SHORTEST_CLIP` pictures is one clip. Files given by name are taken
    whatever they are called; what lies under `leave_out` or begins with a dot is not. Raises VideoError for none.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            for folder in _folders(path, leave_out):
                found += _sources_in(folder)
        elif path.is_file():
            found.append(path)
        else:
            raise VideoError(f"{path}: no such file or folder; --data takes videos or folders of videos")
    if not found:
        raise VideoError(
            f"no video in {', '.join(map(str, paths))}; looked for files ending in {', '.join(VIDEO_SUFFIXES)} "
            f"and for folders of at least {SHORTEST_CLIP} pictures"
        )
    return list(dict.fromkeys(found))


def _folders(root: Path, leave_out: Path | None) -> Iterator[Path]:
    """The folder and all below it, links followed, none twice."""
    seen = {leave_out.resolve()} if leave_out else set()
    for name, below, _ in os.walk(root, followlinks=True):
        below[:] = sorted(one for one in below if not one.startswith("."))
        folder = Path(name)
        if folder.resolve() in seen:
            below.clear()
            continue
        seen.add(folder.resolve())
        yield folder


def _sources_in(folder: Path) -> list[Path]:
    files = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and not path.is_dir())
    videos = [path for path in files if path.suffix.lower() in VIDEO_SUFFIXES]
    pictures = sum(path.suffix.lower() in PICTURE_SUFFIXES for path in files)
    return videos or ([folder] if pictures >= SHORTEST_CLIP else [])


def decode_all(paths: Sequence[Path], cache: Path, settings: DecodeSettings) -> Footage:
    """Decode what is not in the cache yet, several videos at a time. The folder above the cache is not searched.

    Raises VideoError, listing why, when nothing is left to learn from; SaveFailed when the cache cannot be written.
    """
    sources = find_sources(paths, cache.parent)
    cache.mkdir(parents=True, exist_ok=True)
    answers = _decoded(sources, cache, settings)
    files = [(source.stem, made) for source, made, _ in answers if made]
    skipped = [said for _, made, said in answers if not made]
    if not files:
        raise VideoError("none of the videos can be learnt from:\n  " + "\n  ".join(skipped))
    return Footage(tuple(files), tuple(skipped), tuple(said for _, made, said in answers if made and said))


Answer = tuple[Path, Path | None, str]  # source; its .npy, if it can be used; what there is to say


def _decoded(sources: Sequence[Path], cache: Path, settings: DecodeSettings) -> list[Answer]:
    workers = min(len(sources), MOST_DECODERS, len(os.sched_getaffinity(0)))
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // (workers + 1)
    free: SimpleQueue[Decoder] = SimpleQueue()

    def one(source: Path) -> Answer:
        decoder = free.get()
        try:
            return _cached(source, cache, settings, decoder)
        finally:
            free.put(decoder)

    with ExitStack() as closing:
        decoders = [closing.enter_context(Decoder(Limits(memory_bytes=memory_bytes))) for _ in range(workers)]
        for decoder in decoders:
            free.put(decoder)
        pool = closing.enter_context(ThreadPoolExecutor(workers))
        closing.callback(pool.shutdown, wait=False, cancel_futures=True)
        for decoder in decoders:
            closing.callback(decoder.stop)  # first of all, so that Ctrl-C need not wait for the longest video
        advance = closing.enter_context(progress("decoding", len(sources), "videos"))
        return [_counted(answer, advance) for answer in pool.map(one, sources)]


def _counted(answer: Answer, advance: Callable[[], None]) -> Answer:
    advance()
    return answer


def _cached(source: Path, cache: Path, settings: DecodeSettings, decoder: Decoder) -> Answer:
    try:
        target = cache / f"{source.stem}-{_identity(source, settings)}.npy"
        note = "" if _is_whole(target) else decoder.decode(source, target, settings)
    except VideoError as error:
        return source, None, str(error)
    except OSError as error:
        raise SaveFailed(
            f"cannot write {cache} ({error.strerror}); free space there and begin again, what was decoded is kept"
        ) from error
    return source, target, note


def _identity(source: Path, settings: DecodeSettings) -> str:
    """Changes with the file and with what is made of it. Raises VideoError for what cannot be a clip at all."""
    try:
        parts = list_pictures(source) if source.is_dir() else [source]
        if source.is_dir() and _has_palette(parts[0]):
            raise VideoError(f"{source}: pictures with a palette are masks; expected photographs")
        stamps = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in parts]
    except OSError as error:
        raise VideoError(f"{source}: cannot be read ({error.strerror})") from error
    identity = f"{CACHE_VERSION} {source.resolve()} {stamps} {astuple(settings)}"
    return hashlib.sha256(identity.encode(errors="surrogateescape")).hexdigest()[:12]


def _has_palette(picture: Path) -> bool:
    """Annotations of DAVIS and of its relatives are palette PNGs: labels, which nothing here may learn from."""
    with picture.open("rb") as file:
        head = file.read(_PNG_COLOUR_TYPE + 1)
    return head.startswith(_PNG_SIGNATURE) and head[_PNG_COLOUR_TYPE:] == bytes([_PALETTE])


def _is_whole(decoded: Path) -> bool:
    """Whether the file is there and can be read; a power cut may leave one that cannot."""
    try:
        np.load(decoded, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return False
    return True


def open_clips(files: Sequence[tuple[str, Path]]) -> list[Clip]:
    """The clips of decoded videos; each run of frames of a long video is a clip of its own."""
    clips = []
    for name, path in files:
        frames = np.load(path, mmap_mode="r")
        runs = [(name, frames)] if frames.ndim == 4 else [(f"{name}#{i}", run) for i, run in enumerate(frames)]
        clips += [Clip(one, run) for one, run in runs]
    return clips

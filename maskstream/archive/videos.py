"""Which videos an archive holds, and what they are called.

A video is a file with a video's suffix, or a folder of pictures below which there is no video: thumbnails beside videos
are no video, and no output folder can come to lie in another. Its name is its path in the archive without the suffix;
where two files would share one name, both keep their suffix. Links to folders are not followed, for they may go round.
"""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from maskstream.archive.jobs import ArchiveError
from maskstream.pictures import PICTURE_SUFFIXES
from maskstream.video import list_pictures

VIDEO_SUFFIXES = (
    *(".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mjpeg", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts"),
    *(".mxf", ".ogv", ".ts", ".webm", ".wmv"),
)
_OURS = {"manifest.jsonl", "manifest.jsonl.begun"}  # beside the videos' outputs


@dataclass(frozen=True)
class ArchivedVideo:
    """One video: `name` is how prompts, outputs and the manifest call it."""

    name: str
    source: Path  # a file, or a folder of pictures
    identity: dict[str, Any]  # what tells a changed source from the one that was followed


def find_videos(folder: Path, leave_out: Sequence[Path] = ()) -> list[ArchivedVideo]:
    """The videos under `folder` in the order of their names, hidden ones and those under `leave_out` excepted.

    Raises ArchiveError when there is no such folder, or no video in it.
    """
    if not folder.is_dir():
        raise ArchiveError(f"{folder}: no such folder; expected a folder of videos")
    sources = _sources(folder.resolve(), {path.resolve() for path in leave_out})
    if not sources:
        raise ArchiveError(
            f"{folder}: no video in it; expected files ending in {', '.join(VIDEO_SUFFIXES)} or folders of pictures"
        )
    names = _names(sources, folder.resolve())
    return sorted((ArchivedVideo(names[path], path, identity(path)) for path in sources), key=lambda video: video.name)


def identity(source: Path) -> dict[str, Any]:
    """Number, size and newest time of the files that a source consists of."""
    parts = list_pictures(source) if source.is_dir() else [source]
    stats = [part.stat() for part in parts if part.exists()]  # a link may lead nowhere; opening it says so
    return {
        "files": len(stats),
        "bytes": sum(stat.st_size for stat in stats),
        "mtime_ns": max((stat.st_mtime_ns for stat in stats), default=0),
    }


def _sources(root: Path, leave_out: set[Path]) -> list[Path]:
    found: list[Path] = []
    with_videos: set[Path] = set()
    for place, folders, files in os.walk(root, topdown=True):
        here = Path(place)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and here / name not in leave_out)
        videos = [here / name for name in files if _is(name, VIDEO_SUFFIXES)]
        found += videos
        if videos:
            with_videos |= {here, *here.parents}
        elif any(_is(name, PICTURE_SUFFIXES) for name in files):
            found.append(here)
    pictures = [path for path in found if path.is_dir()]
    above = {parent for path in pictures for parent in path.parents} | with_videos
    return [path for path in found if path not in above]


def _is(name: str, suffixes: Sequence[str]) -> bool:
    return not name.startswith(".") and PurePosixPath(name).suffix.lower() in suffixes


def _names(sources: Sequence[Path], root: Path) -> dict[Path, str]:
    """A name for each source, no two of them alike, and none the beginning of another's path."""
    with_suffix: set[Path] = set()
    while True:
        names = {path: _name(path, root, path in with_suffix) for path in sources}
        keys = {path: name.casefold() for path, name in names.items()}  # some file systems know no upper case
        sharing = Counter(keys.values())
        above = {str(parent) for key in sharing for parent in PurePosixPath(key).parents} | _OURS
        clashing = {path for path, key in keys.items() if sharing[key] > 1 or key in above}
        more = {path for path in clashing - with_suffix if not path.is_dir()}
        if not more:
            return names
        with_suffix |= more


def _name(path: Path, root: Path, with_suffix: bool) -> str:
    if path == root:  # the archive is one folder of pictures
        return root.name or "video"
    relative = path.relative_to(root)
    return (relative if with_suffix or path.is_dir() else relative.with_suffix("")).as_posix()

"""Files written whole or not at all: what was there before stays until the new one is complete and on the disk."""

import glob
import os
from collections.abc import Callable
from pathlib import Path

from maskstream.errors import MaskstreamError


class SaveFailed(MaskstreamError):
    """A file of the run could not be written; the one before it is still there."""


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a partial file beside `path`, then put it in its place.

    Raises SaveFailed, naming the folder and what to do, when that fails; no partial file is left behind.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(partial)
        _to_the_disk(partial)
        partial.replace(path)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        raise SaveFailed(
            f"cannot write {path} ({_reason(error)}); free space in {path.parent} and continue with --resume"
        ) from error
    finally:
        for left in path.parent.glob(f"{glob.escape(partial.name)}*"):  # `write` may have partial files of its own
            left.unlink(missing_ok=True)


def _to_the_disk(path: Path) -> None:
    """Wait until the bytes are there: a rename may otherwise outlive a power cut that its content does not."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).strip().splitlines()[0]

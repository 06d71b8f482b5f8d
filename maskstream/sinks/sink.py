"""What takes followed frames one by one and leaves files, and the one error of all of them.

A sink writes as frames come and closes in any case, so that Ctrl-C, a full disk or a crash costs no more than the last
moments.
"""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from maskstream.errors import MaskstreamError
from maskstream.followed import FollowedFrame

Picture = npt.NDArray[np.uint8]  # [H, W, 3] RGB
Draw = Callable[[], Picture]  # the overlay of a frame; drawn once, and only when somebody wants it

_FULL = {errno.ENOSPC, errno.EDQUOT}


class OutputError(MaskstreamError):
    """A result cannot be written."""

    reason = "OUTPUT_UNWRITABLE"


class Sink(Protocol):
    """Takes followed frames. Raises OSError from any method."""

    @property
    def outputs(self) -> dict[str, str]:
        """What it leaves, by name."""
        ...

    def add(self, followed: FollowedFrame, draw: Draw) -> None:
        """Write one frame."""
        ...

    def close(self) -> None:
        """Finish the files; also after an error."""
        ...


@contextmanager
def clear_errors(place: str) -> Iterator[None]:
    """Turn what the system says of `place` into an OutputError that says what to do."""
    try:
        yield
    except BrokenPipeError:
        raise OutputError("standard output was closed by its reader; what goes to files was kept") from None
    except OSError as error:
        where = error.filename or place
        if error.errno in _FULL:
            raise OutputError(
                f"{where}: the disk is full; what was written so far is kept. Make room, or give another --out"
            ) from error
        raise OutputError(f"{where}: cannot be written ({error.strerror or error})") from error


def replace_file(path: Path, text: str) -> None:
    """Write a whole file or, if that fails, leave the old one."""
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)

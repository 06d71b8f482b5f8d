"""One run at a time on an output folder.

The lock is the kernel's, on an open file: it ends with the process that holds it, however that ends, so there is no
stale lock to judge and nothing to delete by hand. A lock file that merely lies there means nothing. Its text only tells
the refused one who is at work.
"""

import contextlib
import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from maskstream.archive.jobs import ArchiveError

LOCK = ".lock"


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the lock of `folder`, which is made if need be. Raises ArchiveError when another run holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _lock(file, folder)
        os.ftruncate(file, 0)
        os.pwrite(file, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield
    finally:
        os.close(file)


def _lock(file: int, folder: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise ArchiveError(
                f"{folder}: its file system has no locks ({error.strerror}), so two runs could spoil each other; "
                "give an --out on one that has"
            ) from error
        who = os.pread(file, 200, 0).decode(errors="replace") or "another process"
        raise ArchiveError(
            f"{folder} is being written by another run ({who}); wait for it, or give another --out"
        ) from error

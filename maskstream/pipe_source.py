"""A video piped into this process, decoded on a thread of its own, a few frames ahead of who takes them.

While FFmpeg waits for the pipe it calls back into Python, and what a signal raises there is lost: on the main thread
Ctrl-C would do nothing until the pipe says more. So the main thread never reads it.
"""

import os
import threading
from collections.abc import Iterator
from queue import Full, Queue
from typing import Any

from maskstream.containers import EXPECTED, OpenContainer, TimedFrame, open_container
from maskstream.errors import VideoError

_FRAMES_AHEAD = 4
_LOOK_SECONDS = 0.2  # how often a waiting thread looks whether it is still wanted


class PipeReader:
    """Frames of the video that comes in by a file descriptor. `close` when done."""

    def __init__(self, descriptor: int, name: str) -> None:
        """Waits for the first frame. Raises VideoError when there is none."""
        self._name = name
        self._frames: Queue[TimedFrame | BaseException | None] = Queue(_FRAMES_AHEAD)
        self._opened: OpenContainer | None = None
        self._stopped = threading.Event()
        # a copy without Python's buffer: its lock, held by a thread that waits, would stop the interpreter from ending
        file = os.fdopen(os.dup(descriptor), "rb", buffering=0)
        threading.Thread(target=self._run, args=(file,), name="maskstream-pipe", daemon=True).start()
        first = self._frames.get()
        if isinstance(first, BaseException):
            raise first
        if first is None:
            raise VideoError(f"{name}: it holds no frame that can be decoded; {EXPECTED}")
        self._first: TimedFrame = first

    @property
    def frames_per_second(self) -> float:
        """As the video says."""
        assert self._opened is not None
        return self._opened.frames_per_second

    @property
    def num_frames(self) -> int | None:
        """As the video says, None when it does not."""
        assert self._opened is not None
        return self._opened.stream.frames or None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the first frame."""
        return self._first[0].shape[0], self._first[0].shape[1]

    def frames(self) -> Iterator[TimedFrame]:
        """All frames and their times in seconds. Raises VideoError when decoding fails on the way."""
        yield self._first
        while (following := self._frames.get()) is not None:
            if isinstance(following, BaseException):
                raise following
            yield following

    def close(self) -> None:
        """No more frames are wanted; a read that waits for the pipe ends with it."""
        self._stopped.set()

    def _run(self, file: Any) -> None:
        with file:
            try:
                self._decode(file)
                self._put(None)
            except BaseException as error:  # noqa: BLE001 - raised where the frames are taken
                self._put(error)

    def _decode(self, file: Any) -> None:
        self._opened = opened = open_container(file, self._name, live=False)
        try:
            for timed in opened.frames():
                self._put(timed)
                if self._stopped.is_set():
                    return
        finally:
            opened.close()

    def _put(self, entry: TimedFrame | BaseException | None) -> None:
        while not self._stopped.is_set():
            try:
                self._frames.put(entry, timeout=_LOOK_SECONDS)
            except Full:
                continue
            return

"""Reads a caller's frames, so that a slow camera delays no answer, and no faster than asked.

An ordinary iterable is read on a thread of its own, for it may block; an async one by a task on the
caller's event loop.
"""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterable, Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from maskstream.frame_input import FrameLike

AnyFrame = FrameLike | tuple[FrameLike, float]  # with its presentation time in seconds


class Feeding(Protocol):
    """Gives one Fed for each `ask`, at last FedAll. Used by one thread."""

    def ask(self) -> None:
        """One more frame, if none is on its way."""

    def taken(self) -> None:
        """The frame that was asked for has come."""

    def stop(self) -> None:
        """No more frames are wanted."""


@dataclass(frozen=True)
class Fed:
    """The next frame."""

    feeder: Feeding
    frame: AnyFrame


@dataclass(frozen=True)
class FedAll:
    """There are no more frames, or reading them failed."""

    feeder: Feeding
    error: BaseException | None


class Feeder:
    """One frame for each `ask`. `deliver` is called on the reading thread, at last with FedAll."""

    def __init__(self, frames: Iterable[AnyFrame], deliver: Callable[[Fed | FedAll], None]) -> None:
        self._frames, self._deliver = frames, deliver
        self._wanted = threading.Semaphore(0)
        self._asked, self._stopped = False, threading.Event()
        threading.Thread(target=self._feed, name="maskstream-frames", daemon=True).start()

    def ask(self) -> None:
        """One more frame, if none is on its way."""
        if not self._asked:
            self._asked = True
            self._wanted.release()

    def taken(self) -> None:
        """The frame that was asked for has come."""
        self._asked = False

    def stop(self) -> None:
        """No more frames are wanted; the thread ends when the source gives the one it is waiting for."""
        self._stopped.set()
        self._wanted.release()

    def _feed(self) -> None:
        error: BaseException | None = None
        try:
            self._wanted.acquire()
            for frame in () if self._stopped.is_set() else self._frames:
                if self._stopped.is_set():
                    return
                self._deliver(Fed(self, frame))
                self._wanted.acquire()
                if self._stopped.is_set():
                    return
        except BaseException as caught:  # noqa: BLE001 - raised again where the answers are read, SystemExit too
            error = caught
        if not self._stopped.is_set():
            self._deliver(FedAll(self, error))


class AsyncFeeder:
    """The same for an async iterable. Made on the loop; asked and stopped from another thread."""

    def __init__(self, frames: AsyncIterable[AnyFrame], deliver: Callable[[Fed | FedAll], None]) -> None:
        self._frames, self._deliver = frames, deliver
        self._loop = asyncio.get_running_loop()
        self._wanted, self._asked, self._stopped = asyncio.Event(), False, False
        self._task = self._loop.create_task(self._feed(), name="maskstream-frames")

    def ask(self) -> None:
        """One more frame, if none is on its way."""
        if not self._asked:
            self._asked = True
            self._on_loop(self._wanted.set)

    def taken(self) -> None:
        """The frame that was asked for has come."""
        self._asked = False

    def stop(self) -> None:
        """No more frames are wanted: the task is cancelled, in the middle of the source's waiting if need be."""
        self._on_loop(self._cancel)

    def _on_loop(self, act: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, its tasks with it
            self._loop.call_soon_threadsafe(act)

    def _cancel(self) -> None:
        self._stopped = True
        self._task.cancel()

    async def _feed(self) -> None:
        error: BaseException | None = None
        try:
            await self._next_wanted()
            async for frame in self._frames:
                self._deliver(Fed(self, frame))
                await self._next_wanted()
        except BaseException as caught:  # noqa: BLE001 - raised again where the answers are read, SystemExit too
            error = caught
        if not self._stopped:
            self._deliver(FedAll(self, error))

    async def _next_wanted(self) -> None:
        await self._wanted.wait()
        self._wanted.clear()

"""Waiting work for asyncio, each on a thread of its own.

The event loop's shared executor has a handful of threads; a hundred streams that wait for a silent server would hold
all of them, and with them the work of everybody else in the process.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Result = TypeVar("Result")


async def in_thread(work: Callable[[], Result], undo: Callable[[Result], None] | None = None) -> Result:
    """What `work` returns or raises. It cannot be interrupted: of a caller that is cancelled meanwhile, `undo` gets
    the result when it comes, on some thread.
    """
    future: Future[Result] = Future()
    future.set_running_or_notify_cancel()  # it cannot be cancelled any more, only be unwanted
    unwanted, lock = threading.Event(), threading.Lock()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - raised where it is awaited
            future.set_exception(error)
            return
        with lock:
            if not unwanted.is_set():
                future.set_result(result)
                return
        if undo is not None:
            undo(result)

    threading.Thread(target=run, name="maskstream-waiting", daemon=True).start()
    try:
        return await asyncio.wrap_future(future)
    except asyncio.CancelledError:
        with lock:
            unwanted.set()
        if undo is not None and future.done() and future.exception() is None:
            undo(future.result())
        raise

"""Waiting work on threads of its own: what comes back, what a cancelled caller leaves, how many may wait."""

import asyncio
import threading

import pytest
from served import TIMEOUT

from maskstream.in_thread import in_thread


async def test_results_and_errors_come_back():
    assert await in_thread(lambda: 5) == 5
    with pytest.raises(OSError, match="unplugged"):
        await in_thread(lambda: (_ for _ in ()).throw(OSError("unplugged")))


async def test_what_nobody_waits_for_any_more_is_undone():
    release, undone = threading.Event(), asyncio.Event()
    loop, results = asyncio.get_running_loop(), []

    def work():
        release.wait(TIMEOUT)
        return 5

    def undo(result):
        results.append(result)
        loop.call_soon_threadsafe(undone.set)

    task = asyncio.create_task(in_thread(work, undo))
    await asyncio.sleep(0)  # the task has begun
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert results == []
    release.set()
    async with asyncio.timeout(TIMEOUT):
        await undone.wait()
    assert results == [5]


async def test_any_number_may_wait_at_once():
    everybody = threading.Barrier(50)
    async with asyncio.timeout(TIMEOUT):
        places = await asyncio.gather(*(in_thread(lambda: everybody.wait(TIMEOUT)) for _ in range(50)))
    assert sorted(places) == list(range(50))

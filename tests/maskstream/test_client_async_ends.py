"""Ends of a stream with the asyncio client: cancelling, leaving early, closing; no task and no thread is left."""

import asyncio
import itertools
import threading
import time

import pytest
from scripted import opened, scripted
from served import TIMEOUT, picture, square

from maskstream.client import Prompt
from maskstream.client_async import AsyncMaskStreamClient
from maskstream.errors import StreamError

A = square(16, 16)
START = {0: [Prompt(1, A)]}


def our_threads():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("maskstream-")]


@pytest.fixture(autouse=True)
async def nothing_is_left():
    before = asyncio.all_tasks()
    yield
    await until(lambda: our_threads() == [] and asyncio.all_tasks() <= before | {asyncio.current_task()}, 10)


async def until(condition, seconds=TIMEOUT):
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - of threads and of the server: no event tells of it
            await asyncio.sleep(0.005)


async def camera(count, seconds=0.0):
    for _ in range(count):
        await asyncio.sleep(seconds)
        yield picture()


@pytest.mark.parametrize("held", ["by the server", "by the source"])
async def test_a_cancelled_task_ends_its_stream(running, held):
    begun = asyncio.Event()

    async def frames():
        yield picture()
        yield picture()
        await (asyncio.Event().wait() if held == "by the source" else asyncio.sleep(0))
        for _ in itertools.count():
            yield picture()

    async def follow(client):
        async with await client.open() as stream:
            async for _ in stream.propagate(frames(), START):
                if held == "by the server":
                    running.networks.gate.clear()
                begun.set()

    async with AsyncMaskStreamClient(running.server.listen) as client:
        task = asyncio.create_task(follow(client))
        await begun.wait()
        await asyncio.sleep(0.05)
        assert running.sample("streams_active") == 1
        task.cancel()
        since = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - since < 3
        running.networks.gate.set()
        await until(lambda: running.sample("streams_active") == 0)


async def test_opening_that_is_cancelled_leaves_no_stream(running):
    def silent(call):
        call.read()
        call.until_gone()
        yield opened(call)

    with scripted(silent) as dead:
        async with AsyncMaskStreamClient(dead.target) as client:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await client.open()
            await until(lambda: our_threads() == [], 5)
    async with AsyncMaskStreamClient(running.server.listen) as client:
        opening = [asyncio.create_task(client.open()) for _ in range(5)]
        await asyncio.sleep(0.003)  # some are open, some not yet
        for task in opening:
            task.cancel()
        opened_all = await asyncio.gather(*opening, return_exceptions=True)
        for stream in opened_all:
            if not isinstance(stream, BaseException):
                await stream.close()
        await until(lambda: running.sample("streams_active") == 0)


async def test_leaving_the_loop_early_leaves_the_stream_usable(running):
    async with AsyncMaskStreamClient(running.server.listen) as client, await client.open() as stream:
        for _ in range(3):
            async for answer in stream.propagate(camera(1000), START):
                assert answer.index == 0
                break
        held = stream.propagate(camera(1000), START)
        await anext(held)
        assert [answer.index async for answer in stream.propagate(camera(9), START)] == list(range(9))
        with pytest.raises(StreamError, match="REPLACED"):
            [answer async for answer in held]


async def test_an_answer_that_nobody_waited_for_is_kept(running):
    running.networks.gate.clear()
    async with AsyncMaskStreamClient(running.server.listen) as client, await client.open() as stream:
        await stream.send(picture(), [Prompt(1, A)])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await anext(stream.answers())
        running.networks.gate.set()
        assert (await anext(stream.answers())).index == 0


async def test_another_task_closes_the_stream(running):
    got = []
    async with AsyncMaskStreamClient(running.server.listen) as client:
        stream = await client.open()

        async def follow():
            async for answer in stream.propagate(camera(10_000), START):
                got.append(answer)

        task = asyncio.create_task(follow())
        await until(lambda: len(got) > 3)
        counts = await stream.close()
        await task
        assert counts.answered == sum(answer.id_map is not None for answer in got)
        assert {answer.dropped for answer in got[counts.answered :]} <= {"CLOSED"}
        with pytest.raises(StreamError, match="ended"):
            await stream.send(picture())


def test_a_loop_that_ends_without_ado_leaves_no_thread(running):
    loop = asyncio.new_event_loop()
    client = AsyncMaskStreamClient(running.server.listen)

    async def begin():
        stream = await client.open()
        answers = stream.propagate(camera(100_000), START)
        await anext(answers)
        return stream, answers

    stream, answers = loop.run_until_complete(begin())
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    asyncio.run(client.close())
    deadline = time.monotonic() + 10
    while our_threads():
        assert time.monotonic() < deadline, our_threads()
        time.sleep(0.01)
    del stream, answers

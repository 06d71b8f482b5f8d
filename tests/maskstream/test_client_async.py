"""The asyncio client against a real server with fake networks: the same answers, awaited, and nothing left behind."""

import asyncio
import itertools
import threading

import numpy as np
import pytest
from relay import relay
from scripted import opened, scripted
from served import TIMEOUT, picture, square

from maskstream.client import MaskStreamClient, Prompt
from maskstream.client_async import AsyncMaskStreamClient
from maskstream.errors import InvalidFrame, RequestRefused, ServerFull, ServerUnavailable, StreamError

A, B = square(16, 16), square(32, 64)
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


def ids(answer):
    return set(np.unique(answer.id_map)) - {0}


# ---- the same answers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [lambda: [picture()] * 12, lambda: camera(12)], ids=["iterable", "async"])
async def test_propagate_answers_every_frame_in_order(running, source):
    async with AsyncMaskStreamClient(running.server.listen) as client, await client.open() as stream:
        prompts = {**START, 5: [Prompt(2, B != 0)]}
        answers = [answer async for answer in stream.propagate(source(), prompts)]
        counts = await stream.close()
    assert [answer.index for answer in answers] == list(range(12))
    assert [ids(answer) for answer in answers] == [{1}] * 5 + [{1, 2}] * 7
    assert (counts.frames_in, counts.answered, counts.dropped, counts.refused) == (12, 12, 0, 0)
    with MaskStreamClient(running.server.listen) as plain, plain.open() as stream:
        expected = list(stream.propagate([picture()] * 12, prompts))
    assert all((one.id_map == other.id_map).all() for one, other in zip(answers, expected, strict=True))


async def test_times_and_what_is_wrong_with_a_frame_come_with_it(running):
    frames = [(picture(), 0.5), (picture((32, 32)), 1.0), (picture(), 1.5)]
    async with AsyncMaskStreamClient(running.server.listen) as client, await client.open() as stream:
        answers = [answer async for answer in stream.propagate(frames, START)]
    assert [answer.error.reason if answer.error else answer.pts for answer in answers] == [0.5, "SIZE_CHANGED", 1.5]


async def test_step_by_step(running):
    async with AsyncMaskStreamClient(running.server.listen) as client, await client.open(max_in_flight=2) as stream:
        indices = [await stream.send(picture(), [Prompt(1, A)]), await stream.send(picture(), pts=0.5)]
        await stream.set_objects([Prompt(9, B)])
        indices.append(await stream.send(picture()))
        await stream.remove([1])
        indices.append(await stream.send(picture()))
        await stream.reset()
        indices.append(await stream.send(picture(), [Prompt(3, A)]))
        with pytest.raises(InvalidFrame, match="uint8"):
            await stream.send(picture().astype(np.float32))
        assert (await stream.close()).answered == len(indices)
        answers = [answer async for answer in stream.answers()]
    assert [answer.index for answer in answers] == indices
    assert [ids(answer) for answer in answers] == [{1}, {1}, {1, 9}, {9}, {3}]


async def test_info_and_what_a_server_refuses(start):
    running = start(max_streams=1)
    async with AsyncMaskStreamClient(running.server.listen) as client:
        assert (await client.info()).model == "fake"
        with pytest.raises(StreamError, match="the model is `fake`"):
            await client.open(model="other")
        with pytest.raises(ValueError, match="jpeg, png or raw"):
            await client.open(image="gif")
        async with await client.open() as stream:
            assert stream.max_in_flight == 4
            with pytest.raises(ServerFull):
                await client.open()
            with pytest.raises(RequestRefused):
                await stream.snapshot()
    async with AsyncMaskStreamClient("127.0.0.1:1") as client:
        with pytest.raises(ServerUnavailable):
            await client.info()


async def test_a_snapshot_goes_on_at_another_server(start, tmp_path):
    key = tmp_path / "key"
    key.write_bytes(b"0123456789abcdef" * 2)
    key.chmod(0o600)
    first, second = start(snapshot_key=key), start(snapshot_key=key)
    async with AsyncMaskStreamClient(first.server.listen) as client, await client.open() as stream:
        await stream.send(picture(), [Prompt(1, A), Prompt(7, B)])
        state = await stream.snapshot()
        assert not stream.resumed
    async with AsyncMaskStreamClient(second.server.listen) as client, await client.open(resume_state=state) as stream:
        assert stream.resumed
        assert [ids(answer) async for answer in stream.propagate(camera(3))] == [{1, 7}] * 3


@pytest.mark.parametrize("failure", [OSError("unplugged"), SystemExit("bye")])
@pytest.mark.parametrize("is_async", [False, True])
async def test_whatever_the_source_of_frames_raises_comes_out(running, failure, is_async):
    def plain():
        yield picture()
        raise failure

    async def awaited():
        yield picture()
        raise failure

    async with AsyncMaskStreamClient(running.server.listen) as client, await client.open() as stream:
        with pytest.raises(type(failure), match=str(failure)):
            [answer async for answer in stream.propagate(awaited() if is_async else plain(), START)]
        assert len([answer async for answer in stream.propagate([picture()], START)]) == 1, "the stream is as it was"


# ---- breaks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"snapshot_every": 0.01}], ids=["last masks", "snapshots"])
async def test_propagate_goes_on_at_another_server_when_its_own_is_killed(start, tmp_path, options):
    key = tmp_path / "key"
    key.write_bytes(b"0123456789abcdef" * 2)
    key.chmod(0o600)
    first, second = start(snapshot_key=key), start(snapshot_key=key)
    got = []
    with relay(first.server.listen) as way:
        client = AsyncMaskStreamClient([way.target, second.server.listen])
        async with client, await client.open(**options) as stream:
            async for answer in stream.propagate(camera(60), {0: [Prompt(1, A), Prompt(2, B)]}):
                got.append(answer)
                if len(got) == 20:
                    if options:
                        await until(lambda: first.sample("snapshots_total", outcome="made") >= 1)
                    way.close()
            assert stream.resumed == bool(options)
    assert [answer.index for answer in got] == list(range(60))
    assert all(ids(answer) == {1, 2} for answer in got)
    assert second.sample("frames_total", outcome="answered") > 20


async def test_propagate_gives_up_when_no_server_comes_back(start):
    running = start()
    with relay(running.server.listen) as way:
        async with AsyncMaskStreamClient(way.target) as client, await client.open(resumes=1) as stream:
            answers = stream.propagate([picture()] * 500, START)
            await anext(answers)
            way.close()
            with pytest.raises(ServerUnavailable):
                [answer async for answer in answers]


# ---- a slow caller, and a loop that is not held up -----------------------------------------------------------------


async def test_a_slow_caller_holds_the_source_back(running):
    read = itertools.count()

    async def frames():
        for _ in range(40):
            next(read)
            yield picture()

    async with AsyncMaskStreamClient(running.server.listen) as client, await client.open(max_in_flight=2) as stream:
        answers = stream.propagate(frames(), START)
        await anext(answers)
        await asyncio.sleep(0.3)  # far longer than 40 frames take
        assert next(read) <= 8
        assert [answer.index async for answer in answers] == list(range(1, 40))


async def test_a_slow_caller_of_a_live_stream_gets_what_is_new(running):
    live = {"delivery": "latest", "results_ahead": 1}
    seen, dropped = [], 0
    async with AsyncMaskStreamClient(running.server.listen) as client, await client.open(**live) as stream:
        async for answer in stream.propagate(camera(60, 0.005), START):
            if answer.id_map is None:
                dropped += 1
            else:
                seen.append(answer.index)
                await asyncio.sleep(0.05)
    assert len(seen) + dropped == 60
    assert dropped > 20
    assert seen == sorted(seen)
    assert seen[-1] == 59


async def test_the_loop_goes_on_while_something_waits(running):
    """Each time it is the loop that ends the waiting: were it held up, nothing would."""
    loop, gate = asyncio.get_running_loop(), running.networks.gate

    def camera_that_blocks():
        for _ in range(5):
            turned = threading.Event()
            loop.call_soon_threadsafe(turned.set)
            assert turned.wait(TIMEOUT / 3), "the source of frames stopped the loop"
            yield picture()

    async with AsyncMaskStreamClient(running.server.listen) as client, await client.open(max_in_flight=1) as stream:
        assert len([answer async for answer in stream.propagate(camera_that_blocks(), START)]) == 5
        gate.clear()
        await stream.send(picture())
        loop.call_later(0.05, gate.set)
        async with asyncio.timeout(TIMEOUT / 3):
            await stream.send(picture())
        gate.clear()
        loop.call_later(0.05, gate.set)
        async with asyncio.timeout(TIMEOUT / 3):
            assert (await stream.close()).answered == 7


async def test_the_loop_goes_on_while_a_stream_opens():
    may_open = threading.Event()

    def slow(call):
        assert may_open.wait(TIMEOUT / 3), "the client stopped the loop"
        yield opened(call)
        call.until_gone()

    with scripted(slow) as server:
        async with AsyncMaskStreamClient(server.target) as client:
            asyncio.get_running_loop().call_later(0.05, may_open.set)
            stream = await client.open()
            await stream.close()


async def test_many_streams_at_once(start):
    running = start(max_streams=40)

    async def follow(client, number):
        async with await client.open() as stream:
            return [answer.index async for answer in stream.propagate(camera(5, 0.001 * (number % 3)), START)]

    async with AsyncMaskStreamClient(running.server.listen) as client:
        done = await asyncio.gather(*(follow(client, number) for number in range(30)))
    assert done == [list(range(5))] * 30


def test_one_client_for_two_loops(running):
    client = AsyncMaskStreamClient(running.server.listen)
    done = {}

    async def follow(name):
        async with await client.open() as stream:
            done[name] = [answer.index async for answer in stream.propagate(camera(20, 0.002), START)]

    loops = [threading.Thread(target=asyncio.run, args=(follow(name),)) for name in ("one", "other")]
    for loop in loops:
        loop.start()
    for loop in loops:
        loop.join(TIMEOUT)
    assert done == {"one": list(range(20)), "other": list(range(20))}
    asyncio.run(client.close())

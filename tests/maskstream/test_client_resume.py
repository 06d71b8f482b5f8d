"""Breaks of every kind in the middle of a video: each frame is answered once, in order, as if nothing had happened."""

import contextlib
import itertools
import random
import threading
import time

import numpy as np
import pytest
from fakes import FakeNetworks
from relay import relay
from served import TIMEOUT, eventually, picture, square

from maskstream.client import MaskStreamClient, Prompt
from maskstream.errors import StreamError

A, B, C = square(16, 16), square(32, 64), square(0, 80)
FRAMES = 40
PROMPTS = {0: [Prompt(1, A), Prompt(2, B)], 17: [Prompt(3, C)], 25: [Prompt(1, square(0, 0))]}


@pytest.fixture(params=["masks", "snapshots"])
def options(request, tmp_path):
    """Client options and server settings of both ways of resuming."""
    if request.param == "masks":
        return {}, {}
    key = tmp_path / "key"
    key.write_bytes(b"0123456789abcdef" * 2)
    key.chmod(0o600)
    return {"snapshot_every": 0.05}, {"snapshot_key": key}


def pair(start, **settings):
    """Two replicas with slow networks, so that breaks meet frames on their way."""
    return [start(FakeNetworks(0.004), **settings) for _ in range(2)]


@contextlib.contextmanager
def relayed(running, **options):
    """A stream to a server by a way that can be cut."""
    with relay(running.server.listen) as way, MaskStreamClient(way.target) as client, client.open(**options) as stream:
        yield way, stream


def kill(running):
    running.run(running.server.stop())
    running.running = False


def expected(index):
    shown = {2: B}
    shown[1] = square(0, 0) if index >= 25 else A
    if index >= 17:
        shown[3] = C
    return shown


def assert_whole(answers, frames=FRAMES, shown=expected):
    """Every frame once, in order, with the masks of an undisturbed run but for rounded corners."""
    assert [answer.index for answer in answers] == list(range(frames))
    for answer in answers:
        assert answer.error is None
        assert set(np.unique(answer.id_map)) - {0} == set(shown(answer.index)), answer.index
        for object_id, mask in shown(answer.index).items():
            assert np.count_nonzero((answer.id_map == object_id) != (mask != 0)) <= 4, (answer.index, object_id)


def test_a_killed_server(start, options):
    of_client, of_server = options
    first, second = pair(start, **of_server)
    with MaskStreamClient([first.server.listen, second.server.listen]) as client, client.open(**of_client) as stream:
        answers = stream.propagate([picture()] * FRAMES, PROMPTS)
        got = list(itertools.islice(answers, 20))
        kill(first)
        got += answers
        assert stream.resumed == bool(of_client)
    assert_whole(got)


def test_a_draining_server(start, options):
    of_client, of_server = options
    first, second = pair(start, **of_server)
    targets = f"{first.server.listen}, {second.server.listen}"
    with MaskStreamClient(targets) as client, client.open(**of_client) as stream:
        answers = stream.propagate([picture()] * FRAMES, PROMPTS)
        got = list(itertools.islice(answers, 10))
        drained = first.start_drain()
        got += answers
        drained.result(TIMEOUT)
        assert stream.resumed == bool(of_client)
    assert_whole(got)
    assert first.sample("streams_total", end_reason="closed") == 1, "it left in good order"
    assert second.sample("streams_total", end_reason="closed") == 1


def test_cuts_one_after_another(start, options):
    of_client, of_server = options
    running = start(FakeNetworks(0.004), **of_server)
    with relayed(running, **of_client) as (way, stream):
        answers = stream.propagate([picture()] * FRAMES, PROMPTS)
        got = [next(answers)]
        for _ in range(4):
            got += itertools.islice(answers, 7)
            way.cut()
        got += answers
        assert way.connections == 5
    assert_whole(got)
    eventually(lambda: running.sample("streams_active") == 0)


def test_a_cut_and_then_a_full_server(start, options):
    of_client, of_server = options
    running = start(FakeNetworks(0.004), max_streams=1, **of_server)
    with relayed(running, **of_client) as (way, stream):
        answers = stream.propagate([picture()] * FRAMES, PROMPTS)
        got = list(itertools.islice(answers, 10))
        way.to = "127.0.0.1:1"  # nobody is there
        way.cut()
        eventually(lambda: running.sample("streams_active") == 0)
        squatter = running.stream()
        way.to = running.server.listen
        eventually(lambda: running.sample("stream_rejected_total", reason="SERVER_FULL") >= 1)
        squatter.rpc.cancel()
        got += answers
    assert_whole(got)


def test_a_server_that_drains_into_one_that_dies(start, options):
    of_client, of_server = options
    servers = [*pair(start, **of_server), start(**of_server)]
    with MaskStreamClient([each.server.listen for each in servers]) as client, client.open(**of_client) as stream:
        got = []
        for answer in stream.propagate([picture()] * FRAMES, PROMPTS):
            got.append(answer)
            if answer.index == 8:
                drained = servers[0].start_drain()
            if servers[1].running and servers[1].sample("streams_active") == 1:
                kill(servers[1])
        drained.result(TIMEOUT)
    assert_whole(got)
    assert servers[2].sample("streams_total", end_reason="closed") == 1


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.slow
def test_any_breaks_at_any_time(start, options, seed):
    of_client, of_server = options
    chance = random.Random(seed)
    running = start(FakeNetworks(0.002), **of_server)
    removed_at = chance.randrange(5, 60)

    def shown(index):
        gone = index >= removed_at
        return {1: A} if gone else {1: A, 2: B}

    got = []
    with relayed(running, max_in_flight=1, **of_client) as (way, stream):
        for answer in stream.propagate([picture()] * 80, {0: [Prompt(1, A), Prompt(2, B)]}):
            got.append(answer)
            if chance.random() < 0.1:
                way.cut()
            if answer.index == removed_at - 2:
                stream.remove([2])
    got = [answer for answer in got if answer.index is not None]
    assert [answer.index for answer in got] == list(range(80))
    seen = [set(np.unique(answer.id_map)) - {0} for answer in got]
    assert all(ids == {1, 2} for ids in seen[: removed_at - 1])
    assert all(ids == set(shown(80)) for ids in seen[removed_at + 3 :]), "what was removed does not come back"


def test_a_removal_on_its_way_happens_once_and_stays(start, options):
    of_client, of_server = options
    running = start(FakeNetworks(), **of_server)
    with relayed(running, max_in_flight=8, **of_client) as (way, stream):
        answers = stream.propagate([picture()] * 30, {0: [Prompt(1, A), Prompt(2, B)]})
        got = list(itertools.islice(answers, 5))
        running.networks.gate.clear()
        eventually(lambda: running.networks.entered.acquire(blocking=False))
        stream.remove([2])
        way.cut()
        running.networks.gate.set()
        got += answers
    assert [answer.error for answer in got if answer.index is None] == [], "it was removed once"
    got = [answer for answer in got if answer.index is not None]
    assert [answer.index for answer in got] == list(range(30))
    seen = [set(np.unique(answer.id_map)) - {0} for answer in got]
    assert {1, 2} in seen[5:], "frames that were sent before the removal still show it"
    assert seen[-1] == {1}
    assert seen == sorted(seen, key=len, reverse=True), "and once gone it stays away"


def test_prompts_outside_a_frame_survive_a_cut_before_their_frame(start, options):
    of_client, of_server = options
    running = start(FakeNetworks(), **of_server)
    go_on = threading.Event()

    def frames():
        yield from [picture()] * 5
        assert go_on.wait(TIMEOUT)
        yield from [picture()] * 5

    with relayed(running, **of_client) as (way, stream):
        answers = stream.propagate(frames(), {0: [Prompt(1, A)]})
        got = list(itertools.islice(answers, 5))
        stream.set_objects([Prompt(9, C)])
        time.sleep(0.2)  # it is acknowledged, and no frame is there to carry it
        way.cut()
        go_on.set()
        got += answers
    assert_whole(got, 10, lambda index: {1: A} if index < 5 else {1: A, 9: C})


def test_a_live_stream_reads_its_camera_while_no_server_is_there(start, options):
    of_client, of_server = options
    running = start(FakeNetworks(), **of_server)
    stop, given, got = threading.Event(), itertools.count(), []

    def camera():
        while not stop.wait(0.005):
            next(given)
            yield picture()

    with relayed(running, delivery="latest", **of_client) as (way, stream):
        for answer in stream.propagate(camera(), {0: [Prompt(1, A)]}):
            got.append(answer)
            if answer.index == 10:
                way.to = "127.0.0.1:1"
                way.cut()
            if answer.index == 60:
                way.to = running.server.listen
            if answer.index > 60 and answer.id_map is not None:
                stop.set()
    assert sorted(answer.index for answer in got) == list(range(next(given)))
    assert all(set(np.unique(answer.id_map)) == {0, 1} for answer in got if answer.id_map is not None)
    assert sum(answer.dropped == "SUPERSEDED" for answer in got) > 30


def test_an_idle_stream_is_opened_again_when_frames_come(start, options):
    of_client, of_server = options
    running = start(FakeNetworks(), **of_server)

    def frames():
        yield from [picture()] * 3
        eventually(lambda: running.sample("streams_total", end_reason="idle_timeout") == 1)
        yield from [picture()] * 3

    with relayed(running, idle_timeout_seconds=0.3, **of_client) as (_, stream):
        got = list(stream.propagate(frames(), {0: [Prompt(1, A)]}))
    assert_whole(got, 6, lambda index: {1: A})


def test_a_poisonous_frame_does_not_break_one_engine_after_another(start):
    servers = pair(start)
    for each in servers:
        each.networks.failure = RuntimeError("broken")
    with MaskStreamClient([each.server.listen for each in servers]) as client, client.open() as stream:
        answers = stream.propagate([picture()] * 3, {0: [Prompt(1, A)]})
        with pytest.raises(StreamError) as caught:
            list(answers)
    assert caught.value.reason == "ENGINE_FAILED"


def test_a_broken_engine_is_left_for_another(start):
    servers = pair(start)
    with MaskStreamClient([each.server.listen for each in servers]) as client, client.open() as stream:
        answers = stream.propagate([picture()] * FRAMES, PROMPTS)
        got = list(itertools.islice(answers, 5))
        servers[0].networks.failure = RuntimeError("broken")
        got += answers
    assert_whole(got)
    assert servers[1].sample("streams_total", end_reason="closed") == 1

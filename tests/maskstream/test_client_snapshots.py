"""Snapshots: what is kept for them, what another server is told after a break, and what happens when one is refused."""

import itertools
import time

import grpc
import numpy as np
import pytest
from relay import relay
from scripted import ack, error, opened, result, scripted
from served import TIMEOUT, eventually, picture, square

from maskstream import client_journal, client_link
from maskstream.client import MaskStreamClient, Prompt
from maskstream.errors import RequestRefused, StreamError
from maskstream.v1 import maskstream_pb2 as pb

A, B = square(16, 16), square(32, 64)
SMALL, EVERYWHERE = np.zeros((4, 8, 3), np.uint8), np.ones((4, 8), np.uint8)


@pytest.fixture
def key(tmp_path):
    file = tmp_path / "key"
    file.write_bytes(b"0123456789abcdef" * 2)
    file.chmod(0o600)
    return file


def ids(answer):
    return set(np.unique(answer.id_map)) - {0}


# ---- in the caller's hands -----------------------------------------------------------------------------------------


def test_a_caller_can_take_a_stream_from_one_server_to_another(start, key):
    first, second = start(snapshot_key=key), start(snapshot_key=key)
    with MaskStreamClient(first.server.listen) as client, client.open() as stream:
        stream.send(picture(), [Prompt(1, A), Prompt(7, B)])
        state = stream.snapshot()
        assert not stream.resumed
    with MaskStreamClient(second.server.listen) as client, client.open(resume_state=state) as stream:
        assert stream.resumed
        assert [ids(answer) for answer in stream.propagate([picture()] * 3)] == [{1, 7}] * 3
    with MaskStreamClient(second.server.listen) as client:
        with pytest.raises(StreamError, match="signature") as caught:
            client.open(resume_state=state[:-1])
        assert caught.value.reason == "SNAPSHOT_INVALID"


def test_a_snapshot_while_frames_flow(start, key):
    running = start(snapshot_key=key)
    with MaskStreamClient(running.server.listen) as client, client.open() as stream:
        answers = stream.propagate([picture()] * 20, {0: [Prompt(1, A)]})
        next(answers)
        state = stream.snapshot(TIMEOUT)
        assert [answer.index for answer in answers] == list(range(1, 20))
        with client.open(resume_state=state) as other:
            assert [ids(answer) for answer in other.propagate([picture()])] == [{1}]


def test_why_there_is_no_snapshot_is_told(start, key):
    running, without = start(snapshot_key=key), start()
    with MaskStreamClient(without.server.listen) as client, client.open() as stream:
        with pytest.raises(RequestRefused) as caught:
            stream.snapshot()
        assert caught.value.reason == "SNAPSHOTS_OFF"
    with MaskStreamClient(running.server.listen) as client, client.open() as stream:
        with pytest.raises(RequestRefused) as caught:
            stream.snapshot()
        assert caught.value.reason == "NO_OBJECTS"
        stream.close()
        with pytest.raises(StreamError, match="ended"):
            stream.snapshot()

    def silent(call):
        yield opened(call)
        call.until_gone()

    with scripted(silent) as dead, MaskStreamClient(dead.target) as client:
        stream = client.open()
        with pytest.raises(StreamError, match="silent"):
            stream.snapshot(0.1)


# ---- what is sent again --------------------------------------------------------------------------------------------


def serving(call, snapshots, frames, **granted):
    """Answers `frames` frames and so many of the snapshots that are asked for, then breaks off."""
    yield opened(call, **granted)
    while frames and (request := call.read()) is not None:
        if request.HasField("snapshot") and snapshots:
            snapshots -= 1
            yield pb.PropagateResponse(snapshot=pb.SnapshotData(seq=request.seq, state=b"state %d" % call.number))
        elif request.HasField("frame"):
            frames -= 1
            yield ack(request.seq) if request.frame.suppress_output else result(request.seq, 1)
        elif not request.HasField("snapshot"):
            yield ack(request.seq)
    if not frames:
        call.refuse(grpc.StatusCode.UNAVAILABLE)


def frames_of(call):
    """What a server was sent: (is its answer wanted, does it prompt) of each frame."""
    frames = [request.frame for request in call.seen if request.HasField("frame")]
    return [(not frame.suppress_output, bool(frame.prompts.objects)) for frame in frames]


def followed(server, frames=12, prompts=(0,), **options):
    """All answers of a stream through this server, and what it was asked to open."""
    options = {"max_in_flight": 1, "snapshot_every": 0.001, **options}
    with MaskStreamClient(server.target) as client, client.open(**options) as stream:
        pace = (SMALL for _ in range(frames) if time.sleep(0.005) is None)
        answers = list(stream.propagate(pace, {i: [Prompt(1, EVERYWHERE)] for i in prompts}))
    assert sorted(answer.index for answer in answers) == list(range(frames))
    return answers, [call.seen[0].open.resume_state for call in server.calls]


def test_what_was_answered_since_the_snapshot_is_sent_again_without_output():
    def first(call):
        yield from serving(call, 1, 6)

    def second(call):
        yield from serving(call, 0, 99, resumed=True)

    with scripted(first, second) as server:
        answers, states = followed(server, prompts=(0, 3))
        assert [answer.index for answer in answers] == list(range(12))
    assert states == [b"", b"state 0"]
    seen = frames_of(server.calls[1])
    asked_at = next(i for i, request in enumerate(server.calls[0].seen) if request.HasField("snapshot"))
    known = sum(request.HasField("frame") for request in server.calls[0].seen[:asked_at])
    assert len(seen) == 12 - known, "everything since the snapshot, nothing twice"
    assert seen == [(index >= 6, index == 3) for index in range(known, 12)]


def test_of_a_live_stream_the_last_answered_frame_and_prompts_are_enough():
    def first(call):
        yield from serving(call, 1, 9)

    def second(call):
        yield from serving(call, 0, 99, resumed=True)

    with scripted(first, second) as server:
        _, states = followed(server, prompts=(0, 5), delivery="latest")
    assert states == [b"", b"state 0"]
    silent = [prompts for wanted, prompts in frames_of(server.calls[1]) if not wanted]
    assert silent == [True, False]


def test_a_snapshot_that_is_refused_is_replaced_by_the_last_masks():
    def first(call):
        yield from serving(call, 1, 6)

    def refuses(call):
        call.read()
        call.refuse(grpc.StatusCode.FAILED_PRECONDITION, maskstream_reason="SNAPSHOT_INVALID")
        yield

    def third(call):
        yield from serving(call, 0, 99)

    with scripted(first, refuses, third) as server:
        answers, states = followed(server)
        assert [answer.index for answer in answers] == list(range(12))
    assert states == [b"", b"state 0", b""]
    assert frames_of(server.calls[2]) == [(False, True)] + 6 * [(True, False)], "an introduction, then the rest"


def test_a_server_that_ignores_the_snapshot_is_introduced_to_the_objects():
    def first(call):
        yield from serving(call, 1, 6)

    def second(call):
        yield from serving(call, 0, 99, resumed=False)

    with scripted(first, second) as server:
        followed(server)
    assert frames_of(server.calls[1])[0] == (False, True)


def test_a_second_break_in_the_middle_of_sending_again():
    def first(call):
        yield from serving(call, 1, 6)

    def second(call):
        yield from serving(call, 0, 2, resumed=True)

    def third(call):
        yield from serving(call, 0, 99, resumed=True)

    with scripted(first, second, third) as server:
        answers, states = followed(server)
        assert [answer.index for answer in answers] == list(range(12))
    assert states == [b"", b"state 0", b"state 0"]
    seen = frames_of(server.calls[2])
    assert seen == [(index >= 6, False) for index in range(12 - len(seen), 12)]
    assert len(seen) > 6, "what the second server had not caught up with is sent to the third"


def test_a_server_that_drains_is_asked_for_a_last_snapshot():
    def drains(call):
        yield opened(call)
        for request in itertools.islice(call.frames(), 5):
            yield result(request.seq, 1)
        yield pb.PropagateResponse(draining=pb.Draining())
        while (request := call.read()) is not None:
            if request.HasField("frame"):
                yield result(request.seq, 1)
            elif request.HasField("snapshot"):
                yield pb.PropagateResponse(snapshot=pb.SnapshotData(seq=request.seq, state=b"the last"))
        yield pb.PropagateResponse(closed=pb.Closed())

    def second(call):
        yield from serving(call, 0, 99, resumed=True)

    with scripted(drains, second) as server:
        with MaskStreamClient(server.target) as client, client.open(snapshot_every=1000.0) as stream:
            answers = list(stream.propagate([SMALL] * 20, {0: [Prompt(1, EVERYWHERE)]}))
        assert [answer.index for answer in answers] == list(range(20))
        assert server.calls[0].seen[-1].HasField("snapshot")
        assert server.calls[1].seen[0].open.resume_state == b"the last"
        assert all(wanted for wanted, _ in frames_of(server.calls[1]))


@pytest.mark.parametrize("reason", ["SNAPSHOTS_OFF", "SNAPSHOT_TOO_LARGE"])
def test_a_server_that_makes_no_snapshots_is_not_asked_again_and_nothing_is_kept(reason):
    def refuses(call):
        yield opened(call)
        while (request := call.read()) is not None:
            yield error(request.seq, reason) if request.HasField("snapshot") else result(request.seq, 1)

    with scripted(refuses) as server:
        answers, _ = followed(server)
        assert all(answer.error is None for answer in answers)
        assert sum(request.HasField("snapshot") for request in server.calls[0].seen) == 1


def test_a_server_that_says_it_makes_none_is_not_asked(running):
    with MaskStreamClient(running.server.listen) as client, client.open(snapshot_every=0.001) as stream:
        assert len(list(stream.propagate([picture()] * 10, {0: [Prompt(1, A)]}))) == 10
    assert running.sample("requests_refused_total", reason="SNAPSHOTS_OFF") == 0


def test_memory_is_bounded_by_asking_for_a_newer_snapshot(start, key, monkeypatch):
    monkeypatch.setattr(client_journal, "MOST_KEPT_FRAMES", 10)
    monkeypatch.setattr(client_link, "_HEAVY_PAUSE_SECONDS", 0.0)
    running = start(snapshot_key=key)
    kept = []
    with MaskStreamClient(running.server.listen) as client, client.open(snapshot_every=1000.0) as stream:
        stream.send(picture(), [Prompt(1, A)])
        stream._link.ask_for_snapshot().result(TIMEOUT)
        for _ in stream.propagate([picture()] * 150):
            kept.append(len(stream._link.journal._sent))
    assert max(kept) < 10 + 3 * stream.max_in_flight
    assert running.sample("snapshots_total", outcome="made") >= 5


@pytest.mark.parametrize("delivery", ["lossless", "latest"])
def test_without_snapshots_only_what_is_unanswered_is_kept(running, delivery):
    with MaskStreamClient(running.server.listen) as client, client.open(delivery=delivery) as stream:
        for _ in stream.propagate([picture()] * 50, {0: [Prompt(1, A)]}):
            assert len(stream._link.journal._sent) <= stream.max_in_flight
    assert stream._link.journal._sent == []


def test_another_key_on_the_other_server_costs_no_frame(start, key, tmp_path):
    other_key = tmp_path / "other"
    other_key.write_bytes(b"fedcba9876543210" * 2)
    other_key.chmod(0o600)
    first, second = start(snapshot_key=key), start(snapshot_key=other_key)
    with relay(first.server.listen) as way, MaskStreamClient(way.target) as client:
        stream = client.open(snapshot_every=0.01)
        answers = stream.propagate([picture()] * 60, {0: [Prompt(1, A), Prompt(2, B)]})
        got = list(itertools.islice(answers, 20))
        eventually(lambda: first.sample("snapshots_total", outcome="made") >= 1)
        way.to = second.server.listen
        way.cut()
        got += answers
        stream.close()
    assert [answer.index for answer in got] == list(range(60))
    assert all(ids(answer) == {1, 2} for answer in got)
    assert second.sample("resumes_total", outcome="refused") == 1

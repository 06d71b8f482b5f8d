"""Pace of a stream: slow callers, silent servers, what is tried again; nothing hangs and no thread is left."""

import itertools
import threading
import time

import grpc
import numpy as np
import pytest
from scripted import ack, opened, result, scripted
from served import TIMEOUT, eventually, picture, square

from maskstream import client_opening
from maskstream.client import MaskStreamClient, Prompt
from maskstream.errors import AccessError, ServerUnavailable, StreamError

A = square(16, 16)
START = {0: [Prompt(1, A)]}
SMALL = np.zeros((4, 8, 3), np.uint8)


def our_threads():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("maskstream-")]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    eventually(lambda: our_threads() == [], 10)


@pytest.fixture
def client(running):
    with MaskStreamClient(running.server.listen) as client:
        yield client


# ---- pace ----------------------------------------------------------------------------------------------------------


def test_a_slow_caller_slows_a_lossless_stream(running, client):
    taken = itertools.count()
    frames = (picture() for _ in taken)
    with client.open(max_in_flight=2) as stream:
        answers = stream.propagate(itertools.islice(frames, 60), START)
        for index in range(10):
            assert next(answers).index == index
            time.sleep(0.03)
        assert running.sample("frames_total", outcome="answered") <= 10 + 4
        assert len(list(answers)) == 50


def test_results_ahead_is_what_the_server_may_work_ahead(running, client):
    with client.open(results_ahead=2, max_in_flight=8) as stream:
        answers = stream.propagate([picture()] * 30, START)
        for index in range(10):
            assert next(answers).index == index
            time.sleep(0.02)
            assert running.sample("frames_total", outcome="answered") <= index + 2
        assert [answer.index for answer in answers] == list(range(10, 30))


@pytest.mark.parametrize("delivery", ["lossless", "latest"])
def test_results_ahead_step_by_step(client, delivery):
    with client.open(results_ahead=1, max_in_flight=4, delivery=delivery) as stream:
        for index in range(4):
            assert stream.send(picture(), [Prompt(1, A)]) == index
        answers = stream.answers()
        assert [next(answers).index for _ in range(2)] == [0, 1]
        assert stream.close(TIMEOUT).answered == 4, "closing lets all that is there come"
        assert [answer.index for answer in answers] == [2, 3]


def test_a_slow_caller_of_a_live_stream_gets_fresh_masks(running):
    started, stop = time.monotonic(), threading.Event()

    def camera():
        while not stop.wait(0.01):
            yield picture(), time.monotonic() - started

    with MaskStreamClient(running.server.listen) as client, client.open(delivery="latest", results_ahead=1) as stream:
        ages, indices = [], []
        for answer in stream.propagate(camera(), START):
            indices.append(answer.index)
            if answer.id_map is not None and not stop.is_set():
                ages.append(time.monotonic() - started - answer.pts)
                time.sleep(0.25)
                if len(ages) == 6:
                    stop.set()
    assert sorted(indices) == list(range(max(indices) + 1)), "what was dropped is told"
    assert np.median(ages) < 0.15, f"answers to frames that were {ages} s old"


def test_send_says_so_when_results_wait_to_be_taken(client):
    with client.open(results_ahead=1, max_in_flight=2, answer_timeout_seconds=0.3) as stream:
        with pytest.raises(StreamError, match="take `answers`") as caught:
            list(map(stream.send, [picture()] * 5, [START[0]] * 5))
        assert caught.value.reason == "NO_CREDIT"
        assert next(stream.answers()).index == 0


def test_batch_size_and_drops_are_in_the_answer(running, client):
    with client.open() as stream:
        (answer,) = stream.propagate([picture()], START)
    assert (answer.batch_size, answer.dropped_since_last) == (1, 0)
    running.networks.delay_seconds = 0.03
    with client.open(delivery="latest", max_in_flight=8) as stream:
        stream.send(picture(), START[0])
        for _ in range(8):
            stream.send(picture())
        stream.close(TIMEOUT)
        told = list(stream.answers())
    dropped = sum(answer.dropped is not None for answer in told)
    assert dropped > 0
    assert sum(answer.dropped_since_last for answer in told) == dropped


# ---- servers that are silent, or say no ----------------------------------------------------------------------------


def silent(call):
    """Opens, takes frames, answers none."""
    yield opened(call)
    call.until_gone()


def test_a_server_that_never_answers_is_left_for_another(running):
    with scripted(silent) as dead:
        targets = f"{dead.target},{running.server.listen}"
        with MaskStreamClient(targets) as client, client.open(answer_timeout_seconds=0.3) as stream:
            answers = list(stream.propagate([picture()] * 10, START))
        assert [answer.index for answer in answers] == list(range(10))
        assert len(dead.calls) == 1


def test_a_server_that_never_answers_is_an_error_where_there_is_no_other():
    with scripted(silent) as dead, MaskStreamClient(dead.target) as client:
        with client.open(answer_timeout_seconds=0.2, resumes=1) as stream:
            frames = (SMALL for _ in itertools.count())
            with pytest.raises(ServerUnavailable, match=r"silent for 0\.2 s") as caught:
                list(stream.propagate(frames))
        assert caught.value.reason == "NO_ANSWER"
        with client.open(answer_timeout_seconds=0.2) as stream:
            with pytest.raises(StreamError, match="ended"):
                list(map(stream.send, [SMALL] * 9))
            with pytest.raises(ServerUnavailable, match="silent"):
                next(stream.answers())


def test_a_live_camera_does_not_hide_a_silent_server(running):
    pace = threading.Event()
    frames = (picture() for _ in range(80) if not pace.wait(0.01))
    with scripted(silent) as dead, MaskStreamClient([dead.target, running.server.listen]) as client:
        stream = client.open(answer_timeout_seconds=0.3, delivery="latest")
        answers = list(stream.propagate(frames, START))
    assert sorted(answer.index for answer in answers) == list(range(80))
    assert any(answer.id_map is not None for answer in answers)


def test_a_server_that_does_not_open_the_stream_is_left_for_another(running, monkeypatch):
    monkeypatch.setattr(client_opening, "_OPEN_SECONDS", 0.3)

    def mute(call):
        call.until_gone()
        yield from ()

    with scripted(mute) as dead:
        with MaskStreamClient([dead.target, running.server.listen]) as client, client.open() as stream:
            assert len(list(stream.propagate([picture()] * 3, START))) == 3
        with MaskStreamClient(dead.target) as client, pytest.raises(ServerUnavailable, match="not answered"):
            client.open()


def test_the_pause_that_a_server_asks_for_is_kept():
    times = []

    def full(call):
        times.append(time.monotonic())
        call.refuse(grpc.StatusCode.UNAVAILABLE, maskstream_reason="SERVER_FULL", maskstream_retry_after_ms="400")
        yield

    def dies(call):
        yield opened(call)
        call.refuse(grpc.StatusCode.UNAVAILABLE)

    def serves(call):
        times.append(time.monotonic())
        yield opened(call)
        for request in call.frames():
            yield result(request.seq)

    with scripted(dies, full, serves) as server, MaskStreamClient(server.target) as client, client.open() as stream:
        assert len(list(stream.propagate([SMALL]))) == 1
    assert 0.4 <= times[1] - times[0] < 2.0


@pytest.mark.parametrize("code", ["INTERNAL", "UNKNOWN", "CANCELLED", "UNAVAILABLE"])
def test_a_status_that_is_not_our_servers_is_a_broken_connection(code):
    def breaks(call):
        yield opened(call)
        request = next(call.frames())
        yield result(request.seq)
        call.refuse(grpc.StatusCode[code])

    def serves(call):
        yield opened(call)
        for request in call.frames():
            yield result(request.seq)

    with scripted(breaks, serves) as server, MaskStreamClient(server.target) as client, client.open() as stream:
        assert [answer.index for answer in stream.propagate([SMALL] * 5)] == list(range(5))


@pytest.mark.parametrize(("code", "reason"), [("UNAUTHENTICATED", "TOKEN_INVALID"), ("INTERNAL", "ENGINE_FAILED")])
def test_what_would_not_help_is_not_tried_again(code, reason):
    def breaks(call):
        yield opened(call)
        call.refuse(grpc.StatusCode[code], maskstream_reason=reason)

    with scripted(breaks) as server, MaskStreamClient(server.target) as client, client.open() as stream:
        answers = stream.propagate([SMALL] * 5)
        with pytest.raises(StreamError) as caught:
            list(answers)
        assert caught.value.reason == reason
        assert len(server.calls) == 1
        with pytest.raises(StreamError):  # it is told again to whoever asks again
            list(stream.answers())


def test_prompts_without_an_answer_are_sent_again_exactly_once():
    def breaks(call):
        yield opened(call)
        frames = call.frames()
        yield result(next(frames).seq, 1)
        yield result(next(frames).seq, 1)
        next(frames)
        call.refuse(grpc.StatusCode.UNAVAILABLE)

    def serves(call):
        yield opened(call)
        for request in call.frames():
            yield ack(request.seq) if request.frame.suppress_output else result(request.seq, 1, 5)

    prompts = {i: [Prompt(5, np.ones((4, 8), np.uint8))] for i in (1, 2, 6)}
    with scripted(breaks, serves) as server, MaskStreamClient(server.target) as client, client.open() as stream:
        assert [answer.index for answer in stream.propagate([SMALL] * 8, prompts)] == list(range(8))
        second = [request.frame for request in server.calls[1].seen if request.HasField("frame")]
    told = [[prompt.object_id for prompt in frame.prompts.objects] for frame in second]
    assert told == [[1], [5], [], [], [], [5], []], "object 1 where it was last seen, then frames 2 to 7"
    assert [frame.suppress_output for frame in second] == [True] + 6 * [False]


def test_a_token_that_cannot_be_read_is_said(running):
    def token():
        raise AccessError("the token file is gone")

    with MaskStreamClient(running.server.listen, token=token) as client, pytest.raises(AccessError, match="gone"):
        client.open()


def test_targets_are_tried_in_turn_and_the_one_that_works_is_kept(start):
    full, free = start(max_streams=1), start()
    with MaskStreamClient(f"127.0.0.1:1,{full.server.listen},{free.server.listen}") as client:
        with client.open(), client.open(), client.open() as third:
            assert (full.sample("streams_active"), free.sample("streams_active")) == (1, 2)
            assert len(list(third.propagate([picture()], START))) == 1
        assert client.info().model == "fake"
    for nothing in ("", "a:1,", []):
        with pytest.raises(ValueError, match="HOST:PORT"):
            MaskStreamClient(nothing)


def test_options_that_make_no_sense_are_refused(client):
    for wrong in ({"results_ahead": -1}, {"snapshot_every": 0.0}, {"answer_timeout_seconds": -1.0}, {"image": "gif"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            client.open(**wrong)


def test_a_busy_engine_is_waited_for(start):
    running = start()
    running.networks.delay_seconds = 0.4
    with MaskStreamClient(running.server.listen) as client, client.open(answer_timeout_seconds=1.0) as stream:
        assert len(list(stream.propagate([picture()] * 4, START))) == 4
    assert running.sample("streams_total", end_reason="closed") == 1

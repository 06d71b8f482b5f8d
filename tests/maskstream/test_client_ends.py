"""Ends of a stream: closing, Ctrl-C, a source that fails, a generator that is forgotten; no thread is left."""

import itertools
import signal
import threading
import time

import pytest
from served import TIMEOUT, eventually, picture, square

from maskstream.client import MaskStreamClient, Prompt
from maskstream.errors import StreamError

A = square(16, 16)
START = {0: [Prompt(1, A)]}


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


def test_a_caller_who_stops_in_the_middle_can_go_on_with_another_video(running, client):
    with client.open() as stream:
        for _ in range(5):
            answers = stream.propagate((picture() for _ in itertools.count()), START)
            assert next(answers).index == 0
            answers.close()
        assert [answer.index for answer in stream.propagate([picture()] * 9, START)] == list(range(9))
        assert stream.close(TIMEOUT).refused == 0


def test_a_generator_that_is_forgotten_ends_by_itself(client):
    with client.open() as stream:
        answers = stream.propagate((picture() for _ in itertools.count()), START)
        next(answers)
        del answers
        eventually(lambda: our_threads() == ["maskstream-answers"], 10)
        stream.propagate([picture()])  # never begun: there is nothing to end
        assert our_threads() == ["maskstream-answers"]


@pytest.mark.parametrize("failure", [OSError("unplugged"), KeyboardInterrupt("in the source"), SystemExit("bye")])
def test_whatever_the_source_of_frames_raises_comes_out(client, failure):
    def camera():
        yield picture()
        raise failure

    with client.open() as stream:
        with pytest.raises(type(failure), match=str(failure)):
            list(stream.propagate(camera(), START))
        assert len(list(stream.propagate([picture()], START))) == 1, "the stream is as it was"


def test_another_thread_closes_the_stream(running, client):
    stream, got, begun = client.open(), [], threading.Event()

    def consume():
        for answer in stream.propagate((picture() for _ in itertools.count()), START):
            got.append(answer)
            begun.set()

    consumer = threading.Thread(target=consume)
    consumer.start()
    assert begun.wait(TIMEOUT)
    counts = stream.close(TIMEOUT)
    consumer.join(TIMEOUT)
    assert not consumer.is_alive()
    assert [answer.index for answer in got] == list(range(len(got)))
    masks = [answer for answer in got if answer.id_map is not None]
    assert {answer.dropped for answer in got[len(masks) :]} <= {"CLOSED"}
    assert counts.answered == len(masks), "the server's answers all arrived"
    with pytest.raises(StreamError, match="ended"):
        next(stream.propagate([picture()]))
    with pytest.raises(StreamError, match="ended"):
        stream.remove([1])


def test_what_arrived_before_the_end_is_not_dropped_by_closing(client, monkeypatch):
    """The call's end may be known while answers still wait to be looked at."""
    stream, got, begun = client.open(), [], threading.Event()
    next_event = stream._link.next_event

    def event_after_the_end():
        event = next_event()
        if stream._link.is_closed:
            assert stream._link.call.ended.wait(TIMEOUT)
        return event

    def consume():
        for answer in stream.propagate((picture() for _ in itertools.count()), START):
            got.append(answer)
            begun.set()

    monkeypatch.setattr(stream._link, "next_event", event_after_the_end)
    consumer = threading.Thread(target=consume)
    consumer.start()
    assert begun.wait(TIMEOUT)
    counts = stream.close(TIMEOUT)
    consumer.join(TIMEOUT)
    assert counts.answered == sum(answer.id_map is not None for answer in got)


@pytest.mark.parametrize("way", ["stream", "client"])
def test_closing_ends_a_stream_that_is_looking_for_a_server(start, way):
    running = start()
    client = MaskStreamClient(running.server.listen)
    stream, outcome = client.open(), []

    def consume():
        try:
            outcome.extend(stream.propagate([picture()] * 500, START))
        except StreamError as error:
            outcome.append(error)

    consumer = threading.Thread(target=consume)
    consumer.start()
    eventually(lambda: running.sample("frames_total", outcome="answered") > 3)
    running.run(running.server.stop())
    running.running = False
    eventually(lambda: "maskstream-reopening" in our_threads())
    started = time.monotonic()
    stream.close() if way == "stream" else client.close()
    consumer.join(TIMEOUT)
    assert time.monotonic() - started < 6
    if way == "stream":
        assert outcome[-1].dropped == "CLOSED"
    else:
        assert outcome[-1].reason == "CLOSED"
    client.close()


def test_ctrl_c_leaves_nothing_behind(running):
    main = threading.main_thread()
    running.networks.gate.clear()
    with MaskStreamClient(running.server.listen) as client:
        stream = client.open()
        threading.Timer(0.3, lambda: signal.pthread_kill(main.ident, signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt), stream:
            list(stream.propagate((picture() for _ in itertools.count()), START))
    running.networks.gate.set()
    eventually(lambda: running.sample("streams_active") == 0)


def test_closing_a_client_ends_its_streams(running):
    client = MaskStreamClient(running.server.listen)
    stream = client.open()
    answers = stream.propagate((picture() for _ in itertools.count()), START)
    next(answers)
    client.close()
    started = time.monotonic()
    with pytest.raises(StreamError, match="CLOSED"):
        list(answers)
    assert time.monotonic() - started < 5
    with pytest.raises(StreamError, match="CLOSED"):
        client.open()

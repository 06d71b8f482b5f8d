"""A stream of a load against a real server with fake networks: what it sends, when, and what it notes."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing

import pytest
from fakes import FakeNetworks
from served import Running, Start, eventually

from maskstream.errors import ServerFull
from maskstream.load.encoded_clip import EncodedClip, encoded_clip
from maskstream.load.endpoint import Endpoint
from maskstream.load.frame_record import ANSWERED, DROPPED, LOST, NOT_SENT, StreamRecord
from maskstream.load.plan import ClosedLoop, OpenLoop
from maskstream.load.stream_load import StreamLoad, StreamWishes, opened_stream

WAIT = 20  # seconds; reached by no test that passes
LOSSLESS, LATEST = StreamWishes("lossless"), StreamWishes("latest")


@pytest.fixture(scope="module")
def clip() -> EncodedClip:
    return encoded_clip((64, 96), 1)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


@pytest.fixture
def stack(pool: ThreadPoolExecutor) -> Iterator[ExitStack]:
    """Ends before the pool, so that a stream that hangs fails its test and no more."""
    with ExitStack() as stack:
        yield stack


def opened(stack: ExitStack, server: Running, wishes: StreamWishes, clip: EncodedClip) -> StreamLoad:
    return opened_stream(stack, Endpoint(server.server.listen), wishes, clip)


def test_a_lossless_stream_has_every_frame_answered_and_both_counts_agree(running, stack, clip) -> None:
    record = opened(stack, running, LOSSLESS, clip).run(OpenLoop(time.perf_counter(), 0.0, 100.0, 40))
    assert record.count(ANSWERED) == 40
    assert (record.error, record.disagreement, record.surplus_answers, record.disorder) == ("", "", 0, 0)
    assert record.closed.frames_in == 40
    assert all(len(frame.stages) == 9 and frame.batch_size == 1 for frame in record.frames)
    assert all(0 < frame.stages[-1] <= frame.latency for frame in record.frames), "the server's total is part of ours"


def test_frames_leave_when_they_are_due(running, stack, clip) -> None:
    started = time.perf_counter() + 0.1
    record = opened(stack, running, LOSSLESS, clip).run(OpenLoop(started, 0.5, 20.0, 10))
    assert [frame.due - started for frame in record.frames] == pytest.approx([0.025 + 0.05 * i for i in range(10)])
    assert all(frame.sent >= frame.due for frame in record.frames)


def test_a_server_that_stops_delays_all_frames_due_meanwhile(start: Start, stack, pool, clip) -> None:
    """Coordinated omission: a client that waits for answers would note one slow frame."""
    networks = FakeNetworks()
    server = start(networks)
    stream = opened(stack, server, StreamWishes("lossless", max_in_flight=1), clip)
    networks.gate.clear()
    run = pool.submit(stream.run, OpenLoop(time.perf_counter(), 0.0, 20.0, 20))
    time.sleep(0.6)
    networks.gate.set()
    record = run.result(WAIT)
    assert record.count(ANSWERED) == 20
    slow = [frame.latency for frame in record.frames if frame.due < record.frames[0].due + 0.5]
    assert len(slow) == 10
    assert all(latency > 0.6 - 0.05 * index - 0.05 for index, latency in enumerate(slow))


def test_a_live_stream_learns_of_every_drop(start: Start, stack, clip) -> None:
    server = start(FakeNetworks(delay_seconds=0.05))
    record = opened(stack, server, LATEST, clip).run(OpenLoop(time.perf_counter(), 0.0, 100.0, 60))
    assert record.count(DROPPED) > 20
    assert record.reasons(DROPPED).keys() == {"SUPERSEDED"}
    assert record.count(ANSWERED) + record.count(DROPPED) + record.count(NOT_SENT) == 60
    assert record.count(LOST) == 0
    assert record.disagreement == ""


def test_old_frames_are_dropped_when_asked(start: Start, stack, pool, clip) -> None:
    networks = FakeNetworks()
    stream = opened(stack, start(networks), StreamWishes("latest", max_frame_age_seconds=0.1), clip)
    networks.gate.clear()
    run = pool.submit(stream.run, OpenLoop(time.perf_counter(), 0.0, 50.0, 10))
    time.sleep(0.5)
    networks.gate.set()
    assert run.result(WAIT).reasons(DROPPED)["TOO_OLD"] >= 1


def test_a_live_frame_without_room_gives_way_to_the_next_and_is_counted(start: Start, stack, pool, clip) -> None:
    networks = FakeNetworks()
    stream = opened(stack, start(networks), StreamWishes("latest", max_in_flight=1), clip)
    networks.gate.clear()
    run = pool.submit(stream.run, OpenLoop(time.perf_counter(), 0.0, 50.0, 20))
    time.sleep(0.3)
    networks.gate.set()
    record = run.result(WAIT)
    assert record.reasons(NOT_SENT)["IN_FLIGHT"] >= 8
    assert record.frames[-1].outcome == ANSWERED
    assert record.closed.frames_in == 20 - record.count(NOT_SENT)


def test_frames_of_a_stream_that_fails_are_lost_or_not_sent(start: Start, stack, clip) -> None:
    networks = FakeNetworks(delay_seconds=0.02)
    stream = opened(stack, start(networks), LOSSLESS, clip)
    threading.Timer(0.3, lambda: setattr(networks, "failure", RuntimeError("broken"))).start()
    record = stream.run(OpenLoop(time.perf_counter(), 0.0, 50.0, 50))
    assert record.error == "ENGINE_FAILED"
    assert record.count(LOST) >= 1
    assert record.reasons(NOT_SENT) == {"ENGINE_FAILED": record.count(NOT_SENT)}
    assert record.count(ANSWERED) + record.count(LOST) + record.count(NOT_SENT) == len(record.frames) == 50


def test_a_stream_that_cannot_open_sends_nothing(start: Start, stack, clip) -> None:
    server = start(max_streams=1)
    opened(stack, server, LOSSLESS, clip)
    second = StreamLoad(stack.enter_context(closing(Endpoint(server.server.listen).channel())), LOSSLESS, clip)
    with pytest.raises(ServerFull):
        second.open()
    record = second.refuse(OpenLoop(0.0, 0.0, 10.0, 7), "SERVER_FULL")
    assert record.reasons(NOT_SENT) == {"SERVER_FULL": 7}


def test_a_draining_server_is_left(start: Start, stack, pool, clip) -> None:
    server = start()
    run: Future[StreamRecord] = pool.submit(
        opened(stack, server, LOSSLESS, clip).run, OpenLoop(time.perf_counter(), 0.0, 100.0, 2000)
    )
    time.sleep(0.3)
    server.start_drain().result(WAIT)
    record = run.result(WAIT)
    assert record.draining
    assert record.error == ""
    assert record.count(LOST) == 0
    assert 0 < record.count(ANSWERED) < 500
    assert record.reasons(NOT_SENT) == {"DRAINING": 2000 - record.count(ANSWERED)}


def test_finish_answers_what_is_sent_and_cancel_does_not(start: Start, stack, pool, clip) -> None:
    networks = FakeNetworks(delay_seconds=0.02)
    server = start(networks)
    streams = [opened(stack, server, LOSSLESS, clip) for _ in range(2)]
    runs = [pool.submit(stream.run, ClosedLoop(until=float("inf"))) for stream in streams]
    eventually(lambda: all(len(stream.record.frames) > 5 for stream in streams))
    streams[0].finish()
    assert runs[0].result(WAIT).count(ANSWERED) == len(streams[0].record.frames)
    networks.gate.clear()
    streams[1].cancel()
    cancelled = runs[1].result(WAIT)
    networks.gate.set()
    assert cancelled.error == "CANCELLED"
    assert cancelled.count(LOST) >= 1

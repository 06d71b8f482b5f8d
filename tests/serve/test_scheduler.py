"""The engine thread: who gets the next turn, and what a failure and an end do."""

import gc
import threading
import weakref

import pytest
from fakes import FakeNetworks

from serve.metrics import Identity
from serve.model import Model
from serve.scheduler import Scheduler


class Turns:
    """A stream with a number of turns to take."""

    def __init__(self, name, turns, log, size=(64, 96), model=None):
        self.name, self.turns, self.log, self.size = name, turns, log, size
        self.model = model or Model(FakeNetworks(), Identity("", "", "", "", ""))
        self.batches = []
        self.failure = self.failed = None
        self.released = threading.Event()

    @property
    def ready(self):
        return self.turns > 0

    @property
    def company(self):
        return self.size

    def begin_turn(self):
        self.turns -= 1
        self.log.append(self.name)
        return self.step() if self.size else None

    def step(self):
        if self.failure:
            raise self.failure
        yield from ()
        return self.name

    def finish_turn(self, finished, batch_size):
        self.batches.append(batch_size)
        if finished.error:
            raise finished.error
        assert finished.result == self.name

    def fail(self, error):
        self.failed = error

    def release(self):
        self.released.set()


@pytest.fixture
def scheduler():
    scheduler = Scheduler()
    yield scheduler
    scheduler.stop(5)
    assert not scheduler.alive


def finish(scheduler):
    """Wait until no stream has anything to do."""
    while scheduler.ready_streams:
        scheduler.run(lambda: None).result(5)


def test_the_stream_that_waited_longest_goes_next(scheduler):
    log = []
    for name, turns in (("busy", 6), ("b", 2), ("c", 2)):
        scheduler.add(Turns(name, turns, log))
    scheduler.start()
    finish(scheduler)
    assert log == ["busy", "b", "c", "busy", "b", "c", "busy", "busy", "busy", "busy"]


def test_a_failure_ends_its_stream_and_no_other(scheduler, caplog):
    log = []
    bad, good = Turns("bad", 3, log), Turns("good", 3, log)
    bad.failure = RuntimeError("broken")
    scheduler.add(bad)
    scheduler.add(good)
    scheduler.start()
    while good.turns:
        scheduler.run(lambda: None).result(5)
    assert bad.failed is bad.failure
    assert log.count("bad") == 1
    assert log.count("good") == 3


def test_memory_is_given_back_on_the_engine_thread_before_done(scheduler):
    stream, done = Turns("a", 0, []), threading.Event()
    scheduler.start()
    scheduler.add(stream)
    scheduler.retire(stream, done.set)
    assert done.wait(5)
    assert stream.released.is_set()


def test_what_is_retired_before_the_stop_is_still_released(scheduler):
    stream = Turns("a", 0, [])
    scheduler.retire(stream, lambda: None)
    scheduler.start()
    scheduler.stop(5)
    assert stream.released.is_set()


def test_a_job_runs_on_the_engine_thread_and_its_error_reaches_the_caller(scheduler):
    scheduler.start()
    names = []
    scheduler.run(lambda: names.append(threading.current_thread().name)).result(5)
    assert names == ["engine"]
    with pytest.raises(ZeroDivisionError):
        scheduler.run(lambda: 1 // 0).result(5)


def test_a_long_turn_shows(scheduler):
    gate, inside = threading.Event(), threading.Event()
    scheduler.start()
    stream = Turns("a", 1, [])
    stream.begin_turn = lambda: (inside.set(), gate.wait(5), setattr(stream, "turns", 0))[3:] or None
    scheduler.add(stream)
    scheduler.wake()
    assert inside.wait(5)
    assert scheduler.turn_seconds > 0
    gate.set()
    finish(scheduler)
    scheduler.run(lambda: None).result(5)
    assert scheduler.turn_seconds == 0
    assert scheduler.busy_seconds > 0


def test_streams_of_one_company_share_a_turn_in_the_order_of_their_waiting(scheduler):
    log = []
    model = Model(FakeNetworks(), Identity("", "", "", "", ""), max_batch=4)
    streams = {name: Turns(name, 2, log, size, model) for name, size in zip("abcdef", (1, 2, 1, 1, 1, 1), strict=True)}
    for stream in streams.values():
        scheduler.add(stream)
    scheduler.start()
    finish(scheduler)
    assert "".join(log) == "-acde-b-facd-ef-b".replace("-", "")
    assert streams["a"].batches == [4, 4]
    assert streams["b"].batches == [1, 1]


def test_batches_are_powers_of_two_and_leave_nobody_behind(scheduler):
    log = []
    model = Model(FakeNetworks(), Identity("", "", "", "", ""), max_batch=8)
    streams = [Turns(name, 3, log, 1, model) for name in "abcdefg"]
    for stream in streams:
        scheduler.add(stream)
    scheduler.start()
    finish(scheduler)
    assert {size for stream in streams for size in stream.batches} <= {1, 2, 4, 8}
    assert all(len(stream.batches) == 3 for stream in streams)


def test_models_are_never_mixed_in_a_batch(scheduler):
    old, new = (Model(FakeNetworks(), Identity("", "", "", "", ""), max_batch=4) for _ in range(2))
    streams = [Turns(name, 1, [], (id(model), 1), model) for name, model in zip("abcd", (old, new) * 2, strict=True)]
    for stream in streams:
        scheduler.add(stream)
    scheduler.start()
    finish(scheduler)
    assert [stream.batches for stream in streams] == [[2]] * 4


def test_the_stream_that_fails_in_a_batch_fails_alone(scheduler, caplog):
    model = Model(FakeNetworks(), Identity("", "", "", "", ""), max_batch=4)
    streams = [Turns(name, 2, [], 1, model) for name in "abcd"]
    streams[1].failure = RuntimeError("broken")
    for stream in streams:
        scheduler.add(stream)
    scheduler.start()
    finish(scheduler)
    assert [stream.failed for stream in streams] == [None, streams[1].failure, None, None]
    assert [len(stream.batches) for stream in streams] == [2, 1, 2, 2]
    assert scheduler.failures == 1


def test_a_stream_that_has_gone_is_not_kept_alive_by_a_thread_that_waits(scheduler):
    scheduler.start()
    stream = Turns("a", 1, [])
    gone = weakref.ref(stream)
    scheduler.add(stream)
    finish(scheduler)
    released = threading.Event()
    scheduler.retire(stream, released.set)
    assert released.wait(5)
    del stream
    scheduler.run(lambda: None).result(5)
    gc.collect()
    assert gone() is None

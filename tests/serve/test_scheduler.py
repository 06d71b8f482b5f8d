"""The engine thread: who gets the next turn, and what a failure and an end do."""

import threading

import pytest

from serve.scheduler import Scheduler


class Turns:
    """A stream with a number of turns to take."""

    def __init__(self, name, turns, log):
        self.name, self.turns, self.log = name, turns, log
        self.failure = self.failed = None
        self.released = threading.Event()

    @property
    def ready(self):
        return self.turns > 0

    def take_turn(self):
        self.turns -= 1
        self.log.append(self.name)
        if self.failure:
            raise self.failure

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
    stream.take_turn = lambda: (inside.set(), gate.wait(5), setattr(stream, "turns", 0))
    scheduler.add(stream)
    scheduler.wake()
    assert inside.wait(5)
    assert scheduler.turn_seconds > 0
    gate.set()
    finish(scheduler)
    scheduler.run(lambda: None).result(5)
    assert scheduler.turn_seconds == 0
    assert scheduler.busy_seconds > 0

"""The worker's side of the pipe: what it answers, and that it leaves when nobody is at the other end."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread

import pytest

from maskstream.archive import worker
from maskstream.archive.following import Follower
from maskstream.archive.jobs import DONE, Beat, Job, Outcome, PromptSource, Ready, Refused, WorkSettings
from maskstream.errors import EngineUnavailable

JOB = Job("a", Path("a.mp4"), PromptSource(auto=1), Path("scratch/0"))
SETTINGS = WorkSettings(Path("artifact"), "fake", 1, (), Path("scratch"), "1")


class FakeFollower:
    what = "fake"

    def follow(self, job: Job, on_beat: Callable[[Beat], None]) -> Outcome:
        for frame in range(1, 4):
            on_beat(Beat(job.video, frame, 3))
        return Outcome(job, DONE, 3, 0.1)


@contextmanager
def working(
    monkeypatch: pytest.MonkeyPatch, load: Callable[[WorkSettings], object]
) -> Iterator[tuple[Connection, list]]:
    """Our end of the pipe, and where the worker's exit status will be once it has ended."""
    monkeypatch.setattr(Follower, "load", load)
    monkeypatch.setattr(worker.faulthandler, "enable", lambda: None)
    ours, theirs = Pipe()
    ended: list[int] = []
    with theirs:
        descriptor = str(os.dup(theirs.fileno()))  # the worker closes it
    thread = Thread(target=lambda: ended.append(worker.main([descriptor])))
    thread.start()
    with ours:
        yield ours, ended
    thread.join(10.0)


def test_it_answers_every_job_and_beats_no_more_than_it_must(monkeypatch: pytest.MonkeyPatch) -> None:
    with working(monkeypatch, lambda settings: FakeFollower()) as (link, ended):
        link.send(SETTINGS)
        assert link.recv() == Ready("fake")
        for _ in range(2):
            link.send(JOB)
            assert link.recv() == Beat("a", 1, 3)
            assert link.recv() == Outcome(JOB, DONE, 3, 0.1)
    assert ended == [0]


def test_what_it_cannot_load_it_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(settings: WorkSettings) -> object:
        raise EngineUnavailable("no such engine")

    with working(monkeypatch, load) as (link, ended):
        link.send(SETTINGS)
        assert link.recv() == Refused("no such engine")
    assert ended == [2]


def test_it_leaves_when_the_command_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    with working(monkeypatch, lambda settings: FakeFollower()) as (link, ended):
        link.send(SETTINGS)
        link.send(JOB)
    assert ended == [0]

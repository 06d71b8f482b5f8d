"""The actors of a cluster, through a Ray of our own making: what is asked, heard and killed.

The real one has its test in end_to_end/test_archive_ray.py.
"""

import importlib.util
import socket
import types
from pathlib import Path
from typing import Any

import pytest

from maskstream.archive import ray_crew
from maskstream.archive.jobs import (
    DONE,
    Beat,
    Died,
    Job,
    Outcome,
    PromptSource,
    Ready,
    Refused,
    WorkersFailed,
    WorkSettings,
)
from maskstream.archive.ray_crew import RayCrew, RayWorker, connect

JOB = Job("a", Path("a.mp4"), PromptSource(auto=1), Path("scratch/0"))
SETTINGS = WorkSettings(Path("artifact"), "onnxruntime", 2, ("masks",), Path("scratch"), "1")


class RayError(Exception):
    """As ray.exceptions has it."""


class Reference:
    """An answer to come: a value, an error, or nothing yet (None)."""

    def __init__(self, value: object = None) -> None:
        self.value = value


class FakeRay:
    """Remembers what was asked of each actor; the test gives the answers."""

    exceptions = types.SimpleNamespace(RayError=RayError)

    def __init__(self) -> None:
        self.options: dict[str, Any] = {}
        self.asked: list[tuple[str, Reference]] = []
        self.killed = 0

    def remote(self, **options: Any) -> Any:
        self.options = options
        return lambda kind: types.SimpleNamespace(remote=lambda settings: self.actor())

    def actor(self) -> Any:
        def method(name: str) -> Any:
            return types.SimpleNamespace(remote=lambda *arguments: self.ask(name))

        return types.SimpleNamespace(**{name: method(name) for name in ("load", "follow", "beat")})

    def ask(self, name: str) -> Reference:
        self.asked.append((name, Reference()))
        return self.asked[-1][1]

    def answer(self, name: str, value: object) -> None:
        next(reference for asked, reference in reversed(self.asked) if asked == name).value = value

    def wait(self, references: list[Reference], num_returns: int = 1, timeout: float = 0.0) -> Any:
        return [one for one in references if one.value is not None], [one for one in references if one.value is None]

    def get(self, reference: Reference) -> object:
        if isinstance(reference.value, Exception):
            raise reference.value
        return reference.value

    def kill(self, actor: object) -> None:
        self.killed += 1


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    monkeypatch.setattr(ray_crew, "_BEAT_SECONDS", 0.0)
    return FakeRay()


def test_an_actor_is_asked_to_load_to_follow_and_how_far_it_is(ray: FakeRay) -> None:
    crew = RayCrew(ray, SETTINGS, 1, gpus=0.0)
    assert ray.options == {
        "num_cpus": 2,
        "num_gpus": 0.0,
        "max_restarts": 0,
        "max_task_retries": 0,
        "max_concurrency": 2,
    }
    (slot,) = crew.slots
    slot.start()
    assert slot.hear() == []
    ray.answer("load", Ready("fake"))
    assert slot.hear() == [Ready("fake")]
    slot.give(JOB)
    assert slot.hear() == []
    ray.answer("beat", Beat("a", 3, 8))
    assert slot.hear() == [Beat("a", 3, 8)]
    outcome = Outcome(JOB, DONE, 8, 1.0)
    ray.answer("follow", outcome)
    assert slot.hear() == [outcome]
    crew.close()
    assert ray.killed == 1


def test_no_beat_is_asked_of_who_has_nothing_to_do(ray: FakeRay) -> None:
    (slot,) = RayCrew(ray, SETTINGS, 1, 0.0).slots
    slot.start()
    ray.answer("load", Ready("fake"))
    slot.hear()
    before = len(ray.asked)
    assert slot.hear() == []
    assert len(ray.asked) == before


def test_an_outcome_that_came_before_the_death_is_heard_before_it(ray: FakeRay) -> None:
    (slot,) = RayCrew(ray, SETTINGS, 1, 0.0).slots
    slot.start()
    ray.answer("load", Ready("fake"))
    slot.hear()
    slot.give(JOB)
    slot.hear()
    outcome = Outcome(JOB, DONE, 8, 1.0)
    ray.answer("follow", outcome)
    ray.answer("beat", RayError("The actor died.\nmore lines"))
    assert slot.hear() == [outcome, Died("The actor died.")]
    assert slot.asked == []
    slot.stop()
    assert ray.killed == 1


def test_what_the_actor_cannot_load_is_refused_and_not_raised(tmp_path: Path) -> None:
    assert isinstance(RayWorker(SETTINGS).load(), Refused)


def test_the_actor_tells_how_far_it_is_while_it_follows() -> None:
    worker = RayWorker(SETTINGS)

    class Follower:
        def follow(self, job: Job, on_beat: Any) -> Outcome:
            assert worker.beat() == Beat("a", 0, None)
            on_beat(Beat("a", 5, 8))
            assert worker.beat() == Beat("a", 5, 8)
            return Outcome(job, DONE, 8, 1.0)

    worker._follower = Follower()  # type: ignore[assignment]
    assert worker.follow(JOB).frames == 8


def test_without_ray_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WorkersFailed, match=r"pip install 'maskstream\[ray\]'"):
        connect("auto")


def test_where_nobody_listens_there_is_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and nobody listens
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(WorkersFailed, match=f"--ray {address}: no cluster could be reached there"):
            connect(address)

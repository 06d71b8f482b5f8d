"""Hands videos to workers, and decides what becomes of those whose worker dies or falls silent.

The rules are here once, for processes of this machine and for actors of a cluster; a crew starts, stops and listens.
A lost worker costs its video one attempt. The second attempt comes last, when there is room in memory again, perhaps.
An error that a worker reports is no loss: the same file would fail again.
"""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from pathlib import Path
from typing import Protocol

from maskstream.archive.jobs import FAILED, Beat, Died, Job, Message, Outcome, Ready, Refused, WorkersFailed

LOST, STALLED = "WORKER_LOST", "STALLED"
_LISTEN_SECONDS = 0.5  # between two looks at the clocks


class Slot(Protocol):
    """A place for one worker after the other. `stop` may be called at any time, `start` when there is none."""

    def start(self) -> None: ...
    def give(self, job: Job) -> None: ...
    def hear(self) -> list[Message]: ...
    def stop(self) -> None: ...


class Crew(Protocol):
    """All slots of a run."""

    @property
    def slots(self) -> Sequence[Slot]: ...
    def wait(self, seconds: float) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class Patience:
    """How long, and how often."""

    stall_seconds: float = 120.0  # without a frame of the video at hand
    start_seconds: float = 300.0  # to load the networks on a slow machine
    attempts: int = 2  # of a video whose worker is lost
    starts: int = 3  # in a row, of a worker that does not come up


class _State(Enum):
    STARTING = auto()
    IDLE = auto()
    BUSY = auto()
    GONE = auto()  # for good


@dataclass
class _Post:
    slot: Slot
    since: float  # when it was last heard of
    state: _State = _State.STARTING
    job: Job | None = None
    frames: int = 0
    failed_starts: int = 0

    def is_gone(self) -> bool:
        """Whether it is given up; asked anew each time, for hearing one message can end a post."""
        return self.state is _State.GONE


class Supervisor:
    """One run over many jobs. `tell` gets lines for people, `on_beat` the frames of a video that is under way."""

    def __init__(
        self,
        crew: Crew,
        patience: Patience,
        tell: Callable[[str], None],
        on_beat: Callable[[Job, Beat], None] = lambda job, beat: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._crew, self._patience, self._tell, self._on_beat, self._clock = crew, patience, tell, on_beat, clock
        self._queue: deque[Job] = deque()
        self._posts: list[_Post] = []
        self._attempts: dict[str, int] = {}
        self._retries = 0
        self._last_error = ""

    def outcomes(self, jobs: Sequence[Job]) -> Generator[Outcome, None, None]:
        """One outcome for each job, as they come. Raises WorkersFailed when no worker is left. Ends all workers."""
        self._queue.extend(jobs)
        try:
            for slot in self._crew.slots[: len(jobs)]:
                slot.start()
                self._posts.append(_Post(slot, self._clock()))
            while self._queue or any(post.state is _State.BUSY for post in self._posts):
                self._crew.wait(_LISTEN_SECONDS)
                for post in self._posts:
                    yield from self._attend(post)
                if self._queue and all(post.is_gone() for post in self._posts):
                    raise WorkersFailed(f"no worker could be started: {self._last_error}")
        finally:
            self._crew.close()

    def _attend(self, post: _Post) -> Iterator[Outcome]:
        if post.is_gone():
            return
        for message in post.slot.hear():
            if post.is_gone():  # it refused, and its end was heard in the same breath
                return
            yield from self._take(post, message)
        yield from self._look_at_the_clock(post)
        if post.state is _State.IDLE and self._queue:
            self._give(post, self._queue.popleft())

    def _take(self, post: _Post, message: Message) -> Iterator[Outcome]:
        match message:
            case Ready():
                post.state, post.failed_starts = _State.IDLE, 0
            case Beat():
                self._note(post, message)
            case Refused():
                self._retire(post, message.error)
            case Outcome():
                post.state, post.job = _State.IDLE, None
                yield replace(message, attempts=self._attempts[message.job.video])
            case Died():
                yield from self._lose(post, LOST, message.error)

    def _note(self, post: _Post, beat: Beat) -> None:
        """A frame more is a sign of life; the same count again, or a late word on another video, is not."""
        if post.job is not None and beat.video == post.job.video and beat.frames > post.frames:
            post.frames, post.since = beat.frames, self._clock()
            self._on_beat(post.job, beat)

    def _give(self, post: _Post, job: Job) -> None:
        self._attempts[job.video] = self._attempts.get(job.video, 0) + 1
        post.state, post.job, post.frames, post.since = _State.BUSY, job, 0, self._clock()
        post.slot.give(job)

    def _look_at_the_clock(self, post: _Post) -> Iterator[Outcome]:
        silent = self._clock() - post.since
        if post.state is _State.BUSY and silent > self._patience.stall_seconds:
            post.slot.stop()
            yield from self._lose(post, STALLED, f"no frame for {silent:.0f} seconds, after {post.frames}")
        elif post.state is _State.STARTING and silent > self._patience.start_seconds:
            post.slot.stop()
            yield from self._lose(post, LOST, f"not ready after {silent:.0f} seconds")

    def _lose(self, post: _Post, reason: str, error: str) -> Iterator[Outcome]:
        """The worker is gone; another takes its place, unless too many did not even come up."""
        job, frames = post.job, post.frames
        if post.state is _State.STARTING:
            post.failed_starts += 1
        post.job = None
        if post.failed_starts >= self._patience.starts:
            self._retire(post, error)
        else:
            post.state, post.since = _State.STARTING, self._clock()
            post.slot.start()
        if job is not None:
            yield from self._again_or_failed(job, frames, reason, error)

    def _again_or_failed(self, job: Job, frames: int, reason: str, error: str) -> Iterator[Outcome]:
        attempts = self._attempts[job.video]
        if attempts < self._patience.attempts:
            self._retries += 1
            self._tell(f"{job.video}: {error}; it is tried once more")
            self._queue.append(replace(job, scratch=_beside(job.scratch, self._retries)))
        else:
            yield Outcome(job, FAILED, frames, 0.0, reason, f"{error}; tried {attempts} times", attempts)

    def _retire(self, post: _Post, error: str) -> None:
        post.slot.stop()
        post.state, self._last_error = _State.GONE, error
        self._tell(f"a worker is given up: {error}")


def _beside(scratch: Path, number: int) -> Path:
    """A new folder for another attempt: the lost worker may not be quite dead yet, on another machine."""
    return scratch.with_name(f"{scratch.name.partition('-')[0]}-{number}")

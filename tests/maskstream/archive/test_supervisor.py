"""The rules for workers that die, stall or never come up: a crew that follows a script, a clock that we turn."""

from collections.abc import Callable
from pathlib import Path

import pytest

from maskstream.archive.jobs import (
    DONE,
    FAILED,
    Beat,
    Died,
    Job,
    Message,
    Outcome,
    PromptSource,
    Ready,
    Refused,
    WorkersFailed,
)
from maskstream.archive.supervisor import LOST, STALLED, Patience, Supervisor


def job(name: str) -> Job:
    return Job(name, Path(f"{name}.mp4"), PromptSource(auto=1), Path(f"scratch/{name}"))


def done(given: Job, frames: int = 5) -> list[Message]:
    return [Outcome(given, DONE, frames, 1.0)]


class ScriptedSlot:
    """Says `at_start` when it is started and `answer(job)` when it is given one; [] is silence."""

    def __init__(self, answer: Callable[[Job], list[Message]], at_start: Message | None = None) -> None:
        self._answer, self._at_start = answer, at_start or Ready("scripted")
        self._said: list[Message] = []
        self.given: list[Job] = []
        self.starts, self.stops = 0, 0

    def start(self) -> None:
        self.starts += 1
        self._said = [self._at_start]

    def give(self, job: Job) -> None:
        self.given.append(job)
        self._said = self._answer(job)

    def hear(self) -> list[Message]:
        said, self._said = self._said, []
        return said

    def stop(self) -> None:
        self.stops += 1
        self._said = []


class ScriptedCrew:
    """Each wait takes ten seconds of the clock."""

    def __init__(self, *slots: ScriptedSlot) -> None:
        self.slots, self.now, self.closed = slots, 0.0, 0

    def wait(self, seconds: float) -> None:
        self.now += 10.0
        assert self.now < 10_000, "it waits for ever"

    def close(self) -> None:
        self.closed += 1


def supervise(crew: ScriptedCrew, names: str, told: list[str] | None = None) -> dict[str, Outcome]:
    lines = [] if told is None else told
    supervisor = Supervisor(crew, Patience(stall_seconds=60.0), lines.append, clock=lambda: crew.now)
    outcomes = list(supervisor.outcomes([job(name) for name in names]))
    assert crew.closed == 1
    assert len({outcome.job.video for outcome in outcomes}) == len(outcomes)
    return {outcome.job.video: outcome for outcome in outcomes}


def test_every_job_is_done_once_by_whoever_is_free() -> None:
    crew = ScriptedCrew(ScriptedSlot(done), ScriptedSlot(done))
    outcomes = supervise(crew, "abcde")
    assert {name: (one.state, one.attempts) for name, one in outcomes.items()} == dict.fromkeys("abcde", (DONE, 1))
    assert sorted(given.video for slot in crew.slots for given in slot.given) == list("abcde")


def test_no_more_workers_are_started_than_there_are_jobs() -> None:
    crew = ScriptedCrew(*(ScriptedSlot(done) for _ in range(4)))
    supervise(crew, "ab")
    assert [slot.starts for slot in crew.slots] == [1, 1, 0, 0]


def test_a_video_whose_worker_dies_comes_again_at_the_end_in_a_new_folder() -> None:
    deaths = [Died("killed")]
    slot = ScriptedSlot(lambda given: [deaths.pop()] if given.video == "b" and deaths else done(given))
    told: list[str] = []
    outcomes = supervise(ScriptedCrew(slot), "abc", told)
    assert [given.video for given in slot.given] == ["a", "b", "c", "b"]
    assert slot.given[1].scratch != slot.given[3].scratch
    assert (outcomes["b"].state, outcomes["b"].attempts) == (DONE, 2)
    assert slot.starts == 2
    assert told == ["b: killed; it is tried once more"]


def test_a_video_that_kills_its_worker_twice_has_failed_and_the_others_go_on() -> None:
    slot = ScriptedSlot(lambda given: [Died("SIGSEGV")] if given.video == "b" else done(given))
    outcomes = supervise(ScriptedCrew(slot), "abc")
    assert (outcomes["b"].state, outcomes["b"].reason, outcomes["b"].attempts) == (FAILED, LOST, 2)
    assert outcomes["b"].error == "SIGSEGV; tried 2 times"
    assert (outcomes["a"].state, outcomes["c"].state) == (DONE, DONE)


def test_an_error_that_is_reported_is_not_tried_again() -> None:
    slot = ScriptedSlot(lambda given: [Outcome(given, FAILED, 0, 0.1, "VIDEO_UNREADABLE", "not a video")])
    outcomes = supervise(ScriptedCrew(slot), "a")
    assert (outcomes["a"].attempts, len(slot.given), slot.starts) == (1, 1, 1)


def test_silence_is_a_stall_and_a_frame_more_is_not() -> None:
    slot = ScriptedSlot(lambda given: [])
    outcomes = supervise(ScriptedCrew(slot), "a")
    assert (outcomes["a"].state, outcomes["a"].reason) == (FAILED, STALLED)
    assert "no frame for 70 seconds" in outcomes["a"].error
    assert slot.stops >= 2

    class Slow(ScriptedSlot):
        beats = 0

        def hear(self) -> list[Message]:
            said = super().hear()
            self.beats += 1 if self.given else 0
            if self.beats > 30:
                return done(self.given[0])
            return said or [Beat("a", self.beats, 30)]

    assert supervise(ScriptedCrew(Slow(lambda given: [])), "a")["a"].state == DONE  # 300 seconds, a frame every ten


@pytest.mark.parametrize("beat", [Beat("a", 3, None), Beat("other", 1000, None)])
def test_the_same_frame_again_and_late_words_on_another_video_are_no_sign_of_life(beat: Beat) -> None:
    class Stuck(ScriptedSlot):
        def hear(self) -> list[Message]:
            return super().hear() or [beat]

    assert supervise(ScriptedCrew(Stuck(lambda given: [])), "a")["a"].reason == STALLED


def test_who_cannot_work_is_given_up_and_the_others_do_it() -> None:
    unfit = ScriptedSlot(done, Refused("this worker does not see /mnt"))
    told: list[str] = []
    outcomes = supervise(ScriptedCrew(unfit, ScriptedSlot(done)), "abc", told)
    assert {one.state for one in outcomes.values()} == {DONE}
    assert (unfit.starts, unfit.given) == (1, [])
    assert told == ["a worker is given up: this worker does not see /mnt"]


def test_who_has_refused_and_is_dead_when_it_is_heard_is_not_started_again() -> None:
    class Quick(ScriptedSlot):
        def start(self) -> None:
            super().start()
            self._said.append(Died("the worker ended with status 2"))

    slot = Quick(done, Refused("no such engine"))
    with pytest.raises(WorkersFailed, match="no worker could be started: no such engine"):
        supervise(ScriptedCrew(slot), "a")
    assert slot.starts == 1


def test_when_all_refuse_the_run_ends_with_their_reason() -> None:
    crew = ScriptedCrew(*(ScriptedSlot(done, Refused("no such engine")) for _ in range(2)))
    with pytest.raises(WorkersFailed, match="no such engine"):
        supervise(crew, "abc")
    assert crew.closed == 1


def test_a_worker_that_never_comes_up_is_started_three_times() -> None:
    crew = ScriptedCrew(ScriptedSlot(done, Died("out of memory")))
    with pytest.raises(WorkersFailed, match="out of memory"):
        supervise(crew, "ab")
    assert crew.slots[0].starts == 3


def test_a_worker_that_is_silent_at_the_start_is_lost_too() -> None:
    class Silent(ScriptedSlot):
        def start(self) -> None:
            self.starts += 1

    crew = ScriptedCrew(Silent(done))
    with pytest.raises(WorkersFailed, match="not ready after"):
        supervise(crew, "a")
    assert crew.slots[0].starts == 3


def test_stopping_in_the_middle_ends_the_workers() -> None:
    crew = ScriptedCrew(ScriptedSlot(done))
    outcomes = Supervisor(crew, Patience(), lambda line: None).outcomes([job("a"), job("b")])
    next(outcomes)
    outcomes.close()
    assert crew.closed == 1

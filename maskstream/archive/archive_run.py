"""One run over an archive: what is left to do, who does it, and what becomes of it.

A video's output is written to a scratch folder and moved into its place when whole, by this process alone, which holds
the lock: a folder that has its name is complete. Then comes the line in the manifest.
"""

import shutil
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from maskstream.archive import prompt_book
from maskstream.archive.jobs import (
    DISK_FULL,
    DONE,
    FAILED,
    NO_PROMPT,
    ArchiveError,
    Job,
    Outcome,
    PromptSource,
    WorkersFailed,
)
from maskstream.archive.manifest import RECORD, Manifest, Record
from maskstream.archive.prompt_book import PromptBook
from maskstream.archive.supervisor import Supervisor
from maskstream.archive.videos import ArchivedVideo

SCRATCH = ".scratch"


@dataclass(frozen=True)
class Todo:
    """A video that is not done, and the prompt it will be followed from."""

    video: ArchivedVideo
    prompt: PromptSource
    prompt_identity: str


@dataclass
class Plan:
    """What a run has before it."""

    todo: list[Todo] = field(default_factory=list)
    kept: list[Record] = field(default_factory=list)  # done by an earlier run, and nothing has changed since
    without_prompt: list[Record] = field(default_factory=list)


def make_plan(found: Sequence[ArchivedVideo], book: PromptBook, manifest: Manifest, out: Path) -> Plan:
    """Sort videos into what is done, what is to do and what has no prompt.

    A done video counts as long as its source, its prompt and its folder are there and as they were. Raises ArchiveError
    when no video has a prompt, for then the prompts lie elsewhere or are called otherwise, and when something that is
    not ours lies where a video's folder is to be.
    """
    plan = Plan()
    for video in found:
        prompt = book.find(video.name)
        if prompt is None:
            plan.without_prompt.append(Record(video.name, NO_PROMPT, video.identity))
            continue
        todo = Todo(video, prompt, prompt_book.identity(prompt))
        record = _finished(manifest, out / video.name, video.name)
        if record is not None and record.holds_for(video.identity, todo.prompt_identity):
            plan.kept.append(record)
        else:
            plan.todo.append(todo)
    for record in plan.without_prompt:
        known = manifest.records.get(record.video)
        if known is None or known.state != NO_PROMPT:
            manifest.add(record)
    if len(plan.without_prompt) == len(found):
        raise ArchiveError(
            f"none of the {len(found)} videos has a prompt; for the video {found[0].name} expected "
            f"{found[0].name}.png, .txt or .json in the folder of --prompts, or an entry in prompts.json or .csv"
        )
    return plan


def _finished(manifest: Manifest, folder: Path, name: str) -> Record | None:
    if not (folder / RECORD).is_file():
        _refuse_strangers(folder)
        return None
    if name not in manifest.records or manifest.records[name].state != DONE:
        manifest.adopt(folder)
    return manifest.records.get(name)


def _refuse_strangers(folder: Path) -> None:
    """What is replaced is deleted, so it has to be an earlier run's."""
    if folder.exists():
        raise ArchiveError(f"{folder} exists and is no earlier run's output; move it away, or give another --out")


class ArchiveRun:
    """Carries a plan out. `on_record` hears of every video that has come to an end."""

    def __init__(self, plan: Plan, manifest: Manifest, out: Path, on_record: Callable[[Record], None]) -> None:
        self._plan, self._manifest, self._out, self._on_record = plan, manifest, out, on_record
        self._todo = {todo.video.name: todo for todo in plan.todo}
        self.records: list[Record] = []  # of this run

    def work(self, supervisor: Supervisor) -> None:
        """Follow all that is to do. Raises WorkersFailed when no worker is left or nothing more can be written.

        KeyboardInterrupt ends the workers and drops what they were at; it goes through to the caller.
        """
        with closing(supervisor.outcomes(self._jobs())) as outcomes:  # whatever happens, no worker is left behind
            for outcome in outcomes:
                if outcome.reason == DISK_FULL:
                    raise WorkersFailed(f"{self._out}: {outcome.error}; make room and start the same command again")
                try:
                    self._end(outcome)
                except OSError as error:
                    raise WorkersFailed(
                        f"{self._out} cannot be written ({error}); mend that and start the same command again"
                    ) from error

    def _jobs(self) -> list[Job]:
        scratch = self._out / SCRATCH
        return [
            Job(name, todo.video.source, todo.prompt, scratch / str(number))
            for number, (name, todo) in enumerate(self._todo.items())
        ]

    def _end(self, outcome: Outcome) -> None:
        todo = self._todo[outcome.job.video]
        record = Record(
            video=todo.video.name,
            state=outcome.state,
            source=todo.video.identity,
            prompt=todo.prompt_identity,
            frames=outcome.frames,
            seconds=outcome.seconds,
            attempts=outcome.attempts,
            reason=outcome.reason,
            error=outcome.error,
        )
        if record.state == FAILED:
            shutil.rmtree(outcome.job.scratch, ignore_errors=True)  # there may be none
        else:
            self._manifest.sign(outcome.job.scratch, record)
            _move_into_place(outcome.job.scratch, self._out / record.video)
        self._manifest.add(record)
        self.records.append(record)
        self._on_record(record)


def _move_into_place(whole: Path, place: Path) -> None:
    """Give a finished folder its name; an older one of that name steps aside first, and is deleted with the scratch."""
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.exists():
        place.rename(whole.with_name(f"{whole.name}-old"))
    whole.rename(place)


def empty_scratch(out: Path) -> Path:
    """The scratch folder of an output folder, emptied: what lies there is of a run that was killed."""
    scratch = out / SCRATCH
    if scratch.exists():
        shutil.rmtree(scratch)
    scratch.mkdir(parents=True)
    return scratch

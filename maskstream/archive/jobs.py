"""What travels between the one who hands out videos and those who follow them: plain, picklable words.

The same words go down a pipe to a process of this machine and through Ray to one of another. A worker never touches the
manifest or a finished folder: it writes under `scratch`, and the one that holds the lock moves what is whole.
"""

from dataclasses import dataclass
from pathlib import Path

from maskstream.errors import MaskstreamError


class ArchiveError(MaskstreamError):
    """The folder of an archive, its prompts or its manifest cannot be used as they are."""

    reason = "ARCHIVE_INVALID"


class WorkersFailed(MaskstreamError):
    """No worker is left, or something stops every video alike, so that going on is of no use."""

    reason = "WORKERS_FAILED"


@dataclass(frozen=True)
class Words:
    """One prompt: `text` as `maskstream track --prompt` takes it, a box, points or a mask file, for one object."""

    object_id: int
    text: str


@dataclass(frozen=True)
class PromptSource:
    """Where the first frame's objects come from: a file, words of a table, or, with neither, what `auto` finds."""

    file: Path | None = None  # a mask PNG, or .txt or .json with words
    words: tuple[Words, ...] = ()
    folder: Path = Path()  # mask files named in words are looked for here
    auto: int = 0  # objects to be found at most


@dataclass(frozen=True)
class WorkSettings:
    """What all videos of a run share. `threads` None is all that a worker may use."""

    artifact: Path
    engine: str
    threads: int | None
    sinks: tuple[str, ...]
    scratch: Path  # a folder that every worker has to see
    version: str  # of maskstream, alike at both ends


@dataclass(frozen=True)
class Job:
    """One video to follow; what comes of it is written to `scratch`, which does not exist yet."""

    video: str
    source: Path
    prompt: PromptSource
    scratch: Path


DONE, FAILED, NO_PROMPT = "done", "failed", "no prompt"
DISK_FULL = "DISK_FULL"


@dataclass(frozen=True)
class Outcome:
    """What became of a job: DONE or FAILED, with `reason` (a stable word) and `error` (for people) when it failed."""

    job: Job
    state: str
    frames: int
    seconds: float
    reason: str = ""
    error: str = ""
    attempts: int = 1


@dataclass(frozen=True)
class Ready:
    """A worker has loaded its networks; `what` says which."""

    what: str


@dataclass(frozen=True)
class Refused:
    """A worker cannot work, and says why; starting it again would not help."""

    error: str


@dataclass(frozen=True)
class Beat:
    """A worker is alive: so many frames of the video are done, of so many as it claims to have (None: it does not)."""

    video: str
    frames: int
    claimed: int | None


@dataclass(frozen=True)
class Died:
    """A worker is gone: killed, crashed or unreachable."""

    error: str


Message = Ready | Refused | Beat | Outcome | Died

"""A trial of one engine, in a process of its own: how it is asked, what it answers, and what can go wrong with it.

Opened in one process, the engines that lose keep their memory (577 MiB were held, and 179 with one engine).
"""

import json
import subprocess
import tempfile
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from maskstream.commands import own_program
from maskstream.engines.choice import Measured, TrialCutShort
from maskstream.errors import EngineUnavailable

TRIAL_SECONDS = 120.0  # to start, load, compile and run six frames; a usual one takes three to ten

PRECISION, SECONDS, REFUSED = "precision", "seconds", "refused"  # keys of the answer
_PROGRAM = "maskstream.engines.trial"
_TOLD_LINES, _TOLD_CHARACTERS = 3, 500  # of what a process wrote before it died


@dataclass(frozen=True)
class TrialRequest:
    """What to try, on how many CPU threads (None: all), and where to leave the masks. Paths as text, for JSON."""

    artifact: str
    engine: str
    threads: int | None
    masks_file: str


def run_trial(artifact: Path, engine: str, threads: int | None, seconds: float = TRIAL_SECONDS) -> Measured:
    """Try `engine` on the artifact folder, for so many seconds at most.

    Raises EngineUnavailable with the engine's own words when it refuses, TrialCutShort with what its process wrote when
    that died or took too long.
    """
    with tempfile.TemporaryDirectory(prefix="maskstream-trial-") as folder:
        masks_file = Path(folder) / "masks.npz"
        answer = _answer(TrialRequest(str(artifact.resolve()), engine, threads, str(masks_file)), seconds)
        if REFUSED in answer:
            raise EngineUnavailable(str(answer[REFUSED]))
        try:
            with np.load(masks_file) as arrays:
                coarse, answered = arrays["coarse"], arrays["answered"]
            return Measured(str(answer[PRECISION]), float(answer[SECONDS]), coarse, answered)
        except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise TrialCutShort(f"its trial left no masks that can be read: {error!r}") from error


def _answer(request: TrialRequest, seconds: float) -> dict[str, Any]:
    """The last line that the trial prints; libraries may print before it."""
    command = own_program.command(_PROGRAM, json.dumps(asdict(request)))
    try:
        done = subprocess.run(
            command,
            env=own_program.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise TrialCutShort(f"its trial was stopped after {seconds:.0f} seconds") from error
    except OSError as error:
        raise TrialCutShort(f"its trial cannot be started: {error}") from error
    if done.returncode != 0:
        raise TrialCutShort(f"its trial ended with status {done.returncode}: {_told(done.stderr)}")
    try:
        answer = json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError) as error:
        raise TrialCutShort(f"its trial printed no answer: {_told(done.stderr)}") from error
    if not isinstance(answer, dict):
        raise TrialCutShort(f"its trial answered {answer!r}")
    return answer


def _told(text: str) -> str:
    """The end of what a process wrote, in one line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " / ".join(lines[-_TOLD_LINES:])[-_TOLD_CHARACTERS:] or "it said nothing"

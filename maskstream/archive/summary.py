"""What a run over an archive has to say at its end, for people and as JSON."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from maskstream.archive.archive_progress import shown
from maskstream.archive.archive_run import Plan
from maskstream.archive.jobs import DONE, FAILED, NO_PROMPT
from maskstream.archive.manifest import MANIFEST, Record
from maskstream.tables import Table, print_table

KEPT, NOT_REACHED = "done before", "not reached"
_SHOWN = 20  # failures on the terminal; the JSON and the manifest have them all


@dataclass(frozen=True)
class Effort:
    """What the run took: seconds by the clock, and what worked."""

    seconds: float
    workers: int
    threads: int
    engine: str


def summarise(
    plan: Plan, records: Sequence[Record], effort: Effort, out: Path, interrupted: bool = False
) -> dict[str, Any]:
    """The report of a run that came to these `records`."""
    states = Counter(record.state for record in records)
    frames = sum(record.frames for record in records if record.state == DONE)
    return {
        "videos": {
            DONE: states[DONE],
            KEPT: len(plan.kept),
            FAILED: states[FAILED],
            NO_PROMPT: len(plan.without_prompt),
            NOT_REACHED: len(plan.todo) - len(records),
        },
        "frames": frames,
        "seconds": round(effort.seconds, 2),
        "fps": round(frames / effort.seconds, 2) if effort.seconds > 0 else 0.0,
        "workers": effort.workers,
        "threads": effort.threads,
        "engine": effort.engine,
        "failures": [_failure(record) for record in records if record.state == FAILED],
        "without_prompt": [record.video for record in plan.without_prompt],
        "interrupted": interrupted,
        "outputs": {"folder": str(out), "manifest": str(out / MANIFEST)},
    }


def print_summary(report: Mapping[str, Any], file: TextIO) -> None:
    """Counts, failures with their reasons, speed, and where things are."""
    say = partial(print, file=file)
    print_table(Table(["state", "videos"], [[state, count] for state, count in report["videos"].items()]), file=file)
    _say_some(say, "failed", [f"{one['video']}: {one['reason']}: {one['error']}" for one in report["failures"]])
    _say_some(say, NO_PROMPT, report["without_prompt"])
    say(
        f"\n{report['frames']} frames in {report['seconds']} s, {report['fps']} frames/s; "
        f"{report['workers']} workers with {report['threads']} threads each"
    )
    for name, place in report["outputs"].items():
        say(f"{name:8} {place}")


def _say_some(say: Callable[[str], None], title: str, lines: Sequence[str]) -> None:
    if lines:
        say(f"\n{title}:")
        for line in lines[:_SHOWN]:
            say(f"  {shown(line)}")
    if len(lines) > _SHOWN:
        say(f"  and {len(lines) - _SHOWN} more; --json FILE and the manifest have all")


def _failure(record: Record) -> dict[str, Any]:
    return {"video": record.video, "reason": record.reason, "error": record.error, "attempts": record.attempts}

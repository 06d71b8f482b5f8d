"""What "auto" chose at earlier starts, kept in the user's cache folder, so that engines are not timed at every start.

A choice holds for one artifact, processor, number of threads and set of library versions; a change in any of them is
another key, and the engines are timed again. The file is a convenience: a damaged one is ignored with a line in the
log, and where none can be written the next start takes its seconds once more.
"""

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from maskstream.artifact import Artifact
from maskstream.engines.cache_folder import cache_folder
from maskstream.engines.choice import Choice, Trial
from maskstream.engines.cuda_runtime import driver_version
from maskstream.engines.graph_inputs import cores
from maskstream.provenance import cpu_flags, cpu_model, versions

FORMAT, VERSION = "maskstream-engine-choice", 1
_KEPT = 32  # choices; the oldest goes first

log = logging.getLogger(__name__)

Circumstances = dict[str, Any]  # plain values, as JSON holds them


def circumstances(artifact: Artifact, candidates: Sequence[str], threads: int | None) -> Circumstances:
    """All that a choice depends on."""
    return {
        "artifact": artifact.version,
        "candidates": list(candidates),
        "threads": threads or cores(),
        "cpu": cpu_model(),
        "cpu_flags": " ".join(cpu_flags()),
        "gpu_driver": driver_version(),
        "versions": versions(),
    }


def cache_file() -> Path | None:
    """None for a user without a home."""
    folder = cache_folder()
    return folder / "engine_choice.json" if folder else None


def remembered(under: Circumstances) -> Choice | None:
    """The choice that was kept under the same circumstances; None when there is none that can be used."""
    file = cache_file()
    record = _choices(file).get(_key(under)) if file else None
    if record is None:
        return None
    try:
        choice = Choice(str(record["engine"]), tuple(_trial(one) for one in record["trials"]), str(file))
    except (KeyError, TypeError, ValueError) as error:
        log.warning("%s: a choice in it is damaged (%r); engines are timed again", file, error)
        return None
    chosen = [trial for trial in choice.trials if trial.engine == choice.engine and trial.fit]
    return choice if chosen and choice.engine in under["candidates"] else None


def remember(under: Circumstances, choice: Choice) -> None:
    """Keep `choice` for the next start, if that may expect the same."""
    file = cache_file()
    if file is None or not choice.lasting:
        return
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        kept = _choices(file)
        kept.pop(_key(under), None)
        kept[_key(under)] = {"engine": choice.engine, "trials": [asdict(one) for one in choice.trials], "under": under}
        newest = dict(list(kept.items())[-_KEPT:])
        text = json.dumps({"format": FORMAT, "version": VERSION, "choices": newest}, indent=1)
        try:
            partial.write_text(text + "\n", encoding="utf-8")
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        log.info("%s: cannot be written (%s); engines are timed again at the next start", file, error)


def _key(under: Circumstances) -> str:
    return hashlib.sha256(json.dumps(under, sort_keys=True).encode()).hexdigest()


def _choices(file: Path) -> dict[str, Any]:
    """The records of a file by key; empty when there is none, or nothing that can be read."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if (content["format"], content["version"]) != (FORMAT, VERSION):
            raise ValueError(f"format {content['format']!r} of version {content['version']!r}")
        return dict(content["choices"])
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, KeyError, TypeError, ValueError) as error:
        log.warning("%s: not readable (%r); engines are timed again", file, error)
        return {}


def _trial(record: dict[str, Any]) -> Trial:
    return Trial(
        engine=str(record["engine"]),
        precision=str(record["precision"]),
        seconds=float(record["seconds"]),
        iou=float(record["iou"]),
        error=str(record["error"]),
    )

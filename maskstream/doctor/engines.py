"""The engines: which are installed, and whether each runs the shipped model here, in each precision it holds.

Each is tried in a process of its own. What needs minutes to build, or graphs built beforehand, is told of and not
tried. A time for all of them together keeps the examination short: those beyond it are said to be untried.
"""

import importlib.util
import json
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from maskstream.artifact import Artifact, default_artifact
from maskstream.commands import own_program
from maskstream.doctor.engine_probe import SIZE
from maskstream.doctor.findings import FAILED, MISSING, NOTE, OK, Finding, install
from maskstream.engines import AUTO_CANDIDATES, AUTO_FALLBACK, ENGINES, OF_VARIANTS
from maskstream.engines.cuda_runtime import driver_version
from maskstream.provenance import installed

AREA = "engines"
ALL_SECONDS = 14.0  # no other engine is tried after that, once one is known to run
ONE_SECONDS = 60.0  # a machine that is busy starts a process slowly
_GIVES = {
    "onnxruntime": "the engine that every artifact is checked with",
    "openvino": "the fastest engine on most Intel and AMD processors",
    "torch": "masks from training checkpoints, and training itself",
}
_PROGRAM = "maskstream.doctor.engine_probe"

Answers = dict[str, dict[str, Any]]  # by name of engine and precision
Probe = Callable[[Sequence[str]], Answers]


def engines(probe: Probe | None = None, all_seconds: float = ALL_SECONDS) -> list[Finding]:
    """A line an engine and precision. `probe` tries one engine, in the precisions named ("openvino:int8")."""
    probe = probe or try_engine
    precisions = Artifact.load(default_artifact()).precisions
    findings: list[Finding] = []
    until = time.monotonic() + all_seconds
    for names in map(list, _tried_names(precisions)):
        runs = any(finding.state == OK for finding in findings)
        if runs and time.monotonic() > until:
            findings += [Finding(AREA, name, NOTE, "installed; not tried, to keep this short") for name in names]
        else:
            answers = probe(names)
            findings += [_finding(name, answers[name]) for name in names]
    return [*findings, *_absent()]


def try_engine(names: Sequence[str]) -> Answers:
    """What the probe's process answers for each name; "refused" says why one does not run."""
    command = own_program.command(_PROGRAM, str(default_artifact()), *names)
    try:
        done = subprocess.run(
            command,
            env=own_program.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=ONE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        return _answers(names, error.stdout, f"no answer within {ONE_SECONDS:.0f} s")
    said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
    return _answers(names, done.stdout, f"its process ended with status {done.returncode}: {said}")


def _answers(names: Sequence[str], printed: str | bytes | None, otherwise: str) -> Answers:
    """Lines of the probe by name; a name without one gets `otherwise` as its reason."""
    text = printed.decode(errors="replace") if isinstance(printed, bytes) else printed or ""
    lines = [json.loads(line) for line in text.splitlines() if line.startswith('{"engine"')]
    return {name: {"refused": otherwise} for name in names} | {line["engine"]: line for line in lines}


def _tried_names(precisions: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The likely engines first, those that `auto` chooses from; each with the precisions it can run."""
    for name in dict.fromkeys((*AUTO_CANDIDATES, AUTO_FALLBACK)):
        if not _installed(ENGINES[name].package) or (ENGINES[name].gpu and driver_version() is None):
            continue
        if name == "onnxruntime_cuda" and not installed(("onnxruntime-gpu",)):
            continue
        others = precisions[1:] if name in OF_VARIANTS else ()
        yield name, *(f"{name}:{precision}" for precision in others)


def _finding(name: str, answer: Mapping[str, Any]) -> Finding:
    if "refused" in answer:
        return Finding(AREA, name, FAILED, answer["refused"], f"install it again: {_install(name)}")
    return Finding(
        AREA, name, OK, f"{answer['precision']}, {answer['ms']:g} ms a frame of {SIZE[1]}x{SIZE[0]}, one thread"
    )


def _absent() -> Iterator[Finding]:
    for name, gives in _GIVES.items():
        if not _installed(ENGINES[name].package):
            yield Finding(AREA, name, MISSING, "not installed", f"{gives}: {_install(name)}")


def _install(name: str) -> str:
    return install(ENGINES[name.partition(":")[0]].install.partition("[")[2].rstrip("]"))


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None

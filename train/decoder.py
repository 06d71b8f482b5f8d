"""A decoder in a process of its own, which survives what a video does to FFmpeg.

Some files crash FFmpeg outright, hang it, or make it ask for more memory than there is. So a child process is given one
file after another: when it dies or falls silent, only the file it was on is lost, and a fresh child goes on.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing.connection import wait
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from maskstream.errors import VideoError
from train.decoding import DecodeSettings, decode, partial_of

BEAT_SECONDS = 1.0  # between two signs of life
PROGRAM = "from train.decoder import serve; serve()"


@dataclass(frozen=True)
class Limits:
    """What a child may use before it is given up."""

    silent_seconds: float = 300.0  # a busy machine or a slow disk is no broken video
    memory_bytes: int = 8 * 2**30


class Decoder:
    """A child process that decodes; a new one is started after it died. Close it, or use it in a `with`."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._child: subprocess.Popen[bytes] | None = None
        self._stopped = False
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115

    def decode(self, source: Path, target: Path, settings: DecodeSettings) -> str:
        """As `train.decoding.decode`; that the child crashed over the file, or fell silent, is a VideoError too."""
        worn = self._child is not None  # it did other files before, and their damage may show only now
        answer = self._attempt(source, target, settings)
        if worn and "died" in answer and not self._stopped:
            answer = self._attempt(source, target, settings)
        if "disk" in answer:
            raise OSError(*answer["disk"])
        for reason in ("unusable", "died"):
            if reason in answer:
                raise VideoError(answer[reason])
        return str(answer["note"])

    def _attempt(self, source: Path, target: Path, settings: DecodeSettings) -> dict[str, Any]:
        answer: dict[str, Any] = {"died": f"{source}: decoding was interrupted"}
        try:
            self._send({"source": str(source), "target": str(target), **asdict(settings)})
            answer = self._answer(source)
        finally:
            if "died" in answer:
                self._end_child()
                partial_of(target).unlink(missing_ok=True)
        return answer

    def stop(self) -> None:
        """End the child from another thread; the video it was on is skipped, and no other is begun."""
        self._stopped = True
        if self._child is not None:
            self._child.kill()

    def _send(self, job: dict[str, Any]) -> None:
        if self._stopped:
            raise VideoError(f"{job['source']}: decoding was stopped")
        if self._child is None:
            self._child = self._start()
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(json.dumps(job).encode() + b"\n")
        except BrokenPipeError:
            return  # it died at once; the missing answer tells

    def _answer(self, source: Path) -> dict[str, Any]:
        assert self._child is not None
        assert self._child.stdout is not None
        while wait([self._child.stdout.fileno()], self._limits.silent_seconds):
            line = self._child.stdout.readline()
            if not line:
                return {"died": f"{source}: crashed the decoder ({self._cause_of_death()})"}
            answer: dict[str, Any] = json.loads(line)
            if "frames" not in answer:
                return answer
        return {"died": f"{source}: the decoder was silent for {self._limits.silent_seconds:g} s and was stopped"}

    def _cause_of_death(self) -> str:
        assert self._child is not None
        code = self._child.wait()
        if code < 0:
            return f"signal {-code}" + (", likely out of memory" if -code == signal.SIGKILL else "")
        self._complaints.seek(0)
        last_line = self._complaints.read().decode(errors="replace").strip().rpartition("\n")[2]
        return f"exit status {code}" + (f": {last_line}" if last_line else "")

    def _start(self) -> subprocess.Popen[bytes]:
        self._complaints.truncate(0)
        self._complaints.seek(0)
        here = str(Path(__file__).resolve().parents[1])
        search = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))
        # -P: a file train.py in the current folder is not our package
        command = [sys.executable, "-P", "-c", PROGRAM, str(self._limits.memory_bytes)]
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            bufsize=0,
            env={**os.environ, "PYTHONPATH": search},
        )

    def _end_child(self) -> None:
        if self._child is None:
            return
        self._child.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            assert pipe is not None
            pipe.close()
        self._child = None

    def close(self) -> None:
        """End the child and let go of everything."""
        self._end_child()
        self._complaints.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def serve() -> None:
    """The child: jobs as lines of JSON on stdin, signs of life and one answer each on stdout."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends its children
    memory_bytes = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash is expected, and its dump is of no use
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints is no answer
    for line in sys.stdin:
        job = json.loads(line)
        source, target = Path(job.pop("source")), Path(job.pop("target"))
        answer = _attempt(source, target, DecodeSettings(**job), _Pulse(answers.write))
        answers.write(json.dumps(answer) + "\n")


class _Pulse:
    """Says now and then how many frames were decoded."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write, self._last = write, time.monotonic()

    def __call__(self, frames: int) -> None:
        if time.monotonic() - self._last > BEAT_SECONDS:
            self._last = time.monotonic()
            self._write(json.dumps({"frames": frames}) + "\n")


def _attempt(source: Path, target: Path, settings: DecodeSettings, pulse: Callable[[int], None]) -> dict[str, Any]:
    try:
        return {"note": decode(source, target, settings, pulse)}
    except VideoError as error:
        return {"unusable": str(error)}
    except MemoryError:
        return {"unusable": f"{source}: decoding it needs more memory than a decoder may use"}
    except OSError as error:  # reading fails as a VideoError, so this is writing
        return {"disk": [error.errno, error.strerror or str(error), error.filename or str(target)]}

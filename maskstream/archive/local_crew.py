"""Workers of this machine: one process a slot, each with a pipe of its own.

The executors of the standard library give up all their work when one process dies. Here a process that is killed or
crashes in a decoder takes its own video down and nothing else; maskstream.archive.supervisor starts another.
"""

import signal
import subprocess
from collections.abc import Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path

from maskstream.archive.jobs import Died, Job, Message, WorkSettings
from maskstream.commands import own_program

_PROGRAM = "maskstream.archive.worker"
_TOLD_CHARACTERS = 300  # of what a worker wrote before it died
_END_SECONDS = 5.0  # for a worker to leave when there is no more work


class LocalCrew:
    """So many slots, none of them started."""

    def __init__(self, settings: WorkSettings, workers: int) -> None:
        self.slots: Sequence[LocalSlot] = [
            LocalSlot(settings, settings.scratch / f"worker-{number}.log") for number in range(1, workers + 1)
        ]

    def wait(self, seconds: float) -> None:
        """Until a worker says something, for so long at most."""
        links = [slot.link for slot in self.slots if slot.link is not None]
        wait(links, seconds)

    def close(self) -> None:
        """End all workers at once; what they were at is lost."""
        for slot in self.slots:
            slot.stop()


class LocalSlot:
    """One worker process after the other."""

    def __init__(self, settings: WorkSettings, log: Path) -> None:
        self._settings, self._log = settings, log
        self._process: subprocess.Popen[bytes] | None = None
        self.link: Connection | None = None

    @property
    def pid(self) -> int | None:
        """Of the process that works here now."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start a process; it says Ready or Refused in its time."""
        self.link, theirs = Pipe()
        with self._log.open("ab") as log, theirs:
            self._process = subprocess.Popen(
                [*own_program.command(_PROGRAM, str(theirs.fileno()))],
                env={**own_program.environment(), **_thread_limits(self._settings.threads)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._send(self._settings)

    def give(self, job: Job) -> None:
        """Let the worker follow a video; it must be Ready, and have answered for the one before."""
        self._send(job)

    def hear(self) -> list[Message]:
        """What the worker has said since it was last asked. The last word of a dead one is Died."""
        heard: list[Message] = []
        try:
            while self.link is not None and self.link.poll():
                heard.append(self.link.recv())
        except (EOFError, OSError):  # a worker killed in mid-word leaves half a message
            heard.append(Died(self._epitaph()))
            self.stop()
        return heard

    def stop(self) -> None:
        """Kill the process, if there is one, and wait for its end."""
        if self.link is not None:
            self.link.close()
            self.link = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _send(self, message: WorkSettings | Job) -> None:
        assert self.link is not None
        try:
            self.link.send(message)
        except OSError:  # it is dead; `hear` will find its end of the pipe closed and say so
            return

    def _epitaph(self) -> str:
        assert self._process is not None
        try:
            status = self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            return "the worker closed its pipe"
        if status < 0:
            name = signal.Signals(-status).name
            return f"the worker was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
        return f"the worker ended with status {status}: {self._last_words()}"

    def _last_words(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return (lines[-1] if lines else "it said nothing")[-_TOLD_CHARACTERS:]


def _thread_limits(threads: int | None) -> dict[str, str]:
    """What libraries other than the engine read when they start."""
    return {} if threads is None else {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}

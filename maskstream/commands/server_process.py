"""A server of our own in a process of its own, on free ports, for as long as a `with` lasts.

This is the only way the command line touches the serve stage: as a program, never as an import.
"""

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskstream.commands import own_program
from maskstream.errors import MaskstreamError

START_SECONDS = 300.0  # loading, choosing an engine, and warming up the networks on a slow machine
STOP_SECONDS = 15.0
_POLL_SECONDS = 0.05
_LOG_LINES = 15  # shown when the server does not start


class ServerFailed(MaskstreamError):
    """The server did not start or did not get ready in time."""

    reason = "SERVER_FAILED"


@dataclass(frozen=True)
class RunningServer:
    """Addresses HOST:PORT of a server that is ready, what it says of itself, and its process."""

    target: str
    http: str
    facts: dict[str, Any]
    log: Path
    process: "subprocess.Popen[bytes]"


def running_server(
    folder: Path, artifact: Path | None, engine: str
) -> contextlib.AbstractContextManager[RunningServer]:
    """A server with the default settings, as `started_server`; `artifact` None means the shipped one."""
    chosen = [] if artifact is None else ["--artifact", str(artifact)]
    return started_server(folder, "--engine", engine, *chosen)


@contextlib.contextmanager
def started_server(folder: Path, *flags: str) -> Iterator[RunningServer]:
    """Start `python -m serve`, wait until it is ready, stop it in the end if nobody did. Its log is kept in `folder`.

    Raises ServerFailed with the end of its log.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log, announce = folder / "server.log", folder / "server.json"
    announce.unlink(missing_ok=True)
    ports = ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--announce", str(announce)]
    with _process(own_program.command("serve", *ports, *flags), log) as process:
        facts = _wait(process, announce, log)
        yield RunningServer(facts["listen"], facts["http"], facts, log, process)


@contextlib.contextmanager
def _process(command: Sequence[str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A process in its own session, so that Ctrl-C here lets us end it in good order."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=own_program.environment(), stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: "subprocess.Popen[bytes]", announce: Path, log: Path) -> dict[str, Any]:
    """What the server announces once it is ready."""
    deadline = time.monotonic() + START_SECONDS
    while not announce.exists():
        if process.poll() is not None:
            raise ServerFailed(f"the server ended with status {process.returncode}; its log {log} ends:\n{_tail(log)}")
        if time.monotonic() > deadline:
            raise ServerFailed(
                f"the server was not ready after {START_SECONDS:.0f} s; its log {log} ends:\n{_tail(log)}"
            )
        time.sleep(_POLL_SECONDS)
    facts: dict[str, Any] = json.loads(announce.read_text(encoding="utf-8"))
    return facts


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:])

"""A server of the load tool's own: a process on free ports, with room for the streams of the load and no others.

It is started with a settings file that lies in its folder, so what was measured can be started again by hand:
what the load needs, over it the user's --config, over that the flags. Its end belongs to the caller, who may want to
see how it drains.
"""

import contextlib
import json
import subprocess
import time
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskstream.commands import own_program
from maskstream.commands.server_process import START_SECONDS, STOP_SECONDS, ServerFailed
from maskstream.errors import MaskstreamError
from maskstream.load.endpoint import Endpoint

SPARE_STREAMS = 4  # slots for churn and for streams whose end the server has not noticed yet
_POLL_SECONDS = 0.05
_LOG_CHARACTERS = 1500  # shown when the server does not start


class SettingsError(MaskstreamError):
    """The server's settings file cannot be read."""

    reason = "CONFIG_INVALID"


@dataclass(frozen=True)
class ServerWishes:
    """What a server is started with."""

    size: tuple[int, int]  # height, width of the frames; the networks work at this size unless the settings say else
    streams: int
    artifact: Path | None = None
    engine: str = "auto"
    max_batch: int | None = None
    config: Path | None = None

    def settings(self) -> dict[str, Any]:
        """As the server reads them. Raises SettingsError."""
        height, width = self.size
        needed = {
            "short_side": min(self.size),
            "warm_up_height": height,
            "warm_up_width": width,
            "max_streams": self.streams + SPARE_STREAMS,
        }
        settings = needed | _read(self.config) | {"engine": self.engine}
        if self.artifact is not None:
            settings["artifact"] = str(self.artifact.resolve())
        if self.max_batch is not None:
            settings["max_batch"] = self.max_batch
        return settings


@dataclass(frozen=True)
class OwnServer:
    """A server that is ready."""

    endpoint: Endpoint
    facts: Mapping[str, Any]  # what it announces: engine, precision, model, ...
    settings: Mapping[str, Any]
    process: "subprocess.Popen[bytes]"


@contextlib.contextmanager
def own_server(folder: Path, wishes: ServerWishes) -> Iterator[OwnServer]:
    """Runs until the `with` ends, if nobody stopped it before. Its log, settings and ports are kept in `folder`.

    Raises ServerFailed with the end of its log, SettingsError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings, announce, log = folder / "server.toml", folder / "server.json", folder / "server.log"
    announce.unlink(missing_ok=True)
    values = wishes.settings()
    settings.write_text(as_toml(values), encoding="utf-8")
    flags = ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--config", str(settings), "--announce", str(announce)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            own_program.command("serve", *flags),
            env=own_program.environment(),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is ours; the server is ended below
        )
    try:
        facts = _wait(process, announce, log)
        yield OwnServer(Endpoint(facts["listen"], http=facts["http"], pid=process.pid), facts, values, process)
    finally:
        _end(process)


def as_toml(settings: Mapping[str, Any]) -> str:
    """Scalars and tables of scalars, which is all that settings are; JSON writes a scalar as TOML does."""
    scalars = {name: value for name, value in settings.items() if not isinstance(value, Mapping)}
    lines = [f"{name} = {json.dumps(value)}" for name, value in scalars.items()]
    for name, values in settings.items():
        if isinstance(values, Mapping):
            lines += ["", f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    return "\n".join(lines) + "\n"


def _read(config: Path | None) -> dict[str, Any]:
    if config is None:
        return {}
    try:
        return tomllib.loads(config.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"cannot read {config}: {error}") from error


def _wait(process: "subprocess.Popen[bytes]", announce: Path, log: Path) -> dict[str, Any]:
    deadline = time.monotonic() + START_SECONDS
    while not announce.exists():
        ended = process.poll()
        if ended is not None or time.monotonic() > deadline:
            what = f"was not ready after {START_SECONDS:.0f} s" if ended is None else f"ended with status {ended}"
            tail = log.read_text(encoding="utf-8", errors="replace")[-_LOG_CHARACTERS:]
            raise ServerFailed(f"the server {what}; its log {log} ends:\n{tail}")
        time.sleep(_POLL_SECONDS)
    facts: dict[str, Any] = json.loads(announce.read_text(encoding="utf-8"))
    return facts


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

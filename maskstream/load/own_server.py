"""A server of the load tool's own: a process on free ports, with room for the streams of the load and no others.

It is started with a settings file that lies in its folder, so what was measured can be started again by hand:
what the load needs, over it the user's --config, over that the flags. Its end belongs to the caller, who may want to
see how it drains.
"""

import contextlib
import json
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskstream.commands.server_process import started_server
from maskstream.errors import MaskstreamError
from maskstream.load.endpoint import Endpoint

SPARE_STREAMS = 4  # slots for churn and for streams whose end the server has not noticed yet


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
    settings = folder / "server.toml"
    values = wishes.settings()
    settings.write_text(as_toml(values), encoding="utf-8")
    with started_server(folder, "--config", str(settings)) as server:
        endpoint = Endpoint(server.target, http=server.http, pid=server.process.pid)
        yield OwnServer(endpoint, server.facts, values, server.process)


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

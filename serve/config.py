"""Settings of the server: frozen, with defaults that suit one machine; a TOML file over them, flags over the file.

    max_streams = 8
    bank_mib = 2048

    [limits]
    max_width = 1920

A key that is not a setting is refused: a misspelt limit must not become the default in silence.
"""

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from maskstream.errors import MaskstreamError

T = TypeVar("T")
MAY_BE_ZERO = ("max_streams_per_client", "max_prompts_per_second")  # which means no limit


class ConfigError(MaskstreamError):
    """A setting is unknown or has no sensible value."""

    reason = "CONFIG_INVALID"


@dataclass(frozen=True)
class Limits:
    """What one stream may ask for; published in Opened and GetServerInfo."""

    max_width: int = 4096  # pixels
    max_height: int = 2304
    max_objects: int = 32
    max_in_flight: int = 8
    max_message_mib: int = 32  # the largest raw frame fits
    idle_timeout_seconds: float = 60.0
    max_streams_per_client: int = 0  # 0: as many as the server has slots
    max_prompts_per_second: int = 100  # objects prompted or removed, per stream, on average; 0: no limit
    max_snapshot_mib: int = 24  # must fit a message; snapshots are off without `snapshot_key`

    @property
    def max_message_bytes(self) -> int:
        """Of one request."""
        return self.max_message_mib * 2**20


@dataclass(frozen=True)
class ServeConfig:
    """Everything a server is started with."""

    artifact: Path | None = None  # None: the model that ships with maskstream
    engine: str = "auto"
    threads: int = 0  # of the engine; 0 leaves it to the engine
    short_side: int = 0  # pixels the networks work at; 0 is what they were made for, less is faster and coarser
    listen: str = "127.0.0.1:50051"  # gRPC, without TLS: reachable from this machine alone unless told otherwise
    http: str = "127.0.0.1:9464"  # /metrics /livez /readyz
    max_streams: int = 8
    max_batch: int = 0  # frames of different streams in one run of the networks; 0: what measures best at the start
    bank_mib: int = 1024  # of all streams' memory banks together; 0: half of what the loaded model leaves
    bank_reserve: bool = False  # back the bank with memory at the start, so that it cannot be missing later
    decode_threads: int = 2
    default_max_in_flight: int = 4
    grace_seconds: float = 10.0  # from SIGTERM to the end, for streams to finish
    stall_seconds: float = 30.0  # a single turn of the engine longer than this turns /livez red
    warm_up_height: int = 480
    warm_up_width: int = 854
    reflection: bool = False
    snapshot_key: Path | None = None  # file with the secret that signs snapshots, the same on all replicas; None: off
    small_window: bool = False  # hold back at most 64 KiB a stream in the transport: for a LAN, slow over a WAN
    limits: Limits = field(default_factory=Limits)


def load_config(file: Path | None, flags: Mapping[str, Any]) -> ServeConfig:
    """Defaults, then `file` (TOML), then the flags that are not None. Raises ConfigError."""
    values: dict[str, Any] = {}
    if file is not None:
        try:
            values = tomllib.loads(file.read_text())
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"cannot read {file}: {error}") from error
    values |= {name: value for name, value in flags.items() if value is not None}
    limits = values.pop("limits", {})
    if not isinstance(limits, Mapping):
        raise ConfigError("`limits` is a table: [limits]")
    for name in ("artifact", "snapshot_key"):
        if isinstance(values.get(name), str):
            values[name] = Path(values[name])
    config = dataclasses.replace(_build(ServeConfig, values), limits=_build(Limits, limits))
    _check(config)
    return config


def _build(kind: type[T], values: Mapping[str, Any]) -> T:
    fields = {f.name: f for f in dataclasses.fields(kind) if f.name != "limits"}  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise ConfigError(f"unknown setting {', '.join(unknown)}; there are: {', '.join(fields)}")
    for name, value in values.items():
        default = fields[name].default
        allowed = Path if default is None else (int, float) if isinstance(default, float) else type(default)
        if not isinstance(value, allowed) or isinstance(value, bool) != isinstance(default, bool):
            raise ConfigError(f"{name} = {value!r}: expected a value like {default!r}")
    return kind(**values)


def _check(config: ServeConfig) -> None:
    positive = ("max_streams", "decode_threads", "default_max_in_flight", "grace_seconds")
    limits = [f.name for f in dataclasses.fields(Limits) if f.name not in MAY_BE_ZERO]
    for owner, names in ((config, positive), (config.limits, limits)):
        for name in names:
            if getattr(owner, name) <= 0:
                raise ConfigError(f"{name} must be more than 0, got {getattr(owner, name)}")
    if config.limits.max_objects > 255:
        raise ConfigError("max_objects is at most 255: an object id fits a byte")

"""Settings of the server: frozen, with defaults that suit one machine; a TOML file over them, flags over the file.

    max_streams = 8
    bank_mib = 2048

    [limits]
    max_width = 1920

A key that is not a setting is refused: a misspelt limit must not become the default in silence. A table of the file is
a dataclass of its own. Settings name files that hold secrets and never the secrets themselves.
"""

import dataclasses
import tomllib
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from maskstream.errors import MaskstreamError
from serve.logs import FORMS
from serve.tracing import TraceSettings

T = TypeVar("T")


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
class TlsSettings:
    """PEM files; all None: plain text."""

    certificate: Path | None = None  # of this server, with its chain
    key: Path | None = None
    client_ca: Path | None = None  # clients must show a certificate signed by it


@dataclass(frozen=True)
class AuthSettings:
    """Who may call."""

    tokens: Path | None = None  # TOML with a hash for each token, see serve.tokens; None: everyone who can connect


@dataclass(frozen=True)
class ServeConfig:
    """Everything a server is started with."""

    artifact: Path | None = None  # None: the model that ships with maskstream
    engine: str = "auto"
    threads: int = 0  # of the engine; 0 leaves it to the engine
    short_side: int = 0  # pixels the networks work at; 0 is what they were made for, less is faster and coarser
    listen: str = "127.0.0.1:50051"  # gRPC: reachable from this machine alone unless told otherwise
    http: str = "127.0.0.1:9464"  # the page, /metrics /livez /readyz
    web: bool = True  # show the page there, where the extra [web] is installed
    max_streams: int = 8
    max_batch: int = 0  # frames of different streams in one run of the networks; 0: what measures best at the start
    max_utilisation: float = 0.0  # no stream is opened while the engine is busier than this share; 0: no such limit
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
    max_connection_age_seconds: float = 0.0  # a connection is asked to move on after this, for balance; 0: never
    log_format: str = "text"  # or "json", an object a line
    limits: Limits = field(default_factory=Limits)
    tls: TlsSettings = field(default_factory=TlsSettings)
    auth: AuthSettings = field(default_factory=AuthSettings)
    tracing: TraceSettings = field(default_factory=TraceSettings)


# Of the settings that are numbers; every other must be more than 0.
MAY_BE_ZERO = frozenset({
    "threads", "short_side", "max_batch", "max_utilisation", "bank_mib", "max_connection_age_seconds",
    "max_streams_per_client", "max_prompts_per_second",
})  # fmt: skip


# Beyond these gRPC, a message or a clock has no number for it.
MOST = {"max_message_mib": 2047, "max_connection_age_seconds": 2_000_000, "max_objects": 255}
MOST_OF_ANY = 2**31 - 1


def load_config(file: Path | None, flags: Mapping[str, Any]) -> ServeConfig:
    """Defaults, then `file` (TOML), then the flags that are not None; a flag `tls.key` is of the table [tls].

    Raises ConfigError.
    """
    values: dict[str, Any] = {}
    if file is not None:
        try:
            values = tomllib.loads(file.read_text())
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"cannot read {file}: {error}") from error
    for name, value in flags.items():
        if value is not None:
            table, _, key = name.rpartition(".")
            owner = values.setdefault(table, {}) if table else values
            if not isinstance(owner, dict):
                raise ConfigError(f"`{table}` is a table: [{table}]")
            owner[key] = value
    config = _build(ServeConfig, values, "")
    _check(config)
    return config


def _build(kind: type[T], values: Mapping[str, Any], table: str) -> T:
    types = typing.get_type_hints(kind)
    unknown = sorted(set(values) - set(types))
    if unknown:
        where = f" in [{table}]" if table else ""
        raise ConfigError(f"unknown setting {', '.join(unknown)}{where}; there are: {', '.join(types)}")
    return kind(**{name: _value(name, types[name], value) for name, value in values.items()})


def _value(name: str, kind: Any, value: Any) -> Any:
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise ConfigError(f"`{name}` is a table: [{name}]")
        return _build(typing.cast(type[Any], kind), value, name)
    if kind == Path | None:
        if not isinstance(value, str | Path):
            raise ConfigError(f"{name} = {value!r}: expected the path of a file or folder, in quotes")
        return Path(value)
    allowed = (int, float) if kind is float else (kind,)
    if not isinstance(value, allowed) or isinstance(value, bool) != (kind is bool):
        raise ConfigError(f"{name} = {value!r}: expected a value like {_EXAMPLES[kind]}")
    return value


_EXAMPLES = {int: "8", float: "0.5", bool: "true", str: '"text"'}


def _check(config: ServeConfig) -> None:
    for owner in (config, config.limits):
        for entry in dataclasses.fields(owner):
            value = getattr(owner, entry.name)
            if isinstance(value, int | float) and not isinstance(value, bool):
                _check_number(entry.name, value)
    if 0 < config.max_connection_age_seconds < 1:
        raise ConfigError("max_connection_age_seconds is at least 1, or 0 for no such limit")
    if config.limits.max_snapshot_mib > config.limits.max_message_mib:
        raise ConfigError("max_snapshot_mib is at most max_message_mib: a snapshot comes back in one request")
    if config.max_utilisation > 1:
        raise ConfigError(f"max_utilisation is a share, 0 to 1, got {config.max_utilisation}")
    if config.log_format not in FORMS:
        raise ConfigError(f"log_format is {' or '.join(FORMS)}, got {config.log_format!r}")
    if (config.tls.certificate is None) != (config.tls.key is None):
        raise ConfigError("[tls] needs certificate and key, or neither")
    if config.tls.client_ca is not None and config.tls.certificate is None:
        raise ConfigError("[tls] client_ca needs certificate and key: clients are asked for theirs over TLS alone")


def _check_number(name: str, value: float) -> None:
    if value < 0 or (value == 0 and name not in MAY_BE_ZERO) or value != value:
        least = "0 or more" if name in MAY_BE_ZERO else "more than 0"
        raise ConfigError(f"{name} must be {least}, got {value}")
    if value > MOST.get(name, MOST_OF_ANY):
        raise ConfigError(f"{name} is at most {MOST.get(name, MOST_OF_ANY)}, got {value}")

"""Bearer tokens: who may call, by a file that holds hashes and can change while the server runs.

    camera-1 = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    gate = { hash = "sha256:60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752", expires = 2027-01-31 }

A token is 32 random bytes, so its hash needs no salt; nobody who reads the file can call. Deleting a line revokes the
token for new calls within a second, without a restart.
"""

import datetime
import hashlib
import hmac
import json
import logging
import re
import secrets
import time
import tomllib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from serve.config import ConfigError
from serve.errors import StreamEnded, TokenInvalid, TokenRequired, abort
from serve.listener import OTHERS_MAY_READ

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0  # between two looks at the file
OPEN_SERVICES = ("/grpc.health.v1.Health/",)  # a probe has no token, and learns nothing but whether the server works
_HASH = re.compile(r"sha256:[0-9a-f]{64}")

Metadata = Iterable[tuple[str, str | bytes]]


@dataclass(frozen=True)
class Entry:
    """One line of the file."""

    subject: str
    sha256: bytes
    expires: datetime.date | None


def new_token(subject: str) -> tuple[str, str]:
    """A token, to be shown once, and the line for the file. Raises ConfigError for a subject that no log could show."""
    if not subject or not subject.isprintable():
        raise ConfigError(f"--new-token {subject!r}: expected a name that can be printed, e.g. camera-1")
    token = secrets.token_urlsafe(32)
    key = json.dumps(subject, ensure_ascii=False)  # quotes and backslashes are escaped as in TOML
    return token, f'{key} = "sha256:{hashlib.sha256(token.encode()).hexdigest()}"'


def read_tokens(file: Path) -> tuple[Entry, ...]:
    """The entries of a file. Raises ConfigError, which names the subject and never what stands beside it."""
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"cannot read the tokens in {file}: {type(error).__name__}; expected TOML") from error
    return tuple(_entry(file, subject, value) for subject, value in values.items())


def _entry(file: Path, subject: str, value: Any) -> Entry:
    table = value if isinstance(value, dict) else {"hash": value}
    digest, expires = str(table.get("hash")), table.get("expires")
    sound = _HASH.fullmatch(digest) and set(table) <= {"hash", "expires"}
    if not sound or not isinstance(expires, datetime.date | None):
        raise ConfigError(
            f'{file}: `{subject}` is neither "sha256:" and 64 hexadecimal digits nor {{ hash = "sha256:...", '
            "expires = 2027-01-31 }; maskstream-serve --new-token makes such a line"
        )
    return Entry(subject, bytes.fromhex(digest.removeprefix("sha256:")), expires)


class TokenFile:
    """The tokens of a file, read anew when it has changed. Used from the event loop alone."""

    def __init__(self, file: Path) -> None:
        """Raises ConfigError for a file that cannot be used."""
        self._file = file
        self._state, self._looked = _state(file), time.monotonic()
        self._entries = read_tokens(file)
        if file.stat().st_mode & OTHERS_MAY_READ:
            log.warning("%s can be read by others than its owner; chmod 600 it", file)

    def subject_of(self, metadata: Metadata) -> str:
        """Whose token the call carries. Raises TokenRequired or TokenInvalid."""
        said = next((value for name, value in metadata if name == "authorization"), None)
        if said is None:
            raise TokenRequired("this server asks for a token: send `authorization: Bearer ...` with the call")
        scheme, _, token = (said if isinstance(said, str) else said.decode("latin-1")).partition(" ")
        if scheme.lower() != "bearer":
            raise TokenInvalid("the authorization is not of the form `Bearer ...`")
        self._look()
        digest = hashlib.sha256(token.strip().encode("utf-8", "surrogateescape")).digest()
        found = [entry for entry in self._entries if hmac.compare_digest(entry.sha256, digest)]
        if not found:
            raise TokenInvalid("the token is not known here; was it revoked?")
        entry = found[0]
        if entry.expires is not None and datetime.datetime.now(datetime.UTC).date() > _date(entry.expires):
            raise TokenInvalid(f"the token expired on {_date(entry.expires)}")
        return entry.subject

    def _look(self) -> None:
        """A file that has become unreadable changes nothing: the tokens that were good stay good."""
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked, state = now, _state(self._file)
        if state == self._state:
            return
        self._state = state
        try:
            self._entries = read_tokens(self._file)
            log.info("%s has changed: %d tokens", self._file, len(self._entries))
        except ConfigError as error:
            log.error("the tokens stay as they were: %s", error)


class TokenInterceptor(grpc.aio.ServerInterceptor):
    """Refuses calls without a good token; every method keeps its shape, and health checks pass."""

    def __init__(self, tokens: TokenFile, on_refusal: Callable[[str], None] = lambda reason: None) -> None:
        """`on_refusal` is told the reason of each call that was refused."""
        self._tokens, self._on_refusal = tokens, on_refusal

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any) -> Any:
        """gRPC's hook: the handler of the call, or one of the same shape that refuses it."""
        handler = await continuation(handler_call_details)
        if handler is None or handler_call_details.method.startswith(OPEN_SERVICES):
            return handler
        try:
            self._tokens.subject_of(handler_call_details.invocation_metadata or ())
        except StreamEnded as error:
            self._on_refusal(error.reason)
            return _refusing(handler, error)
        return handler


def _refusing(handler: Any, error: StreamEnded) -> Any:
    async def refuse(_request: object, context: Any) -> None:
        log.warning("a call from %s was refused: %s", context.peer(), error.reason)
        await abort(context, error)

    make = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[bool(handler.request_streaming), bool(handler.response_streaming)]
    return make(refuse, handler.request_deserializer, handler.response_serializer)


def _state(file: Path) -> tuple[int, int, int] | None:
    """Changes when the file does."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _date(moment: datetime.date) -> datetime.date:
    return moment.date() if isinstance(moment, datetime.datetime) else moment

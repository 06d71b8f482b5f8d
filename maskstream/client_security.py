"""How a client proves itself and checks the server: TLS, a certificate of its own, a bearer token.

A token goes out with every call and is worth as much as a password; over plain text it is sent to this machine alone,
unless the caller insists (a proxy beside the client may do the encrypting).
"""

import ipaddress
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

Token = str | Callable[[], str]
Options = Sequence[tuple[str, Any]]


@dataclass(frozen=True)
class ClientTls:
    """PEM files. Without `ca` the authorities are those that gRPC knows; with `certificate` and `key` it is mutual."""

    ca: Path | str | None = None
    certificate: Path | str | None = None
    key: Path | str | None = None
    server_name: str | None = None  # in the server's certificate, when that is not the name it is reached by

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("a client certificate comes with its key: give both, or neither")


@dataclass(frozen=True)
class Access:
    """What a client needs to be let in; the token is in no repr."""

    tls: ClientTls | None = None
    token: Token | None = field(default=None, repr=False)
    insecure_token: bool = False  # send the token over plain text to other machines too


def secure_channel(target: str, options: Options, access: Access) -> grpc.Channel:
    """A channel to HOST:PORT. Raises ValueError for a token that would be sent in plain text or is none, and for PEM
    files that are none; OSError for a file that cannot be read.
    """
    if isinstance(access.token, str):
        _header(access.token)
    if access.tls is None:
        channel = grpc.insecure_channel(target, options)
    else:
        extra = [("grpc.ssl_target_name_override", access.tls.server_name)] if access.tls.server_name else []
        channel = grpc.secure_channel(target, _credentials(access.tls), [*options, *extra])
    if access.token is None:
        return channel
    if access.tls is None and not access.insecure_token and not _is_this_machine(target):
        raise ValueError(f"the token would be sent to {target} in plain text; give `tls`, or insecure_token=True")
    return grpc.intercept_channel(channel, _Bearer(access.token))


def _credentials(tls: ClientTls) -> grpc.ChannelCredentials:
    ca, key, certificate = (Path(file).read_bytes() if file else None for file in (tls.ca, tls.key, tls.certificate))
    _try(tls)
    return grpc.ssl_channel_credentials(ca, key, certificate)


def _try(tls: ClientTls) -> None:
    """Raises ValueError that names the file; gRPC would say no more than that it cannot connect."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if tls.ca is not None:
            context.load_verify_locations(tls.ca)
    except ssl.SSLError as error:
        raise ValueError(f"{tls.ca}: {error.reason}; expected CA certificates, PEM") from error
    try:
        if tls.certificate is not None:
            context.load_cert_chain(tls.certificate, tls.key, password="")
    except ssl.SSLError as error:
        raise ValueError(
            f"{tls.certificate} and {tls.key}: {error.reason}; expected a certificate and its key, both PEM, the key "
            "not encrypted"
        ) from error


def _header(token: str) -> str:
    """The value of `authorization`; a line's end is no part of a token. Raises ValueError, which never shows it."""
    token = token.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError("the token is empty or holds characters that no token has; was another file read for it?")
    return f"Bearer {token}"


class _Bearer(grpc.UnaryUnaryClientInterceptor, grpc.StreamStreamClientInterceptor):
    """Adds the token to each call; one that is a function is asked each time, so it may be renewed."""

    def __init__(self, token: Token) -> None:
        self._token = token

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return continuation(self._with_token(client_call_details), request)

    def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return continuation(self._with_token(client_call_details), request_iterator)

    def _with_token(self, details: Any) -> "_Details":
        token = self._token if isinstance(self._token, str) else self._token()
        metadata = [*(details.metadata or ()), ("authorization", _header(token))]
        return _Details(
            details.method, details.timeout, metadata, details.credentials, details.wait_for_ready, details.compression
        )


class _Details(grpc.ClientCallDetails):
    """gRPC gives no constructor for these."""

    def __init__(
        self, method: str, timeout: float | None, metadata: Any, credentials: Any, wait_for_ready: Any, compression: Any
    ) -> None:
        self.method, self.timeout, self.metadata = method, timeout, metadata
        self.credentials, self.wait_for_ready, self.compression = credentials, wait_for_ready, compression


def _is_this_machine(target: str) -> bool:
    if target.startswith("unix:"):
        return True
    host = target.rpartition("/")[2].rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

"""The gRPC listener: its options, and its address in plain text, with TLS, or with TLS and client certificates.

gRPC says of a bad certificate no more than that it failed; so the files are tried with Python's own TLS first, which
names what is wrong. Certificates that are renewed on disk are taken up by new connections, without a restart.
"""

import logging
import ssl
from collections.abc import Sequence
from pathlib import Path

import grpc

from serve.config import ConfigError, ServeConfig, TlsSettings

log = logging.getLogger(__name__)

OTHERS_MAY_READ = 0o077


def build_listener(config: ServeConfig, interceptors: Sequence[grpc.aio.ServerInterceptor] = ()) -> grpc.aio.Server:
    """A gRPC server with our options, without services yet."""
    options: list[tuple[str, int]] = [
        ("grpc.max_receive_message_length", config.limits.max_message_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.so_reuseport", 0),  # a second server on this port is a mistake that must be seen
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ]
    if config.small_window:
        options += [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_536)]
    if config.max_connection_age_seconds:
        options += [("grpc.max_connection_age_ms", round(1000 * config.max_connection_age_seconds))]
    return grpc.aio.server(interceptors=list(interceptors), options=options)


def bind(server: grpc.aio.Server, address: str, tls: TlsSettings) -> int:
    """Listen; returns the real port. Raises OSError for an address that cannot be had, ConfigError for bad files."""
    try:
        if tls.certificate is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, _Certificates(tls).credentials())
    except RuntimeError as error:
        raise OSError(f"cannot listen on {address}: {error}") from error
    return int(port)


class _Certificates:
    """The PEM files of a server, as they are now."""

    def __init__(self, tls: TlsSettings) -> None:
        self._tls = tls
        self._files = [file for file in (tls.certificate, tls.key, tls.client_ca) if file is not None]
        self._state = self._times()  # before the files: what changes meanwhile is seen at the next handshake
        self._loaded = self._load()
        if tls.key is not None and tls.key.stat().st_mode & OTHERS_MAY_READ:
            log.warning("%s can be read by others than its owner; chmod 600 it", tls.key)

    def credentials(self) -> grpc.ServerCredentials:
        """What gRPC asks at every handshake."""
        return grpc.dynamic_ssl_server_credentials(
            self._loaded,
            self._renewed,  # type: ignore[arg-type] # None says that nothing has changed
            require_client_authentication=self._tls.client_ca is not None,
        )

    def _renewed(self) -> grpc.ServerCertificateConfiguration | None:
        """New files, None while the old ones hold; called by gRPC on a thread of its own."""
        state = self._times()
        if state == self._state:
            return None
        self._state = state
        try:
            self._loaded = self._load()
        except (ConfigError, OSError) as error:  # OSError: a file that went away between two looks
            log.error("the certificate stays as it was: %s", error)
            return None
        log.info("%s has changed: new connections get the new certificate", self._tls.certificate)
        return self._loaded

    def _load(self) -> grpc.ServerCertificateConfiguration:
        tls = self._tls
        _try(tls)
        assert tls.certificate is not None
        assert tls.key is not None
        pair = (tls.key.read_bytes(), tls.certificate.read_bytes())
        client_ca = tls.client_ca.read_bytes() if tls.client_ca else None
        return grpc.ssl_server_certificate_configuration([pair], root_certificates=client_ca)

    def _times(self) -> tuple[int, ...]:
        return tuple(_modified_ns(file) for file in self._files)


def _modified_ns(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0


def _try(tls: TlsSettings) -> None:
    """Raises ConfigError, naming the file and what is wrong with it."""
    assert tls.certificate is not None
    assert tls.key is not None
    for file in (tls.certificate, tls.key, tls.client_ca):
        _read(file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(tls.certificate, tls.key, password="")
    except ssl.SSLError as error:
        mismatch = error.reason == "KEY_VALUES_MISMATCH"
        what = "the key does not belong to the certificate" if mismatch else error.reason
        raise ConfigError(
            f"[tls] {tls.certificate} and {tls.key}: {what}; expected a certificate and its key, both PEM, the key not "
            "encrypted"
        ) from error
    if tls.client_ca is not None:
        try:
            context.load_verify_locations(tls.client_ca)
        except ssl.SSLError as error:
            raise ConfigError(f"[tls] {tls.client_ca}: {error.reason}; expected CA certificates, PEM") from error


def _read(file: Path | None) -> None:
    try:
        if file is not None:
            file.read_bytes()
    except OSError as error:
        raise ConfigError(f"[tls] cannot read {file}: {error.strerror}") from error

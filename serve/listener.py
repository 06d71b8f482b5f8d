"""The gRPC listener: channel options and addresses."""

import grpc

from serve.config import ServeConfig


def build_listener(config: ServeConfig) -> grpc.aio.Server:
    """A gRPC server with our options, without services yet."""
    options = [
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
    return grpc.aio.server(options=options)


def bind(server: grpc.aio.Server, address: str, config: ServeConfig) -> int:
    """Listen; returns the real port. Raises OSError for an address that cannot be had."""
    try:
        return server.add_insecure_port(address)
    except RuntimeError as error:
        raise OSError(f"cannot listen on {address}: {error}") from error

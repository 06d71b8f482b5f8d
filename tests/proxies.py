"""A real nginx or Envoy in front of replicas, run from the very files in deploy/, on free ports with throwaway keys.

Only names of files, addresses and ports are exchanged; a test that wants a shorter timer asks for it in so many words.
"""

import contextlib
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from certificates import Authority
from served import TIMEOUT

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
NGINX_CONF = DEPLOY / "nginx/maskstream.conf"
ENVOY_YAML = DEPLOY / "envoy/envoy.yaml"
HOST_NAME, REPLICA_NAME, CLIENT_NAME = "video.example.com", "replica.maskstream.internal", "client"  # as in deploy/

# What the operating system's nginx.conf has around the file; here in the foreground, in one folder, as anyone.
AROUND = """
daemon off;
pid nginx.pid;
error_log error.log info;
worker_processes 2;
worker_shutdown_timeout 1h;
events {{ worker_connections 4096; }}
http {{
    client_body_temp_path temp_body; proxy_temp_path temp_proxy; fastcgi_temp_path temp_fastcgi;
    uwsgi_temp_path temp_uwsgi; scgi_temp_path temp_scgi;
    include {conf};
}}
"""


@dataclass(frozen=True)
class Proxy:
    """A running one: `target` takes TLS with the certificates of `keys`."""

    target: str
    folder: Path
    process: "subprocess.Popen[bytes]"

    def reload(self, conf: str) -> None:
        """Another configuration for streams to come, for nginx."""
        (self.folder / "maskstream.conf").write_text(conf)
        self.process.send_signal(1)


def need(program: str) -> str:
    """Where the program is; without it the test is skipped, and says so."""
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip(f"{program} IS NOT INSTALLED: what is written for it in deploy/ was not tested")
    return found


def free_ports(count: int) -> list[int]:
    """Free a moment ago, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def make_keys(folder: Path) -> Path:
    """ca.pem, and .pem and .key of the balancer, of a replica and of a client, named for whom they are."""
    authority = Authority(folder)
    for name in (HOST_NAME, REPLICA_NAME, CLIENT_NAME):
        authority.pair(name)
    return folder


def nginx_conf(port: int, replicas: list[int], keys: Path, changes: Mapping[str, str] | None = None) -> str:
    """deploy/nginx/maskstream.conf for these ports. Each of `changes` must be found in it."""
    text = NGINX_CONF.read_text()
    here = {
        "listen 443 ": f"listen 127.0.0.1:{port} ",
        "/var/log/nginx/maskstream.log": "access.log",
        "/etc/nginx/maskstream/server": str(keys / HOST_NAME),
        "/etc/nginx/maskstream/client-ca.pem": str(keys / "ca.pem"),
        "/etc/nginx/maskstream/replica-ca.pem": str(keys / "ca.pem"),
        "/etc/nginx/maskstream/proxy": str(keys / CLIENT_NAME),
    }
    for old, new in {**here, **(changes or {})}.items():
        assert old in text, f"`{old}` is not in {NGINX_CONF.name}"
        text = text.replace(old, new)
    servers = re.findall(r"    server 127\.0\.0\.1:\d+(.*)\n", text)
    for options in sorted(set(servers)):
        block = "".join(f"    server 127.0.0.1:{replica}{options}\n" for replica in replicas)
        text = re.sub(rf"(    server 127\.0\.0\.1:\d+{re.escape(options)}\n)+", block, text)
    return text


@contextlib.contextmanager
def nginx(folder: Path, keys: Path, replicas: list[int], changes: Mapping[str, str] | None = None) -> Iterator[Proxy]:
    """Until the `with` ends."""
    program, (port,) = need("nginx"), free_ports(1)
    (folder / "maskstream.conf").write_text(nginx_conf(port, replicas, keys, changes))
    (folder / "nginx.conf").write_text(AROUND.format(conf=folder / "maskstream.conf"))
    command = [program, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "start.log")]
    with _running(command, folder, port) as process:
        yield Proxy(f"127.0.0.1:{port}", folder, process)


def envoy_yaml(port: int, replicas: list[int], keys: Path, changes: Mapping[str, str] | None = None) -> str:
    """deploy/envoy/envoy.yaml for these ports. Each of `changes` must be found in it."""
    text = ENVOY_YAML.read_text()
    here = {
        "address: 0.0.0.0, port_value: 443": f"address: 127.0.0.1, port_value: {port}",
        "port_value: 9901": "port_value: 0",
        "/etc/envoy/maskstream/server": str(keys / HOST_NAME),
        "/etc/envoy/maskstream/client-ca.pem": str(keys / "ca.pem"),
        "/etc/envoy/maskstream/replica-ca.pem": str(keys / "ca.pem"),
        "/etc/envoy/maskstream/proxy": str(keys / CLIENT_NAME),
    }
    for old, new in {**here, **(changes or {})}.items():
        assert old in text, f"`{old}` is not in {ENVOY_YAML.name}"
        text = text.replace(old, new)
    endpoint = re.compile(r"( +- endpoint: .*port_value: )\d+(.*\n)+?(?! +- endpoint)")
    first = endpoint.search(text)
    assert first is not None
    line = first.group(0).splitlines()[0]
    return endpoint.sub("".join(re.sub(r"\d+(?=}}})", str(r), line) + "\n" for r in replicas), text, count=1)


@contextlib.contextmanager
def envoy(folder: Path, keys: Path, replicas: list[int], changes: Mapping[str, str] | None = None) -> Iterator[Proxy]:
    """Until the `with` ends."""
    program, (port,) = need("envoy"), free_ports(1)
    file = folder / "envoy.yaml"
    file.write_text(envoy_yaml(port, replicas, keys, changes))
    command = [program, "-c", str(file), "--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"]
    with _running(command, folder, port) as process:
        yield Proxy(f"127.0.0.1:{port}", folder, process)


@contextlib.contextmanager
def _running(command: list[str], folder: Path, port: int) -> Iterator["subprocess.Popen[bytes]"]:
    with (folder / "output.log").open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)
    try:
        _wait_for(port, process, folder)
        yield process
    finally:
        process.terminate()
        process.wait(TIMEOUT)


def _wait_for(port: int, process: "subprocess.Popen[bytes]", folder: Path) -> None:
    deadline = time.monotonic() + TIMEOUT
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        assert process.poll() is None, "".join(log.read_text() for log in sorted(folder.glob("*.log")))
        assert time.monotonic() < deadline, f"nobody listens on {port}"
        time.sleep(0.02)


def channel(
    proxy: Proxy, keys: Path, *, certificate: bool = False, token: str = "", more: Sequence[tuple[str, Any]] = ()
) -> grpc.Channel:
    """A connection of its own, as a client would open it from outside."""
    own = (
        tuple((keys / f"{CLIENT_NAME}.{kind}").read_bytes() for kind in ("key", "pem")) if certificate else (None, None)
    )
    credentials = grpc.ssl_channel_credentials((keys / "ca.pem").read_bytes(), *own)
    if token:
        credentials = grpc.composite_channel_credentials(credentials, grpc.access_token_call_credentials(token))
    options = [
        ("grpc.ssl_target_name_override", HOST_NAME),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 500),
        ("grpc.keepalive_time_ms", 20_000),
        *more,
    ]
    return grpc.secure_channel(proxy.target, credentials, options)


def status_of(stream: Any) -> tuple[grpc.StatusCode, str]:
    """Code and reason with which a stream ends that is not to end well."""
    with pytest.raises(grpc.RpcError) as caught:
        list(stream)
    told = {item.key: item.value for item in caught.value.trailing_metadata() or ()}
    return caught.value.code(), str(told.get("maskstream-reason", ""))

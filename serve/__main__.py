"""maskstream-serve: reads the settings, loads the networks, serves until SIGTERM or Ctrl-C.

All that concerns the whole process (signals, logging, thread counts of OpenCV, the switch interval) is set here and
nowhere else. When the server is ready it says so in one line on standard output, `ready listen=... http=... ...`, and
in a JSON file if asked: a parent process that starts a server on port 0 finds the real ports there.
"""

import os

# Read when grpc is imported, below. Its core writes to standard error by itself, a line for each failed TLS handshake,
# and waits for whoever reads there: strangers could stop a server whose log is not read.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

# Read when cv2 is imported. Sizes are held against the limits before anything is decoded; this is a second wall, for a
# picture whose header our reader and the decoder should ever read differently. Without it: 2^30 pixels, 3 GiB.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(2**26))

import argparse
import asyncio
import contextlib
import ctypes
import functools
import ipaddress
import json
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
from prometheus_client import (
    GC_COLLECTOR,
    PLATFORM_COLLECTOR,
    PROCESS_COLLECTOR,
    CollectorRegistry,
    disable_created_metrics,
)

from maskstream.errors import MaskstreamError
from serve.config import ConfigError, Limits, ServeConfig, load_config
from serve.http_endpoint import split_address
from serve.loading import load_model
from serve.logs import FORMS, configure_logging, native_output_logged
from serve.metrics import Metrics
from serve.server import Server
from serve.tokens import new_token
from serve.web.wanted import why_no_page

log = logging.getLogger("serve")

_ARENA_MAX = -8  # M_ARENA_MAX of malloc.h

EPILOG = """
examples:
  maskstream-serve
      the model that ships with maskstream, on this machine alone
  maskstream-serve --artifact my_model/ --listen 0.0.0.0:50051 --tls-certificate server.pem --tls-key server.key \\
      --tokens tokens.toml --max-streams 16 --bank-mib 4096
      your own model, for the network: encrypted, for those who have a token
  maskstream-serve --new-token camera-1
      a token, shown once, and the line for tokens.toml
  maskstream-serve --listen 127.0.0.1:0 --http 127.0.0.1:0 --announce server.json
      free ports, written to server.json when the server is ready

SIGTERM drains: new streams are refused, open ones are told and finish within --grace-seconds. A second SIGTERM ends
the server at once. SIGHUP loads the artifact anew for new streams; open ones finish on the model they began with.
"""


def build_parser() -> argparse.ArgumentParser:
    """Flags that are not given stay None and leave the word to --config and the defaults."""
    parser = argparse.ArgumentParser(
        prog="maskstream-serve",
        description="Serves masks for live video over gRPC: one stream a video, one engine for all streams.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_model(parser)
    _add_network(parser)
    _add_process(parser)
    return parser


def _add_model(parser: argparse.ArgumentParser) -> None:
    default = ServeConfig()
    add = parser.add_argument_group("model").add_argument
    text = "model to serve, made by maskstream-export (default: the shipped one)"
    add("--artifact", type=Path, metavar="DIR", help=text)
    text = "what runs the model, e.g. onnxruntime (default: auto, the fastest that is installed)"
    add("--engine", metavar="NAME", help=text)
    add("--threads", type=int, metavar="N", help="threads of the engine (default: the engine's own choice)")
    text = "size the networks work at; less is faster (default: as trained)"
    add("--short-side", type=int, metavar="PIXELS", help=text)
    text = f"streams open at once, more are refused (default {default.max_streams})"
    add("--max-streams", type=int, metavar="N", help=text)
    text = "frames of different streams in one run of the networks (default: what measures best)"
    add("--max-batch", type=int, metavar="N", help=text)
    text = f"memory of all streams' banks, 0: half of what is left (default {default.bank_mib})"
    add("--bank-mib", type=int, metavar="MIB", help=text)


def _add_network(parser: argparse.ArgumentParser) -> None:
    default = ServeConfig()
    add = parser.add_argument_group("network").add_argument
    add("--listen", metavar="HOST:PORT", help=f"gRPC address (default {default.listen}); port 0 takes a free one")
    text = f"address of the web page and of /metrics /livez /readyz (default {default.http})"
    add("--http", metavar="HOST:PORT", help=text)
    text = "no page; it needs the extra [web] anyway"
    add("--no-web", dest="web", action="store_const", const=False, help=text)
    text = "certificate and its chain, PEM; with --tls-key it turns TLS on"
    add("--tls-certificate", dest="tls.certificate", type=Path, metavar="FILE", help=text)
    add("--tls-key", dest="tls.key", type=Path, metavar="FILE", help="key of the certificate, PEM")
    text = "clients must show a certificate signed by this CA, PEM"
    add("--tls-client-ca", dest="tls.client_ca", type=Path, metavar="FILE", help=text)
    text = "clients must have one of the tokens whose hashes are here, TOML"
    add("--tokens", dest="auth.tokens", type=Path, metavar="FILE", help=text)
    text = "make a token for SUBJECT, print it and its line for the --tokens file, and end"
    add("--new-token", metavar="SUBJECT", help=text)
    add("--reflection", action="store_true", default=None, help="let grpcurl list the service (default: off)")


def _add_process(parser: argparse.ArgumentParser) -> None:
    default = ServeConfig()
    add = parser.add_argument_group("process").add_argument
    text = f"from SIGTERM to the end (default {default.grace_seconds:.0f})"
    add("--grace-seconds", type=float, metavar="S", help=text)
    add("--config", type=Path, metavar="FILE", help="TOML with these settings and more, see docs/serving.md; flags win")
    add("--announce", type=Path, metavar="FILE", help="write a JSON object with the real ports here when ready")
    add("--log-level", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR"), help="(default INFO)")
    add("--log-format", choices=FORMS, help=f"json: an object a line (default {default.log_format})")


def bound_allocator() -> None:
    """Let threads share two heaps of the C library. It makes one for each thread else, none of which gives back what a
    passing stream left in it: a server with streams coming and going grew by 1 KB a stream, and by 0.2 KB with two.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library has no such heaps
        ctypes.CDLL("libc.so.6").mallopt(_ARENA_MAX, 2)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0 after a drain, 2 for settings that cannot be used, 1 for a server that cannot start."""
    flags = vars(build_parser().parse_args(argv))
    announce, config_file, level = flags.pop("announce"), flags.pop("config"), flags.pop("log_level")
    subject = flags.pop("new_token")
    try:
        if subject is not None:
            print("token: {}\nline:  {}".format(*new_token(subject)))
            return 0
        config = load_config(config_file, flags)
        split_address(config.listen), split_address(config.http)
        check_wall(config.limits)
    except (MaskstreamError, ValueError) as error:
        print(f"maskstream-serve: {error}", file=sys.stderr)
        return 2
    bound_allocator()
    configure_logging(level, config.log_format)
    warn_of_open_doors(config)
    cv2.setNumThreads(0)  # frames are decoded side by side already
    sys.setswitchinterval(0.0005)  # seconds; the event loop must not wait 5 ms for a busy engine thread
    try:
        with native_output_logged():
            asyncio.run(serve(load_server(config), announce))
    except (MaskstreamError, OSError) as error:
        print(f"maskstream-serve: {error}", file=sys.stderr)
        return 1
    return 0


def check_wall(limits: Limits) -> None:
    """Raises ConfigError when OpenCV would refuse pictures that the limits allow."""
    wall = os.environ.get("OPENCV_IO_MAX_IMAGE_PIXELS", "")
    if wall.isdecimal() and limits.max_width * limits.max_height > int(wall):
        raise ConfigError(
            f"max_width x max_height is {limits.max_width * limits.max_height} pixels, and OpenCV decodes {wall} at "
            f"most; lower the limits, or set OPENCV_IO_MAX_IMAGE_PIXELS to more in the environment"
        )


def warn_of_open_doors(config: ServeConfig) -> None:
    """What an engineer should know who put the server on a network: one line for each door that stands open."""
    if not _is_loopback(config.listen):
        if config.tls.certificate is None:
            log.warning(
                "%s is reachable from other machines and speaks plain text; see docs/security.md", config.listen
            )
        if config.auth.tokens is None and config.tls.client_ca is None:
            log.warning("%s is reachable from other machines and anyone may open streams", config.listen)
    elif config.auth.tokens is not None and config.tls.certificate is None:
        log.warning("tokens over plain text can be read on the way; that is fine behind a proxy on this machine alone")
    if not _is_loopback(config.http):
        streams = " and lets anyone open streams" if why_no_page(config) is None and config.auth.tokens is None else ""
        log.warning("%s shows metrics to other machines%s without asking who they are", config.http, streams)


def _is_loopback(address: str) -> bool:
    host, _ = split_address(address)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def load_server(config: ServeConfig) -> Server:
    """The server for an artifact on disk. Raises ArtifactError, and what the engine raises when it cannot be had."""
    disable_created_metrics()  # type: ignore[no-untyped-call] # a second series for each counter, of no use here
    registry = CollectorRegistry()
    for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
        registry.register(collector)
    load = functools.partial(load_model, config)
    return Server(load(), config, Metrics(registry), load)


async def serve(server: Server, announce: Path | None) -> None:
    """Start, say so, and stay until a signal."""
    told = asyncio.Event()
    swaps: set[asyncio.Task[None]] = set()
    loop = asyncio.get_running_loop()

    def swap() -> None:
        swaps.add(task := asyncio.create_task(_swap(server)))
        task.add_done_callback(swaps.discard)

    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, told.set)
    loop.add_signal_handler(signal.SIGHUP, swap)
    await server.start()
    say_ready(server, announce)
    await told.wait()
    log.info("draining; a second signal ends at once")
    told.clear()
    drained = asyncio.create_task(server.drain())
    again = asyncio.create_task(told.wait())
    await asyncio.wait({drained, again}, return_when=asyncio.FIRST_COMPLETED)
    if not drained.done():
        drained.cancel()
        await server.stop()
    again.cancel()
    for task in swaps:
        task.cancel()


async def _swap(server: Server) -> None:
    """Whatever is wrong with the new model, the server serves on with the one it has."""
    try:
        await server.swap_model()
    except Exception:
        log.exception("the model stays as it was")


def say_ready(server: Server, announce: Path | None) -> None:
    """One line for people and for a parent process."""
    identity = server.model.identity
    facts = {
        "listen": server.listen,
        "http": server.http,
        "engine": identity.engine,
        "precision": identity.precision,
        "model": identity.model,
        "model_version": identity.model_version,
        "server_version": identity.server_version,
    }
    if announce:
        unfinished = announce.with_name(announce.name + ".part")
        unfinished.write_text(json.dumps(facts) + "\n")
        unfinished.replace(announce)  # who waits for the file never reads half of it
    print("ready " + " ".join(f"{name}={value}" for name, value in facts.items()), flush=True)


if __name__ == "__main__":
    sys.exit(main())

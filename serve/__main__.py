"""maskstream-serve: reads the settings, loads the networks, serves until SIGTERM or Ctrl-C.

All that concerns the whole process (signals, logging, thread counts of OpenCV, the switch interval) is set here and
nowhere else. When the server is ready it says so in one line on standard output, `ready listen=... http=... ...`, and
in a JSON file if asked: a parent process that starts a server on port 0 finds the real ports there.
"""

import argparse
import asyncio
import importlib.metadata
import json
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR, CollectorRegistry

from maskstream.errors import MaskstreamError
from serve.config import ServeConfig, load_config
from serve.http_endpoint import split_address
from serve.server import Server, build_server

log = logging.getLogger("serve")

EPILOG = """
examples:
  maskstream-serve
      the model that ships with maskstream, on this machine alone
  maskstream-serve --artifact my_model/ --listen 0.0.0.0:50051 --http 0.0.0.0:9464 --max-streams 16 --bank-mib 4096
      your own model, for the network; put TLS and authentication in front of it
  maskstream-serve --listen 127.0.0.1:0 --http 127.0.0.1:0 --announce server.json
      free ports, written to server.json when the server is ready

SIGTERM drains: new streams are refused, open ones are told and finish within --grace-seconds. A second SIGTERM ends
the server at once.
"""


def build_parser() -> argparse.ArgumentParser:
    """Flags that are not given stay None and leave the word to --config and the defaults."""
    default = ServeConfig()
    parser = argparse.ArgumentParser(
        prog="maskstream-serve",
        description="Serves masks for live video over gRPC: one stream a video, one engine for all streams.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--artifact",
        type=Path,
        metavar="DIR",
        help="model to serve, made by maskstream-export (default: the shipped one)",
    )
    add(
        "--engine",
        metavar="NAME",
        help="what runs the model, e.g. onnxruntime (default: auto, the fastest that is installed)",
    )
    add("--threads", type=int, metavar="N", help="threads of the engine (default: the engine's own choice)")
    add(
        "--short-side",
        type=int,
        metavar="PIXELS",
        help="size the networks work at; less is faster (default: as trained)",
    )
    add("--listen", metavar="HOST:PORT", help=f"gRPC address (default {default.listen}); port 0 takes a free one")
    add("--http", metavar="HOST:PORT", help=f"address of /metrics /livez /readyz (default {default.http})")
    add(
        "--max-streams",
        type=int,
        metavar="N",
        help=f"streams open at once, more are refused (default {default.max_streams})",
    )
    add(
        "--bank-mib",
        type=int,
        metavar="MIB",
        help=f"memory of all streams' banks together (default {default.bank_mib})",
    )
    add(
        "--grace-seconds",
        type=float,
        metavar="S",
        help=f"from SIGTERM to the end (default {default.grace_seconds:.0f})",
    )
    add("--reflection", action="store_true", default=None, help="let grpcurl list the service (default: off)")
    add("--config", type=Path, metavar="FILE", help="TOML with these settings and more, see docs/serving.md; flags win")
    add("--announce", type=Path, metavar="FILE", help="write a JSON object with the real ports here when ready")
    add("--log-level", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR"), help="(default INFO)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0 after a drain, 2 for settings that cannot be used, 1 for a server that cannot start."""
    flags = vars(build_parser().parse_args(argv))
    announce, config_file = flags.pop("announce"), flags.pop("config")
    logging.basicConfig(level=flags.pop("log_level"), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        config = load_config(config_file, flags)
        split_address(config.listen), split_address(config.http)
    except (MaskstreamError, ValueError) as error:
        print(f"maskstream-serve: {error}", file=sys.stderr)
        return 2
    cv2.setNumThreads(0)  # frames are decoded side by side already
    sys.setswitchinterval(0.0005)  # seconds; the event loop must not wait 5 ms for a busy engine thread
    try:
        server = load_server(config)
        asyncio.run(serve(server, announce))
    except (MaskstreamError, OSError) as error:
        print(f"maskstream-serve: {error}", file=sys.stderr)
        return 1
    return 0


def load_server(config: ServeConfig) -> Server:
    """The server for an artifact on disk. Raises ArtifactError, and what the engine raises when it cannot be had."""
    from maskstream.artifact import Artifact, default_artifact
    from maskstream.engines import load_networks

    folder = config.artifact or default_artifact()
    artifact = Artifact.load(folder)
    networks = load_networks(folder, config.engine, config.threads or None)
    registry = CollectorRegistry()
    for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
        registry.register(collector)
    version = importlib.metadata.version("maskstream")
    return build_server(networks, config, registry, model_version=artifact.version, server_version=version)


async def serve(server: Server, announce: Path | None) -> None:
    """Start, say so, and stay until a signal."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, told.set)
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


def say_ready(server: Server, announce: Path | None) -> None:
    """One line for people and for a parent process."""
    facts = {
        "listen": server.listen,
        "http": server.http,
        "engine": server.model.identity.engine,
        "precision": server.model.identity.precision,
        "model": server.model.identity.model,
        "model_version": server.model.identity.model_version,
        "server_version": server.model.identity.server_version,
    }
    if announce:
        unfinished = announce.with_name(announce.name + ".part")
        unfinished.write_text(json.dumps(facts) + "\n")
        unfinished.replace(announce)  # who waits for the file never reads half of it
    print("ready " + " ".join(f"{name}={value}" for name, value in facts.items()), flush=True)


if __name__ == "__main__":
    sys.exit(main())

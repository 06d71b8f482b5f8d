"""maskstream bench serve: load on the gRPC service, offered by the clock and not by the answers.

One command for what a server must bear: a sweep of loads up to twice what the machine can do, hostile clients beside
good ones, a soak, SIGTERM in mid load, and the server's overhead over the bare tracker.
"""

import argparse
import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from maskstream.client import MaskStreamClient
from maskstream.commands import bench_serve_modes as modes
from maskstream.commands.bench import counts, frame_size
from maskstream.commands.bench_serve_modes import Bench
from maskstream.commands.networks import add_engine_arguments
from maskstream.commands.remote import access_of, add_server_arguments
from maskstream.errors import MaskstreamError
from maskstream.load.encoded_clip import encoded_clip
from maskstream.load.endpoint import Endpoint
from maskstream.load.hostile import KINDS
from maskstream.load.load_plot import check_plot
from maskstream.load.own_server import ServerWishes, own_server
from maskstream.load.plan import LATEST, LOSSLESS, Load
from maskstream.load.soak import STREAMS as SOAK_STREAMS
from maskstream.load.soak import SoakPlan

DESCRIPTION = """\
Offer load to a server: frames leave at times that are fixed beforehand, and latency counts from those times, so that a
server that stops for a moment is seen to stop. Without --server one is started here. Every frame has an end; one that
was sent and has neither an answer nor a notice is LOST, and makes the exit status 1.

  maskstream bench serve --streams 4 --size 256x456 --json load.json --plot load.png    0.25 to 2 times what it can do
  maskstream bench serve --streams 4 --fps 10 --delivery latest --max-frame-age 0.3 --hostile slow_reader,bomb
  maskstream bench serve --server gpu-box:50051 --http gpu-box:9464 --streams 8,32 --fps 30
  maskstream bench serve --sigterm --streams 4              SIGTERM in mid load: nothing may be lost
  maskstream bench serve --soak 20 --size 256x456           memory and step time over 20 minutes
  maskstream bench serve --against-tracker --size 256x456   what the server costs on top of its tracker"""

LOADS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
_SECONDS = {"loads": 20.0, "sigterm": 5.0, "against_tracker": 2.0}  # of --duration, by what is measured
_SLOTS_OF_HOSTILE = 2  # each: the next stream may come before the last one's end was noticed


class BenchServeError(MaskstreamError):
    """Arguments that do not go together."""

    reason = "BENCH_SERVE_FAILED"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    _add_server(parser)
    _add_load(parser)
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument("--soak", metavar="MINUTES", type=_positive, help="long streams beside churn, for so long")
    modes.add_argument("--sigterm", action="store_true", help="SIGTERM to its own server in mid load")
    modes.add_argument("--against-tracker", action="store_true", help="its own server and the bare tracker in turns")
    parser.add_argument("--rounds", metavar="N", type=int, default=12, help="of --against-tracker (default: 12)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all figures and where they come from")
    parser.add_argument("--plot", metavar="FILE", type=Path, help="draw latency and drops against load, .png or .svg")


def _add_server(parser: argparse.ArgumentParser) -> None:
    add_server_arguments(parser, default="one of its own")
    parser.add_argument("--http", metavar="HOST:PORT", help="/metrics of --server: its memory, CPU time and counts")
    add_engine_arguments(parser)
    parser.add_argument("--max-batch", metavar="N", type=int, help="of its own server (default: what it measures)")
    parser.add_argument(
        "--config", metavar="FILE", type=Path, help="TOML with more settings of its own server, see docs/serving.md"
    )


def _add_load(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--streams", metavar="N,N", type=counts, default=[4], help="open at once; each is a sweep (default: 4)")
    add("--fps", metavar="F", type=_positive, help="of each stream: one load instead of a sweep")
    add(
        "--loads",
        metavar="X,X",
        type=_fractions,
        default=list(LOADS),
        help=f"shares of what a closed loop shows the machine can do (default: {','.join(map(str, LOADS))})",
    )
    add("--objects", metavar="N", type=int, default=1, help="followed on each stream (default: 1)")
    add("--size", metavar="HxW", type=frame_size, default=(480, 854), help="of the frames (default: 480x854)")
    add("--delivery", choices=(LATEST, LOSSLESS), default=LATEST, help="(default: latest)")
    add(
        "--duration",
        metavar="S",
        type=_positive,
        help="measured, of each load (default: 20; --sigterm 5, each part of a round 2)",
    )
    add("--warm-up", metavar="S", type=_positive, default=3.0, help="before that, not measured (default: 3)")
    add("--max-frame-age", metavar="S", type=_positive, help="latest only: older frames are dropped by the server")
    add(
        "--hostile",
        metavar="KIND,KIND",
        type=_kinds,
        default=(),
        help=f"run beside the streams and not counted among them: {', '.join(KINDS)}",
    )


def run(arguments: argparse.Namespace) -> int:
    """Exit status 0, or 1 when a frame was lost, a count does not agree, or a drain was not clean."""
    _check(arguments)
    with _bench(arguments) as bench:
        if arguments.soak is not None:
            return modes.soak(bench, SoakPlan(arguments.soak, arguments.fps or SoakPlan.fps), arguments.json)
        if arguments.sigterm:
            return modes.sigterm(bench, arguments.json)
        if arguments.against_tracker:
            return modes.against_tracker(bench, arguments.rounds, arguments.json)
        sweep = modes.Sweep(arguments.streams, arguments.loads, arguments.fps)
        return modes.loads(bench, sweep, arguments.json, arguments.plot)


@contextlib.contextmanager
def _bench(arguments: argparse.Namespace) -> Iterator[Bench]:
    load = _load(arguments)
    wishes = ServerWishes(
        size=load.size,
        streams=max(*arguments.streams, SOAK_STREAMS) + _SLOTS_OF_HOSTILE * len(load.hostile),
        artifact=arguments.artifact,
        engine=arguments.engine,
        max_batch=arguments.max_batch,
        config=arguments.config,
    )
    clip, access = encoded_clip(load.size, load.objects), access_of(arguments)
    if arguments.server:
        endpoint = Endpoint(arguments.server, access, arguments.http)
        yield Bench(endpoint, _facts(endpoint), load, clip, wishes, None)
        return
    with tempfile.TemporaryDirectory(prefix="maskstream-bench-") as folder, own_server(Path(folder), wishes) as own:
        endpoint = replace(own.endpoint, access=access)
        facts = _facts(endpoint) | {"settings": dict(own.settings)}
        yield Bench(endpoint, facts, load, clip, wishes, replace(own, endpoint=endpoint))


def _facts(endpoint: Endpoint) -> dict[str, Any]:
    """What the server says of itself. Raises ServerUnavailable."""
    with contextlib.closing(endpoint.channel()) as channel:
        info = MaskStreamClient(endpoint.target, channel).info()
    names = ("engine", "precision", "model", "model_version", "server_version", "max_streams")
    return {name: getattr(info, name) for name in names}


def _load(arguments: argparse.Namespace) -> Load:
    mode = "sigterm" if arguments.sigterm else "against_tracker" if arguments.against_tracker else "loads"
    return Load(
        streams=arguments.streams[0],
        objects=arguments.objects,
        size=arguments.size,
        delivery=LOSSLESS if arguments.sigterm else arguments.delivery,
        duration_seconds=arguments.duration or _SECONDS[mode],
        warm_up_seconds=arguments.warm_up,
        max_frame_age_seconds=arguments.max_frame_age,
        hostile=arguments.hostile,
    )


def _check(arguments: argparse.Namespace) -> None:
    if arguments.server and (arguments.sigterm or arguments.against_tracker):
        raise BenchServeError("--sigterm and --against-tracker need a server of their own; leave --server out")
    if arguments.server and "," in arguments.server:
        raise BenchServeError("--server: load is measured on one server; name one HOST:PORT")
    if arguments.max_frame_age and arguments.delivery != LATEST:
        raise BenchServeError("--max-frame-age drops frames; that goes with --delivery latest")
    if not 1 <= arguments.objects <= 255:
        raise BenchServeError(f"--objects {arguments.objects}: a stream follows 1 to 255 objects")
    if arguments.plot:
        check_plot(arguments.plot)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def _fractions(text: str) -> list[float]:
    return [_positive(part) for part in text.split(",")]


def _kinds(text: str) -> tuple[str, ...]:
    kinds = tuple(part.strip() for part in text.split(","))
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: there are {', '.join(KINDS)}")
    return kinds

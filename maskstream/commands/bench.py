"""maskstream bench: speed, latency and memory of Tracker.step on this machine, beside torch's own speed.

Each row runs in a process of its own, so that its peak memory is its own. Every table holds the row of the same
networks in eager torch fp32 on the same device, so that a speed is also a ratio measured in one run; where torch cannot
run, the reason is printed.
"""

import argparse
import itertools
import json
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

from maskstream.commands import own_program
from maskstream.commands.bench_row import RowRequest
from maskstream.commands.networks import add_engine_arguments, artifact_of
from maskstream.errors import MaskstreamError
from maskstream.plot_look import check_plot
from maskstream.progress import progress
from maskstream.quality_plot import plot_speed
from maskstream.report import write_report
from maskstream.result_streams import add_result_arguments
from maskstream.tables import Table, print_table

DESCRIPTION = """\
Measure frames/s, latency and peak memory of the tracker over the bundled clip, for each engine, frame size, number of
objects and number of streams (streams share one engine and take turns). Warm-up is left out. Eager torch fp32 on the
same device is always measured too, as the yardstick.

  maskstream bench
  maskstream bench --engine onnxruntime,openvino --objects 1,4 --streams 1,4 --json bench.json
  maskstream bench --engine openvino,openvino:int8 --plot speed.png
  maskstream bench --engine torch_cuda --size 480x854,1080x1920 --streams 1,8,32

`maskstream bench serve` measures the server instead: see its --help."""

TORCH = "torch"
TORCH_ON_GPU = "torch_cuda_eager"
_COLUMNS = ("engine", "precision", "size", "objects", "streams", "fps", "p50_ms", "p95_ms", "p99_ms", "peak_rss_bytes")
_HEADERS = (*_COLUMNS[:-1], "peak MiB", "of torch")
_MIB = 2**20


class BenchError(MaskstreamError):
    """No row could be measured."""

    reason = "BENCH_FAILED"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    add_engine_arguments(parser)
    parser.add_argument(
        "--size",
        metavar="HxW,HxW",
        type=_sizes,
        default=[(480, 854)],
        help="height x width of the frames (default: 480x854)",
    )
    parser.add_argument("--objects", metavar="N,N", type=counts, default=[1, 4, 16], help="default: 1,4,16")
    parser.add_argument("--streams", metavar="N,N", type=counts, default=[1, 4], help="default: 1,4")
    parser.add_argument("--frames", metavar="N", type=_count, default=40, help="measured frames a row (default: 40)")
    parser.add_argument("--plot", metavar="FILE", type=Path, help="draw frames/s of each engine, .png or .svg")
    add_result_arguments(parser, "the rows")


def run(arguments: argparse.Namespace) -> int:
    """Measure, print, write. Ctrl-C reports the rows that were finished."""
    if arguments.plot:
        check_plot(arguments.plot)
    artifact = artifact_of(arguments)
    requests = _requests(arguments, artifact)
    rows: list[dict[str, Any]] = []
    missing: dict[str, str] = {}
    status = 0
    try:
        with progress("bench", len(requests), "rows") as advance:
            for request in requests:
                if request.engine not in missing:
                    _measure(request, rows, missing)
                advance()
    except KeyboardInterrupt:
        print("stopped early")
        status = 130
    print_table(Table(_HEADERS, _cells(rows), text_columns=3))
    for engine, reason in missing.items():
        print(f"no row of {engine}: {reason}")
    if arguments.json:
        write_report(arguments.json, {"rows": rows, "missing": missing})
    if arguments.plot and rows:
        plot_speed(arguments.plot, rows)
    if not rows and not status:
        raise BenchError("no engine could be measured; the reasons are above")
    return status


def _requests(arguments: argparse.Namespace, artifact: Path) -> list[RowRequest]:
    engines = [name.strip() for name in arguments.engine.split(",") if name.strip()]
    yardsticks = [yardstick for engine in engines for yardstick in _yardsticks(engine)]
    return [
        RowRequest(str(artifact), engine, height, width, objects, streams, arguments.frames)
        for engine, (height, width), objects, streams in itertools.product(
            dict.fromkeys([*engines, *yardsticks]), arguments.size, arguments.objects, arguments.streams
        )
    ]


def yardstick_of(engine: str) -> str:
    """The engine that is eager torch fp32 on the device that `engine` runs on."""
    from maskstream.engines import ENGINES

    known = ENGINES.get(engine)
    return TORCH_ON_GPU if known and known.gpu else TORCH


def _yardsticks(asked: str) -> list[str]:
    """Those that rows of this --engine may need: "auto" chooses later, and may choose a GPU."""
    from maskstream.engines import AUTO, auto_candidates

    return [yardstick_of(engine) for engine in (auto_candidates() if asked == AUTO else (asked,))]


def _measure(request: RowRequest, rows: list[dict[str, Any]], missing: dict[str, str]) -> None:
    """Run one row in a fresh process, and note the reason when its engine cannot run here."""
    command = own_program.command("maskstream.commands.bench_row", json.dumps(asdict(request)))
    done = subprocess.run(command, env=own_program.environment(), capture_output=True, text=True, check=False)
    if done.returncode == 0:
        rows.append(json.loads(done.stdout.splitlines()[-1]))
    else:
        complaint = done.stderr.strip().splitlines() or [f"its process ended with status {done.returncode}"]
        missing[request.engine] = complaint[-1]


def _cells(rows: list[dict[str, Any]]) -> list[list[object]]:
    """Rows, and each one's speed as a multiple of torch's on the same device, at the same size, objects and streams."""
    known = {(row["engine"], *_case(row)): row["fps"] for row in rows}
    lines: list[list[object]] = []
    for row in rows:
        yardstick = known.get((yardstick_of(row["engine"]), *_case(row)))
        ratio = f"{row['fps'] / yardstick:.2f}x" if yardstick else None
        lines.append([*(row[name] for name in _COLUMNS[:-1]), f"{row['peak_rss_bytes'] / _MIB:.0f}", ratio])
    return lines


def _case(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["size"], row["objects"], row["streams"]


def frame_size(text: str) -> tuple[int, int]:
    """HEIGHTxWIDTH in pixels, as an argument."""
    parts = text.strip().lower().split("x")
    if len(parts) != 2 or not all(part.isdecimal() and int(part) >= 16 for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not HEIGHTxWIDTH, for example 480x854")
    return int(parts[0]), int(parts[1])


def counts(text: str) -> list[int]:
    """N,N,... of 1 or more, as an argument."""
    return [_count(part) for part in text.split(",")]


def _sizes(text: str) -> list[tuple[int, int]]:
    return [frame_size(part) for part in text.split(",")]


def _count(text: str) -> int:
    if not text.strip().isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return int(text)

"""maskstream demo: the bundled clip through a server of its own and back, scored against its exact masks.

It is the whole serving path: a separate process, gRPC, JPEG frames, every frame answered. No torch is needed.
"""

import argparse
import time
from pathlib import Path
from typing import Any

from maskstream.commands.outputs import FollowedFrame, FollowOutputs, print_report
from maskstream.commands.remote import follow_remotely
from maskstream.commands.server_process import RunningServer, running_server
from maskstream.masks import object_ids
from maskstream.moving_shapes import FRAMES_PER_SECOND, RenderedClip, render
from maskstream.progress import progress
from maskstream.report import write_report
from maskstream.result_streams import add_result_arguments
from maskstream.tracker import Prompt

DESCRIPTION = """\
Render the bundled clip, start a server on a free port, stream the clip to it as JPEGs over gRPC, and write what comes
back: overlay.mp4, masks/ (palette PNGs), objects.jsonl, sheet.jpg. Prints J&F against the clip's exact masks, frames/s
and the latency of each stage.

  maskstream demo
  maskstream demo --out /tmp/demo --json /tmp/demo.json
  maskstream demo --artifact my_model/ --engine onnxruntime"""

_CLIP_FRAMES = 90


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("out/demo"), help="default: out/demo")
    parser.add_argument(
        "--artifact", metavar="DIR", type=Path, help="what maskstream-export wrote (default: the shipped one)"
    )
    parser.add_argument("--engine", metavar="NAME", default="auto", help="what runs the networks (default: auto)")
    parser.add_argument("--frames", metavar="N", type=int, default=_CLIP_FRAMES, help=f"default: {_CLIP_FRAMES}")
    add_result_arguments(parser, "scores, times and where things are,")


def run(arguments: argparse.Namespace) -> int:
    """Render, serve, stream, write, print."""
    print(f"rendering the clip ({arguments.frames} frames)")
    clip = render(arguments.frames)
    print("starting a server", flush=True)
    with running_server(arguments.out, arguments.artifact, arguments.engine) as server:
        print(f"streaming to {server.target}: {server.facts['model']}, engine {server.facts['engine']}", flush=True)
        answers, seconds = _stream(server, clip)
    with FollowOutputs(arguments.out, FRAMES_PER_SECOND) as outputs, progress("write", len(answers)) as advance:
        for followed in answers:
            outputs.add(followed, clip.id_maps[followed.index])
            advance()
    report = _report(outputs, server, len(answers) / seconds)
    print_report(report)
    if arguments.json:
        write_report(arguments.json, report)
    return 0


def _stream(server: RunningServer, clip: RenderedClip) -> tuple[list[FollowedFrame], float]:
    """All answers, and the seconds from the first frame sent to the last answer; nothing is written meanwhile."""
    timed = [(frame, index / clip.frames_per_second) for index, frame in enumerate(clip.frames)]
    answers = []
    started = time.perf_counter()
    with progress("stream", len(timed)) as advance:
        for followed in follow_remotely(server.target, timed, lambda frame: _prompts(clip), live=False):
            answers.append(followed)
            advance()
    return answers, time.perf_counter() - started


def _prompts(clip: RenderedClip) -> list[Prompt]:
    first = clip.id_maps[0]
    return [Prompt(i, first == i) for i in object_ids(first)]


def _report(outputs: FollowOutputs, server: RunningServer, frames_per_second: float) -> dict[str, Any]:
    report = outputs.report()
    report["fps"] = round(frames_per_second, 2)
    report["outputs"]["log"] = str(server.log)
    return {**report, "server": server.facts}

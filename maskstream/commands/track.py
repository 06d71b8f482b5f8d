"""maskstream track: follow objects through a video, by a server or in this process."""

import argparse
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO

from maskstream.commands.follow import PromptMaker, follow_locally
from maskstream.commands.networks import add_engine_arguments, describe, networks_from
from maskstream.commands.outputs import DEFAULT_SINKS, SINKS, FollowOutputs, parse_sinks, print_report
from maskstream.commands.remote import access_of, add_server_arguments, follow_remotely
from maskstream.commands.stopping import stopped_by_sigterm
from maskstream.commands.track_display import Display, display
from maskstream.commands.track_prompts import prompt_plan
from maskstream.containers import public_name
from maskstream.errors import MaskstreamError, VideoError
from maskstream.followed import FollowedFrame
from maskstream.live_source import LiveSettings
from maskstream.masks import IdMap
from maskstream.pictures import read_id_map
from maskstream.report import STDOUT, write_report
from maskstream.sinks.json_lines import JsonLines
from maskstream.sinks.sink import clear_errors
from maskstream.video import STDIN, FrameSource, list_pictures, open_source

DESCRIPTION = """\
Follow objects through a video. SOURCE is a file, a folder of pictures, a camera number, an address, or - for a video
piped into it; a camera or stream that is lost is opened again. Under --out come masks/ (palette PNGs whose pixel value
is the object id), overlay.mp4, objects.jsonl (one line a frame) and sheet.jpg; --sinks has more.

  maskstream track dog.mp4 --prompt 310,120,180,240 --out out/dog          a box X,Y,WIDTH,HEIGHT in pixels
  maskstream track dog.mp4 --prompt "@400,240;-320,130" --out out/dog      points on it, and one beside it
  maskstream track frames/ --prompt first_mask.png --out out/two_objects   a mask PNG of object ids
  maskstream track dog.mp4 --auto 3 --out out/dog                          the three things that stand out most
  maskstream track dog.mp4 --prompt 120:310,120,180,240 --out out/dog      from frame 120 on
  maskstream track rtsp://camera/1 --prompt 0,0,200,200 --json-lines - --server gpu-box:50051
  ffmpeg -i dog.mp4 -f matroska - | maskstream track - --prompt mask.png --sinks coco --out out/dog
  maskstream track clip.mp4 --prompt mask.png --out out --server gpu-box:443 --tls-ca ca.pem --token-file token
  maskstream track clip.mp4 --prompt masks/00000.png --truth masks/ --out out/clip    also prints J&F"""

_LIVE = LiveSettings()
_INTERRUPTED = 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument(
        "source", metavar="SOURCE", help="video file, folder of pictures, camera number, rtsp/http address, or - (pipe)"
    )
    parser.add_argument(
        "--prompt",
        metavar="MASK.png|X,Y,W,H|@X,Y",
        action="append",
        default=[],
        help="an object of the first frame, or with FRAME: before it of another; more points after a semicolon, those "
        "beside the object with a minus; boxes and points are objects 1, 2, ... in order, a mask brings its own ids",
    )
    parser.add_argument("--auto", metavar="N", type=_count, default=0, help="find up to N things on the first frame")
    parser.add_argument("--out", metavar="DIR", type=Path, help="folder for what is written")
    add_server_arguments(parser)
    add_engine_arguments(parser)
    _add_output_arguments(parser)
    parser.add_argument(
        "--stall-seconds",
        metavar="S",
        type=_seconds,
        default=_LIVE.stall_seconds,
        help=f"a camera or stream without a picture for so long is opened again (default: {_LIVE.stall_seconds:g})",
    )
    parser.add_argument(
        "--reconnect-seconds",
        metavar="S",
        type=_seconds,
        default=_LIVE.give_up_seconds,
        help=f"how long a lost one is tried before giving up (default: {_LIVE.give_up_seconds:g}; 0: not at all)",
    )


def _add_output_arguments(parser: argparse.ArgumentParser) -> None:
    default = ",".join(DEFAULT_SINKS)
    parser.add_argument(
        "--sinks",
        metavar="A,B",
        type=parse_sinks,
        default=DEFAULT_SINKS,
        help=f"what is written under --out, out of {','.join(SINKS)} (default: {default})",
    )
    parser.add_argument(
        "--json-lines",
        metavar="FILE",
        type=Path,
        help="a line of JSON a frame; - is standard output, and what is no result goes to standard error then",
    )
    parser.add_argument("--truth", metavar="DIR", type=Path, help="mask PNGs of all frames, to score against")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write scores, times and where things are; - prints")
    parser.add_argument("--quiet", action="store_true", help="say nothing but errors")


def run(arguments: argparse.Namespace) -> int:
    """Follow, write, print. Ctrl-C and SIGTERM finish the files and report what was done."""
    _check(arguments)
    truths = _truths(arguments.truth)
    tell = _Tell(arguments)
    with ExitStack() as stack:
        stack.enter_context(stopped_by_sigterm())
        source = stack.enter_context(open_source(arguments.source, _live_settings(arguments), tell.of_source))
        plan, answers = _answers(arguments, source, tell)
        outputs = stack.enter_context(_outputs(arguments, source))
        shown = stack.enter_context(display(source.num_frames, quiet=arguments.quiet))
        tell.shown = shown
        status, dropped = _follow(answers, outputs, shown, truths)
        facts = {"dropped": dropped, "losses": source.losses} if source.live else {}
    report = {**outputs.report(), "interrupted": status != 0, **facts}
    _tell_missed(plan, report["frames"], tell)
    if status:
        tell("stopped early")
    if not arguments.quiet:
        print_report(report, tell.file)
    if arguments.json:
        with clear_errors(str(arguments.json)):
            write_report(arguments.json, report)
    return status


def _follow(
    answers: Iterator[FollowedFrame], outputs: FollowOutputs, shown: Display, truths: Sequence[Path] | None
) -> tuple[int, int]:
    """Exit status and frames dropped."""
    dropped = 0
    try:
        for followed in answers:
            outputs.add(followed, _truth_of(truths, followed))
            shown.show(followed)
            dropped += followed.dropped
    except KeyboardInterrupt:
        return _INTERRUPTED, dropped
    return 0, dropped


class _Tell:
    """Says what is no result: to stdout, or to stderr when results are on stdout; to the display while there is one."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        results_on_stdout = STDOUT in (arguments.json, arguments.json_lines)
        self.file: TextIO = sys.stderr if results_on_stdout else sys.stdout
        self.shown: Display | None = None
        self._quiet: bool = arguments.quiet

    def __call__(self, text: str) -> None:
        if not self._quiet:
            print(text, file=self.file, flush=True)

    def of_source(self, text: str) -> None:
        """What happens to a live source; on a thread of its own."""
        if self.shown is not None:
            self.shown.say(text)
        elif not self._quiet:
            print(text, file=sys.stderr, flush=True)


def _check(arguments: argparse.Namespace) -> None:
    """Raises MaskstreamError for flags that do not fit together."""
    if not arguments.prompt and not arguments.auto:
        raise MaskstreamError("nothing to follow: give a --prompt (a mask, box or points), or --auto N")
    if arguments.out is None and arguments.json_lines is None:
        raise MaskstreamError("nowhere to write: give --out DIR, or --json-lines - for lines on standard output")
    if arguments.json == arguments.json_lines == STDOUT:
        raise MaskstreamError("--json - and --json-lines - both want standard output; give one of them a file")


def _live_settings(arguments: argparse.Namespace) -> LiveSettings:
    return LiveSettings(stall_seconds=arguments.stall_seconds, give_up_seconds=arguments.reconnect_seconds)


def _answers(
    arguments: argparse.Namespace, source: FrameSource, tell: _Tell
) -> tuple[Mapping[int, PromptMaker], Iterator[FollowedFrame]]:
    """When there are prompts, and the answers."""
    plan = prompt_plan(arguments.prompt, arguments.auto)
    if arguments.server:
        return plan, follow_remotely(arguments.server, source, plan, live=source.live, access=access_of(arguments))
    networks = networks_from(arguments)
    tell(describe(networks))
    return plan, follow_locally(networks, source, plan)


def _outputs(arguments: argparse.Namespace, source: FrameSource) -> FollowOutputs:
    more = []
    if arguments.json_lines is not None:
        with clear_errors(str(arguments.json_lines)):
            more.append(JsonLines("lines", arguments.json_lines))
    sinks = arguments.sinks if arguments.out is not None else ()
    folder, video = arguments.out or Path(), _video_name(arguments.source)
    return FollowOutputs(folder, source.frames_per_second, sinks, video=video, more=more)


def _video_name(source: str) -> str:
    """What data sets call the video: the file's name, or what an address says without its password."""
    if source == STDIN:
        return "stdin"
    if source.isdecimal():
        return f"camera{source}"
    name = public_name(source).partition("://")[2] or Path(source).resolve().stem
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "video"


def _tell_missed(plan: Mapping[int, PromptMaker], frames: int, tell: _Tell) -> None:
    missed = sorted(index for index in plan if index >= frames)
    if missed:
        tell(f"no prompt was given on frame {', '.join(map(str, missed))}: the video ended after {frames} frames")


def _truths(folder: Path | None) -> list[Path] | None:
    if folder is None:
        return None
    if not folder.is_dir():
        raise VideoError(f"{folder}: no such folder; --truth takes a folder with one mask PNG a frame")
    return [path for path in list_pictures(folder) if path.suffix.lower() == ".png"]


def _truth_of(truths: Sequence[Path] | None, followed: FollowedFrame) -> IdMap | None:
    if truths is None:
        return None
    if followed.index >= len(truths):
        raise VideoError(f"frame {followed.index} has no truth: --truth holds {len(truths)} masks; give one a frame")
    path = truths[followed.index]
    truth = read_id_map(path)
    if truth.shape != followed.id_map.shape:
        size, expected = (f"{shape[1]}x{shape[0]}" for shape in (truth.shape, followed.id_map.shape))
        raise VideoError(f"{path} is {size}, the video is {expected}; --truth takes masks of the video's size")
    return truth


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 255:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 255")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds, 0 or more")
    return seconds

"""maskstream track: follow objects through a video, by a server or in this process."""

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path

from maskstream.commands.follow import follow_locally
from maskstream.commands.networks import add_engine_arguments, describe, networks_from
from maskstream.commands.outputs import FollowedFrame, FollowOutputs, print_report
from maskstream.commands.remote import access_of, add_server_arguments, follow_remotely
from maskstream.errors import VideoError
from maskstream.masks import IdMap
from maskstream.pictures import read_id_map
from maskstream.progress import progress
from maskstream.prompts import parse_prompt
from maskstream.report import write_report
from maskstream.tracker import Frame, Prompt
from maskstream.video import FrameSource, list_pictures, open_source

DESCRIPTION = """\
Follow the objects of one mask or box through a video. SOURCE is a file, a folder of pictures, a camera number or an
address. Under --out come masks/ (palette PNGs whose pixel value is the object id), overlay.mp4, objects.jsonl (one line
a frame) and sheet.jpg.

  maskstream track dog.mp4 --prompt 310,120,180,240 --out out/dog          a box X,Y,WIDTH,HEIGHT in pixels
  maskstream track frames/ --prompt first_mask.png --out out/two_objects   a mask PNG of object ids
  maskstream track rtsp://camera/1 --prompt 0,0,200,200 --out out/live --server gpu-box:50051
  maskstream track clip.mp4 --prompt mask.png --out out --server gpu-box:443 --tls-ca ca.pem --token-file token
  maskstream track clip.mp4 --prompt masks/00000.png --truth masks/ --out out/clip    also prints J&F"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument(
        "source", metavar="SOURCE", help="video file, folder of pictures, camera number, rtsp/http address"
    )
    parser.add_argument(
        "--prompt",
        metavar="MASK.png|X,Y,W,H",
        action="append",
        required=True,
        help="the objects of the first frame; several boxes are objects 1, 2, ... in their order",
    )
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="folder for what is written")
    add_server_arguments(parser)
    add_engine_arguments(parser)
    parser.add_argument("--truth", metavar="DIR", type=Path, help="mask PNGs of all frames, to score against")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write scores, times and where things are")


def run(arguments: argparse.Namespace) -> int:
    """Follow, write, print. Ctrl-C finishes the files and reports what was done."""
    truths = _truths(arguments.truth)
    status = 0
    with open_source(arguments.source) as source:
        answers = _answers(arguments, source)
        with FollowOutputs(arguments.out, source.frames_per_second) as outputs:
            try:
                with progress("track", source.num_frames) as advance:
                    for followed in answers:
                        outputs.add(followed, _truth_of(truths, followed))
                        advance()
            except KeyboardInterrupt:
                status = 130
                print("stopped early")
    report = {**outputs.report(), "interrupted": status != 0}
    print_report(report)
    if arguments.json:
        write_report(arguments.json, report)
    return status


def _answers(arguments: argparse.Namespace, source: FrameSource) -> Iterator[FollowedFrame]:
    def prompts_for(frame: Frame) -> list[Prompt]:
        return _prompts(arguments.prompt, frame)

    if arguments.server:
        return follow_remotely(arguments.server, source, prompts_for, live=source.live, access=access_of(arguments))
    networks = networks_from(arguments)
    print(describe(networks))
    return follow_locally(networks, source, prompts_for)


def _prompts(words: Iterable[str], frame: Frame) -> list[Prompt]:
    """Boxes are numbered in their order; a mask file brings its own ids, and later words win where they meet."""
    prompts: dict[int, Prompt] = {}
    for number, text in enumerate(words, start=1):
        prompts.update({prompt.object_id: prompt for prompt in parse_prompt(text, frame, number)})
    return list(prompts.values())


def _truths(folder: Path | None) -> list[Path] | None:
    if folder is None:
        return None
    if not folder.is_dir():
        raise VideoError(f"{folder}: no such folder; --truth takes a folder with one mask PNG a frame")
    return [path for path in list_pictures(folder) if path.suffix.lower() == ".png"]


def _truth_of(truths: list[Path] | None, followed: FollowedFrame) -> IdMap | None:
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

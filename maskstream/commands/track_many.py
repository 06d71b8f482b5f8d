"""maskstream track-many: follow objects through all videos of an archive, on this machine or on a Ray cluster."""

import argparse
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from maskstream.archive.archive_progress import archive_progress
from maskstream.archive.archive_run import ArchiveRun, Plan, empty_scratch, make_plan
from maskstream.archive.jobs import FAILED, ArchiveError
from maskstream.archive.manifest import Manifest
from maskstream.archive.manning import Wanted, manned
from maskstream.archive.out_lock import held
from maskstream.archive.prompt_book import PromptBook
from maskstream.archive.summary import Effort, print_summary, summarise
from maskstream.archive.supervisor import Patience, Supervisor
from maskstream.archive.videos import find_videos
from maskstream.artifact import Artifact
from maskstream.commands.networks import add_engine_arguments, artifact_of
from maskstream.commands.outputs import DEFAULT_SINKS, SINKS, parse_sinks
from maskstream.masks import MAX_OBJECT_ID
from maskstream.report import STDOUT, write_report

DESCRIPTION = """\
Follow objects through all videos under DIR: files and folders of pictures. The prompt of DIR/a/b.mp4 is PROMPTS/a/b.png
(a mask of the first frame), a/b.txt or a/b.json (lines such as "1: 310,120,180,240" or "2: @120,80;130,95"), or its
entry in PROMPTS/prompts.json or prompts.csv. Outputs come to OUT/a/b/, each folder only when it is complete.

A video that fails does not stop the others. Start the same command again, after Ctrl-C, a crash or with new videos, and
it follows what is missing; OUT/manifest.jsonl says what became of each. Exit status 1 when some failed.

  maskstream track-many videos/ --prompts prompts/ --out out/archive
  maskstream track-many videos/ --auto 3 --out out/archive --sinks masks,jsonl
  maskstream track-many videos/ --prompts prompts.csv --out out/archive --json summary.json --quiet
  maskstream track-many /mnt/videos --prompts /mnt/prompts --out /mnt/out --ray auto      all nodes see /mnt"""

SOME_FAILED, INTERRUPTED = 1, 130
_START, _CLUSTER_START = Patience.start_seconds, 1800.0  # a cluster may have to start machines first


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("folder", metavar="DIR", type=Path, help="folder of videos, searched with all below it")
    parser.add_argument("--prompts", metavar="DIR|FILE", type=Path, help="folder of prompts, or a .json or .csv table")
    parser.add_argument("--auto", metavar="N", type=_objects, default=0, help="find up to N things where no prompt is")
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="folder for outputs and manifest")
    parser.add_argument(
        "--workers",
        metavar="auto|N",
        type=_count_or_auto,
        help="videos at a time (default: auto, by cores and memory; with --ray by the cores of the cluster)",
    )
    parser.add_argument(
        "--threads",
        metavar="auto|N",
        type=_count_or_auto,
        help="CPU threads of a worker (default: auto, its share of the cores; with --ray 1)",
    )
    parser.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="work on a Ray cluster: HOST:PORT, auto, or local for one on this machine; needs maskstream[ray]",
    )
    add_engine_arguments(parser)
    parser.add_argument(
        "--sinks",
        metavar="A,B",
        type=parse_sinks,
        default=DEFAULT_SINKS,
        help=f"what is written of a video, out of {','.join(SINKS)} (default: {','.join(DEFAULT_SINKS)})",
    )
    parser.add_argument(
        "--stall-seconds",
        metavar="S",
        type=_seconds,
        default=Patience.stall_seconds,
        help="give a worker up when its video comes no frame further (default: %(default)s)",
    )
    parser.add_argument("--restart", action="store_true", help="follow all videos again, whatever was done before")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write counts, times and failures; - prints")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def run(arguments: argparse.Namespace) -> int:
    """Follow what is missing, print, write. Ctrl-C drops the videos at hand and reports what was done."""
    if arguments.prompts is None and not arguments.auto:
        raise ArchiveError("nothing says what to follow; give --prompts, --auto N, or both")
    if arguments.out.resolve() == arguments.folder.resolve():
        raise ArchiveError(
            f"{arguments.out}: --out is the folder of the videos; overlays in it would be taken for more"
        )
    book = PromptBook(arguments.prompts, arguments.auto)
    leave_out = [arguments.out, *filter(None, [arguments.prompts])]
    found = find_videos(arguments.folder, leave_out)
    with held(arguments.out):
        artifact = Artifact.load(artifact_of(arguments))
        manifest = _manifest(arguments, artifact)
        plan = make_plan(found, book, manifest, arguments.out)
        report = _follow(arguments, artifact, plan, manifest)
    if not arguments.quiet:
        print_summary(report, sys.stderr if arguments.json == STDOUT else sys.stdout)
    if arguments.json:
        write_report(arguments.json, report)
    if report["interrupted"]:
        return INTERRUPTED
    return SOME_FAILED if report["videos"][FAILED] else 0


def _manifest(arguments: argparse.Namespace, artifact: Artifact) -> Manifest:
    settings = {
        "model": artifact.model_name,
        "artifact": artifact.version,
        "engine": arguments.engine,
        "sinks": list(arguments.sinks),
    }
    return (Manifest.begin if arguments.restart else Manifest.open)(arguments.out, settings)


def _follow(arguments: argparse.Namespace, artifact: Artifact, plan: Plan, manifest: Manifest) -> dict[str, Any]:
    """Carry the plan out; the report."""
    scratch = empty_scratch(arguments.out.resolve())
    wanted = Wanted(
        artifact, arguments.engine, arguments.workers, arguments.threads, arguments.sinks, scratch, arguments.ray
    )
    started, interrupted, effort = time.monotonic(), False, Effort(0.0, 0, 0, arguments.engine)
    sizes = {todo.video.name: todo.video.identity["bytes"] for todo in plan.todo}
    with archive_progress(sizes, arguments.quiet) as shown:
        archive_run = ArchiveRun(plan, manifest, scratch.parent, shown.on_record)
        try:
            if plan.todo:
                with manned(wanted, len(plan.todo), shown.tell) as hands:
                    effort = Effort(0.0, hands.share.workers, hands.share.threads, hands.engine)
                    patience = Patience(arguments.stall_seconds, _CLUSTER_START if arguments.ray else _START)
                    archive_run.work(Supervisor(hands.crew, patience, shown.tell, shown.on_beat))
        except KeyboardInterrupt:
            interrupted = True
        finally:
            shutil.rmtree(scratch)
    effort = replace(effort, seconds=time.monotonic() - started)
    return summarise(plan, archive_run.records, effort, arguments.out, interrupted)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return int(text)


def _objects(text: str) -> int:
    if _count(text) > MAX_OBJECT_ID:
        raise argparse.ArgumentTypeError(f"{text!r}: a video holds {MAX_OBJECT_ID} objects at most")
    return int(text)


def _count_or_auto(text: str) -> int | None:
    return None if text == "auto" else _count(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from error
    if not seconds > 0:
        raise argparse.ArgumentTypeError(f"{text!r}: give more than 0 seconds")
    return seconds

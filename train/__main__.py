"""maskstream-train: a folder of videos in, a checkpoint out. No label is read."""

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from maskstream.checkpoint import Checkpoint, default_checkpoint
from maskstream.dataset import find_sequences
from maskstream.errors import MaskstreamError
from maskstream.provenance import provenance
from maskstream.report import write_report
from maskstream.result_streams import add_result_arguments, directed
from maskstream.tables import print_table
from train.adaptation import report_adaptation, split
from train.clips import Clip, Footage, decode_all, open_clips
from train.compute import DEVICES, PRECISIONS, choose_compute, usable_cores
from train.decoding import DecodeSettings
from train.distributed import StoppedElsewhere, WorkerLost, join
from train.figures import log_line
from train.interruption import Interruption, Stopped
from train.journal import Journal, NoJournal
from train.loop import Diverged, Place, Run
from train.recipes import RECIPES, Recipe, with_overrides
from train.saving import SaveFailed, write_whole

MOST_LINES = 20  # of skipped videos in the terminal; skipped.txt has them all
MOST_LOADERS = 8  # threads that prepare batches
BEFORE = "before.pt"  # the weights that a run with --resume-from began with

EXAMPLES = """examples:
  maskstream-train --recipe tiny --data my_videos/ --out runs/try          every part, in seconds: does it work here?
  maskstream-train --recipe live_r18 --data my_videos/ --out runs/live     learn from nothing (hours)
  maskstream-train --recipe live_r18 --data my_videos/ --out runs/live --resume     go on after Ctrl-C or a crash
  maskstream-train --recipe adapt_r18 --data my_videos/ --out runs/mine --resume-from default
                                 adapt the shipped weights to your cameras (minutes), with a report before and after
  torchrun --nproc-per-node 4 --no-python maskstream-train --recipe live_r18 --data my_videos/ --out runs/live
                                                                            on four GPUs
  tensorboard --logdir runs/live                                            curves and pictures

A run decodes the videos, learns correspondence (which places of two frames are the same), then makes pseudo masks by
clustering and learns to carry them, `rounds` times. Stop it when you like, Ctrl-C or SIGTERM: it saves and can go on.
What cannot be decoded is skipped and listed in OUT/skipped.txt.

Then: maskstream-export runs/live/checkpoint.pt --out my_artifact

exit status: 0 done, 1 failed on the way (a full disk, a lost process, a loss that is not finite; the last state is
kept), 2 wrong input, 130 stopped by Ctrl-C, 143 stopped by SIGTERM
"""


def parser() -> argparse.ArgumentParser:
    """The command line; its words are part of the product."""
    made = argparse.ArgumentParser(
        prog="maskstream-train",
        description="Learn to follow objects from unlabelled videos: correspondence, then clustering and masks.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--recipe", choices=sorted(RECIPES), default="live_r18", help="what to train (default: live_r18)")
    made.add_argument(
        "--data",
        type=Path,
        nargs="+",
        required=True,
        metavar="PATH",
        help="videos, folders of videos, or folders of pictures",
    )
    made.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder of the run: checkpoint.pt, curves, pictures"
    )
    made.add_argument("--resume", action="store_true", help="continue the run in --out from where it stopped")
    made.add_argument(
        "--resume-from", metavar="FILE", help="start from these weights; 'default' means the shipped ones"
    )
    made.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a setting of the recipe, e.g. mask_stage.steps=500",
    )
    made.add_argument(
        "--held-out",
        type=Path,
        metavar="DATASET",
        help="DAVIS layout with masks; J&F after each stage, never learnt from",
    )
    made.add_argument(
        "--device", choices=DEVICES, default="auto", help="what to compute on (default: a GPU if there is one)"
    )
    made.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="auto",
        help="of the convolutions; auto is bf16 where the hardware is fast in it, else fp32",
    )
    made.add_argument(
        "--worker-timeout",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="under torchrun: how long a process may keep the others waiting in a step (default: 300)",
    )
    made.add_argument("--seed", type=int, default=0, help="seed of every random choice (default: 0)")
    made.add_argument("--threads", type=int, default=0, help="CPU threads (default: all)")
    made.add_argument("--licence", default="", help="terms of the training videos, kept in the checkpoint's provenance")
    add_result_arguments(made)
    return made


def main(arguments: list[str] | None = None) -> int:
    """Exit status: see the end of `--help`."""
    words = sys.argv[1:] if arguments is None else arguments
    given = parser().parse_args(words)
    try:
        with directed(given):
            return _train(given, ["maskstream-train", *words])
    except StoppedElsewhere:
        return 1  # process 0 has said why
    except (WorkerLost, SaveFailed, Diverged, OSError) as error:
        advice = f" Go on from the last state with --resume, with any number of processes. ({given.out})"
        print(f"maskstream-train: {error}.{advice if isinstance(error, WorkerLost) else ''}", file=sys.stderr)
        return 1
    except (MaskstreamError, ValueError) as error:
        if _rank() == 0:
            print(f"maskstream-train: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stopped:
        if _rank() == 0:
            print(f"\n{_how_to_go_on(given.out)}", file=sys.stderr)
        return 128 + (stopped.signal_number if isinstance(stopped, Stopped) else signal.SIGINT)


def _how_to_go_on(out: Path) -> str:
    if (out / "state.pt").exists():
        return "stopped; the state is saved. Go on with the same command and --resume."
    return "stopped before learning began; what was decoded is kept. Begin again with the same command."


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def _train(given: argparse.Namespace, command: list[str]) -> int:
    recipe = with_overrides(RECIPES[given.recipe](), given.set)
    state = given.out / "state.pt"
    if state.exists() and not given.resume:
        raise ValueError(f"{given.out} already holds a run; add --resume to continue it, or choose another --out")
    if given.resume and not state.exists():
        raise ValueError(f"{given.out} holds no run to resume; leave --resume out to start one")
    if given.threads:
        torch.set_num_threads(given.threads)
    compute = choose_compute(given.device, given.precision, int(os.environ.get("LOCAL_RANK", "0")))
    group = join(compute.device, given.worker_timeout)
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    place = Place(compute, group, max(1, min(MOST_LOADERS, usable_cores() // beside - 1)))
    interruption = Interruption()
    try:
        with interruption.listening():
            return _learn(given, command, recipe, place, interruption)
    finally:
        group.close()


def _learn(
    given: argparse.Namespace, command: list[str], recipe: Recipe, place: Place, interruption: Interruption
) -> int:
    settings = DecodeSettings(recipe.clip_short_side, recipe.clip_frames_max)
    footage = place.group.once(lambda: decode_all(given.data, given.out / "decoded", settings))
    parent = _parent(given)
    clips, held_out = split(open_clips(footage.files), recipe.adaptation) if parent else (open_clips(footage.files), [])
    frames = sum(len(clip.frames) for clip in clips)
    journal = Journal(given.out) if place.group.leads else NoJournal()
    run = Run(recipe, clips, given.out, given.seed, journal, place)
    run.interruption = interruption
    origin = _origin(given, recipe, place, [clip.name for clip in clips], frames)
    if given.resume:
        run.resume()
        before = Checkpoint.load(given.out / "checkpoint.pt").provenance
        origin |= {key: before[key] for key in ("resumed_from", "parent") if key in before}
    elif parent:
        run.start_from(parent)
        if place.group.leads:
            write_whole(given.out / BEFORE, parent.save)
        origin["parent"] = parent.provenance
    if place.group.leads:
        _tell_footage(footage, given.out)
        count = len(footage.skipped)
        print(f"{len(clips)} clips, {frames:,} frames; {count} videos skipped")
        if parent:
            print(f"the end of {len(held_out)} of the clips is held out, to measure before and after")
        print(f"recipe {given.recipe}, seed {given.seed}, {origin['computed']}", flush=True)
        write_whole(given.out / "config.json", lambda path: _write(path, json.dumps(origin, indent=2)))
    _run_and_log(run, given, command, origin)
    if parent:
        place.group.once(lambda: _tell_adaptation(run, given, parent, held_out))
    if place.group.leads:
        _tell_end(run, given.out)
        if given.json:
            minutes = round(run.seconds / 60, 2)
            write_report(given.json, {"folder": str(given.out), "minutes": minutes, **run.figures.state()})
    return 0


def _parent(given: argparse.Namespace) -> Checkpoint | None:
    """The weights that the run began with, now or in its first sitting; None when it began from nothing."""
    if given.resume:
        return Checkpoint.load(given.out / BEFORE) if (given.out / BEFORE).exists() else None
    if given.resume_from:
        return Checkpoint.load(default_checkpoint() if given.resume_from == "default" else Path(given.resume_from))
    return None


def _tell_adaptation(run: Run, given: argparse.Namespace, parent: Checkpoint, held_out: Sequence[Clip]) -> None:
    """What learning changed on the part that was held out; stopped here, --resume measures again."""
    before = parent.segmenter().to(run.place.compute.device)
    sequences = find_sequences(given.held_out) if given.held_out else []
    table, advice = report_adaptation(given.out, before, run.average, held_out, sequences, run.recipe.adaptation)
    print()
    if table:
        print_table(table)
    print(f"{advice}\nbefore and after: {given.out / 'adaptation.md'}")


def _run_and_log(run: Run, given: argparse.Namespace, command: list[str], origin: dict[str, Any]) -> None:
    """Learn; whatever comes of it, leave the line for the log."""
    held_out = find_sequences(given.held_out) if given.held_out else []
    outcome = "done"
    try:
        run.learn(origin, held_out)
    except BaseException as error:
        outcome = f"{error or type(error).__name__} ({run.where})"
        raise
    finally:
        run.journal.close()
        if run.place.group.leads:
            line = log_line(command, origin, outcome, run.seconds / 60, run.figures)
            _try_to_write(given.out / "run.md", line)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _try_to_write(path: Path, text: str) -> None:
    try:
        write_whole(path, lambda partial: _write(partial, text))
    except SaveFailed as error:
        print(f"maskstream-train: {error}\n{text}", file=sys.stderr)


def _tell_footage(footage: Footage, out: Path) -> None:
    """What was left out, in the terminal and, whole, in skipped.txt."""
    lines = [f"skipped: {line}" for line in footage.skipped]
    _try_to_write(out / "skipped.txt", "".join(f"{line}\n" for line in footage.skipped))
    if len(lines) > MOST_LINES:
        lines[MOST_LINES:] = [f"... and {len(lines) - MOST_LINES} more, see {out / 'skipped.txt'}"]
    for line in (*lines, *footage.notes):
        print(line, file=sys.stderr)


def _tell_end(run: Run, out: Path) -> None:
    print(f"\ndone in {run.seconds / 60:.1f} min: {out / 'checkpoint.pt'}")
    for line in run.figures.lines():
        print(f"  {line}")
    print(f"pictures:  {out / 'pictures'}, look at them before you trust the figures")
    print(f"curves:    tensorboard --logdir {out}")
    print(f"next:      maskstream-export {out / 'checkpoint.pt'} --out {out / 'artifact'}")
    print(f"           {out / 'run.md'} is the line for train/LOG.md")


def _origin(
    given: argparse.Namespace, recipe: Recipe, place: Place, clip_names: list[str], frames: int
) -> dict[str, Any]:
    """What the checkpoint says of itself."""
    settings = {part: value for part, value in asdict(recipe).items() if part != "model"}
    processes = f"{place.group.size} process" + ("es" if place.group.size > 1 else "")
    return {
        "recipe": given.recipe,
        "seed": given.seed,
        "changed": given.set,
        "resumed_from": given.resume_from,
        "clips": clip_names,
        "frames": frames,
        "labels_used": "none",
        "licence": given.licence or "that of the training videos; not stated",
        "settings": settings,
        "computed": f"{place.compute}, {processes}",
        **provenance(),
    }


if __name__ == "__main__":
    sys.exit(main())

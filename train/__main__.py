"""maskstream-train: a folder of videos in, a checkpoint out. No label is read."""

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from maskstream.checkpoint import Checkpoint, default_checkpoint
from maskstream.dataset import find_sequences
from maskstream.errors import MaskstreamError
from maskstream.provenance import provenance
from train.clips import load_clips
from train.journal import Journal
from train.loop import Run
from train.recipes import RECIPES, Recipe, with_overrides

EXAMPLES = """examples:
  maskstream-train --recipe tiny --data my_videos/ --out runs/try          every part, in seconds: does it work here?
  maskstream-train --recipe live_r18 --data my_videos/ --out runs/live     learn from scratch (hours)
  maskstream-train --recipe live_r18 --data my_videos/ --out runs/live --resume     go on after Ctrl-C or a crash
  maskstream-train --recipe live_r18 --data my_videos/ --out runs/mine --resume-from default \\
      --set correspondence_stage.steps=300 --set mask_stage.steps=300      adapt the shipped weights to your cameras
  tensorboard --logdir runs/live                                            curves and pictures

Then: maskstream-export runs/live/checkpoint.pt --out my_artifact
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
    made.add_argument("--data", type=Path, nargs="+", required=True, metavar="PATH", help="videos or folders of videos")
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
    made.add_argument("--seed", type=int, default=0, help="seed of every random choice (default: 0)")
    made.add_argument("--threads", type=int, default=0, help="CPU threads (default: all)")
    made.add_argument("--licence", default="", help="terms of the training videos, kept in the checkpoint's provenance")
    return made


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 done, 2 wrong input, 130 interrupted with a usable state."""
    given = parser().parse_args(arguments)
    try:
        return _train(given)
    except (MaskstreamError, ValueError) as error:
        print(f"maskstream-train: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            f"\nstopped; the state is saved. Continue with the same command and --resume. ({given.out})",
            file=sys.stderr,
        )
        return 130


def _train(given: argparse.Namespace) -> int:
    recipe = with_overrides(RECIPES[given.recipe](), given.set)
    state = given.out / "state.pt"
    if state.exists() and not given.resume:
        raise ValueError(f"{given.out} already holds a run; add --resume to continue it, or choose another --out")
    if given.resume and not state.exists():
        raise ValueError(f"{given.out} holds no run to resume; leave --resume out to start one")
    if given.threads:
        torch.set_num_threads(given.threads)
    clips, skipped = load_clips(given.data, given.out / "decoded", recipe.clip_short_side)
    for line in skipped:
        print(f"skipped: {line}", file=sys.stderr)
    frames = sum(len(clip.frames) for clip in clips)
    print(
        f"{len(clips)} clips, {frames} frames; {len(skipped)} videos skipped; recipe {given.recipe}, seed {given.seed}"
    )
    journal = Journal(given.out)
    held_out = find_sequences(given.held_out) if given.held_out else []
    run = Run(recipe, clips, given.out, given.seed, journal, held_out)
    origin = _origin(given, recipe, [clip.name for clip in clips], frames)
    if given.resume:
        run.resume()
        before = Checkpoint.load(given.out / "checkpoint.pt").provenance
        origin |= {key: before[key] for key in ("resumed_from", "parent", "gates") if key in before}
    elif given.resume_from:
        parent = Checkpoint.load(default_checkpoint() if given.resume_from == "default" else Path(given.resume_from))
        run.start_from(parent)
        origin["parent"] = parent.provenance
    (given.out / "config.json").write_text(json.dumps(origin, indent=2), encoding="utf-8")
    began = time.monotonic()
    try:
        run.learn(origin)
    finally:
        journal.close()
    print(f"done in {(time.monotonic() - began) / 60:.1f} min: {given.out / 'checkpoint.pt'}")
    print(f"next: maskstream-export {given.out / 'checkpoint.pt'} --out {given.out / 'artifact'}")
    return 0


def _origin(given: argparse.Namespace, recipe: Recipe, clip_names: list[str], frames: int) -> dict[str, Any]:
    """What the checkpoint says of itself."""
    settings = {part: value for part, value in asdict(recipe).items() if part != "model"}
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
        **provenance(),
    }


if __name__ == "__main__":
    sys.exit(main())

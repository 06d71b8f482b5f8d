"""python -m train.ablation: which part of the method gives what, measured on small networks and short sequences.

It is an instrument of the people who work on learning, so it has no console script. Every finished cell is a file under
OUT/cells and every finished training one under OUT/weights; the same command goes on where it stopped.
"""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from maskstream.checkpoint import Checkpoint
from maskstream.dataset import find_sequences
from maskstream.errors import MaskstreamError
from maskstream.report import write_report
from maskstream.steps import StepSequence
from maskstream.tables import Table, print_table
from train.ablation_cells import GROUPS, Cell, Training, ablation_recipe, cells_of, digest
from train.clips import Clip, decode_all, open_clips
from train.compute import DEVICES, choose_compute, usable_cores
from train.decoding import DecodeSettings
from train.evaluate import held_out_scores, shortened
from train.journal import NoJournal
from train.loop import Diverged, Place, Run
from train.recipes import with_overrides
from train.saving import SaveFailed, write_whole

KINDS = ("coarse", "decoded")
HEADERS = ("coarse J&F", "decoded J&F", "seeds")

Record = dict[str, Any]  # of one cell with one seed: what OUT/cells holds


@dataclass(frozen=True)
class Material:
    """What all cells have in common: what is learnt from, what is measured on, and where it is computed."""

    clips: Sequence[Clip]
    sequences: Sequence[StepSequence]
    place: Place = field(default_factory=Place)

    @property
    def key(self) -> str:
        """Digits that differ when clips or sequences do."""
        clips = [[clip.name, list(clip.frames.shape)] for clip in self.clips]
        return digest([clips, [[one.name, one.num_frames] for one in self.sequences]])


class Ablation:
    """The cells of one folder."""

    def __init__(self, cells: Sequence[Cell], seeds: Sequence[int], material: Material, out: Path) -> None:
        self.cells, self.material, self.out = cells, material, out
        self.seeds = list(seeds)
        self._learnt_steps, self._learnt_seconds = 0, 0.0
        self._measured, self._measured_seconds = 0, 0.0

    def finished(self) -> list[Record]:
        """What is done of the wanted cells, in their order, seeds innermost."""
        paths = [self.cell_path(cell, seed) for cell in self.cells for seed in self.seeds]
        return [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.exists()]

    def run(self, command: Sequence[str]) -> None:
        """Do what is missing, all cells with the first seed before the next; tables are written after every cell.

        Raises SaveFailed, Diverged or VideoError; what is finished by then stays.
        """
        began = time.monotonic()
        wanted = [(cell, seed) for seed in self.seeds for cell in self.cells]
        missing = [(cell, seed) for cell, seed in wanted if not self.cell_path(cell, seed).exists()]
        print(f"{len(wanted)} cells, {len(wanted) - len(missing)} of them done before", flush=True)
        for done, (cell, seed) in enumerate(missing, start=1):
            record = self._measure(cell, seed)
            _write_json(self.cell_path(cell, seed), record)
            self._write_tables(command)
            minutes, left = (time.monotonic() - began) / 60, self._seconds_left(missing[done:]) / 60
            print_table(group_table(cell.group, self.finished()))
            print(
                f"[{done}/{len(missing)}] {cell.group}, {cell.row}, seed {seed}; "
                f"{minutes:.1f} min so far, about {left:.0f} min left\n",
                flush=True,
            )
        self._write_tables(command)

    def cell_path(self, cell: Cell, seed: int) -> Path:
        """The file of a finished cell; its name says which, and changes with all that the figures depend on."""
        words = "".join(letter if letter.isalnum() else "_" for letter in f"{cell.group}-{cell.row}")
        identity = digest([cell.training.key, list(map(list, cell.model)), self.material.key])
        return self.out / "cells" / f"{words}-s{seed}-{identity}.json"

    def weights_path(self, training: Training, seed: int) -> Path:
        """The checkpoint of a finished training."""
        return self.out / "weights" / f"{training.key}-{self.material.key}-s{seed}.pt"

    def trained(self, training: Training, seed: int) -> Checkpoint:
        """The weights of a training, learnt now, with all it comes after, where they are not there yet."""
        path = self.weights_path(training, seed)
        if not path.exists():
            before = self.trained(training.after, seed) if training.after else None
            self._learn(training, before, seed, path)
        return Checkpoint.load(path)

    def _learn(self, training: Training, before: Checkpoint | None, seed: int, path: Path) -> None:
        folder, began = self.out / "running", time.monotonic()
        shutil.rmtree(folder, ignore_errors=True)
        place = self.material.place
        run = Run(training.recipe, self.material.clips, folder, _seed_of(training, seed), NoJournal(), place)
        if before:
            run.start_from(before)
        run.learn({"recipe": "ablation", "seed": seed})
        path.parent.mkdir(parents=True, exist_ok=True)
        (folder / "checkpoint.pt").replace(path)
        shutil.rmtree(folder, ignore_errors=True)
        self._learnt_steps += training.steps
        self._learnt_seconds += time.monotonic() - began

    def _measure(self, cell: Cell, seed: int) -> Record:
        checkpoint = self.trained(cell.training, seed)
        began = time.monotonic()
        changed: dict[str, Any] = dict(cell.model)
        segmenter = replace(checkpoint, config=replace(checkpoint.config, **changed)).segmenter()
        segmenter.to(self.material.place.compute.device)
        scores = held_out_scores(segmenter, self.material.sequences)
        self._measured += 1
        self._measured_seconds += time.monotonic() - began
        if not cell.training.learns_masks:
            del scores["decoded"]  # by a decoder that has learnt nothing: the coarse mask again
        return {"group": cell.group, "row": cell.row, "seed": seed, "scores": scores}

    def _seconds_left(self, missing: Sequence[tuple[Cell, int]]) -> float:
        """By the trainings still to be done, each counted once, and the cells to be measured."""
        trainings = {
            self.weights_path(training, seed): training.steps
            for cell, seed in missing
            for training in cell.training.chain
        }
        steps = sum(count for path, count in trainings.items() if not path.exists())
        a_step = self._learnt_seconds / max(1, self._learnt_steps)
        return steps * a_step + len(missing) * self._measured_seconds / max(1, self._measured)

    def _write_tables(self, command: Sequence[str]) -> None:
        records = self.finished()
        write_whole(self.out / "ablation.md", lambda path: _fill(path, markdown(records)))
        report = {"command": list(command), "rows": rows_of(records), "cells": records}
        write_whole(self.out / "ablation.json", lambda path: write_report(path, report))


def rows_of(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Mean, least and greatest of each kind of score over the seeds, by group and row, in the order they come."""
    grouped: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        grouped.setdefault((record["group"], record["row"]), []).append(record)
    return [
        {"group": group, "row": row, "seeds": len(same)} | {kind: _spread(same, kind) for kind in (*KINDS, "copied")}
        for (group, row), same in grouped.items()
    ]


def markdown(records: Sequence[Record]) -> str:
    """A table for each group, and below them what copying the first mask gives."""
    rows, lines = rows_of(records), []
    for group in [name for name in GROUPS if any(row["group"] == name for row in rows)]:
        lines += [f"| {group} | {' | '.join(HEADERS)} |", "|---|---|---|---|"]
        lines += [f"| {' | '.join(map(str, _columns(row)))} |" for row in rows if row["group"] == group]
        lines.append("")
    if rows and rows[0]["copied"]:
        lines.append(f"Copying the first mask: {rows[0]['copied']['mean']:.1f}.")
    return "\n".join(lines) + "\n"


def group_table(group: str, records: Sequence[Record]) -> Table:
    """The table of one group for the terminal."""
    return Table([group, *HEADERS], [_columns(row) for row in rows_of(records) if row["group"] == group])


def _spread(records: Sequence[Record], kind: str) -> dict[str, float] | None:
    values = [record["scores"][kind] for record in records if kind in record["scores"]]
    if not values:
        return None
    return {"mean": round(float(np.mean(values)), 2), "least": min(values), "greatest": max(values)}


def _columns(row: Mapping[str, Any]) -> list[object]:
    return [row["row"], *(_spread_text(row[kind]) for kind in KINDS), row["seeds"]]


def _spread_text(spread: Mapping[str, float] | None) -> str:
    return f"{spread['mean']:.1f} ({spread['least']:.1f} to {spread['greatest']:.1f})" if spread else "-"


def _seed_of(training: Training, seed: int) -> int:
    """Another one for each training of a chain, so that none repeats the draws of the one before it."""
    return 100 * seed + len(training.chain)


def _write_json(path: Path, value: Record) -> None:
    write_whole(path, lambda partial: _fill(partial, json.dumps(value, indent=2) + "\n"))


def _fill(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m train.ablation", description=__doc__.partition("\n")[0])
    made.add_argument("--data", type=Path, nargs="+", required=True, metavar="PATH", help="videos to learn from")
    made.add_argument(
        "--held-out", type=Path, required=True, metavar="DATASET", help="DAVIS layout with masks, to measure on"
    )
    made.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the cells and the tables")
    made.add_argument("--seeds", default="0,1", help="comma-separated (default: 0,1)")
    made.add_argument("--only", choices=GROUPS, action="append", help="this group alone; may be given several times")
    made.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting of the small recipe"
    )
    made.add_argument("--frames", type=int, default=30, help="of each held-out sequence, from its start (default: 30)")
    made.add_argument("--device", choices=DEVICES, default="auto", help="what to compute on")
    made.add_argument("--threads", type=int, default=0, help="CPU threads (default: all)")
    return made


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 done, 1 failed on the way, 2 wrong input, 130 stopped by Ctrl-C."""
    words = sys.argv[1:] if arguments is None else arguments
    given = parser().parse_args(words)
    try:
        _ablate(given, ["python", "-m", "train.ablation", *words])
    except (SaveFailed, Diverged, OSError) as error:
        print(f"train.ablation: {error}", file=sys.stderr)
        return 1
    except (MaskstreamError, ValueError) as error:
        print(f"train.ablation: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; finished cells are kept, the same command goes on", file=sys.stderr)
        return 130
    return 0


def _ablate(given: argparse.Namespace, command: Sequence[str]) -> None:
    recipe = with_overrides(ablation_recipe(), given.set)
    if given.frames < 3:
        raise ValueError(f"--frames {given.frames}: at least 3, since the first and the last are not scored")
    seeds = [int(word) for word in given.seeds.split(",")]
    cells = [cell for cell in cells_of(recipe) if not given.only or cell.group in given.only]
    if given.threads:
        torch.set_num_threads(given.threads)
    compute = choose_compute(given.device, "fp32", 0)
    place = Place(compute, threads=max(1, usable_cores() - 1))
    sequences = [shortened(one, given.frames, recipe.model.short_side) for one in find_sequences(given.held_out)]
    settings = DecodeSettings(recipe.clip_short_side, recipe.clip_frames_max)
    footage = decode_all(given.data, given.out / "decoded", settings)
    clips = open_clips(footage.files)
    print(
        f"{len(clips)} clips, {len(footage.skipped)} videos skipped; {len(sequences)} sequences; {compute}", flush=True
    )
    Ablation(cells, seeds, Material(clips, sequences, place), given.out).run(command)


if __name__ == "__main__":
    sys.exit(main())

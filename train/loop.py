"""The run: correspondence, then rounds of clustering and mask learning, resumable at any step.

Every random choice is drawn from (seed, stage, step, item), and a step either happens whole or not at all, so a run
that was stopped continues exactly as if it had not been. State is written whole or not at all. What is exported is the
slow average of the weights (EMA), which is also what clusters.
"""

import copy
import math
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from maskstream.checkpoint import Checkpoint
from maskstream.dataset import AnnotatedSequence
from maskstream.engines.torch_networks import TorchNetworks
from maskstream.errors import CheckpointError, MaskstreamError
from maskstream.model.segmenter import Segmenter
from train.clips import Clip
from train.clustering import PseudoWindow, cluster_report, pseudo_windows
from train.compute import Compute, convolve_in_bf16, moved
from train.descent import Descent
from train.distributed import Group, synchronise_norms
from train.evaluate import held_out_scores
from train.figures import Figures
from train.interruption import Interruption, Stopped
from train.journal import Record
from train.objectives import Correspondence, Lesson, Masks, MasksWithCorrespondence, Objective, is_loss
from train.pictures import propagated_sheet, pseudo_mask_sheet
from train.prefetch import prefetched
from train.recipes import Recipe
from train.saving import SaveFailed, write_whole
from train.stages import Stage, check, stages


class Diverged(MaskstreamError):
    """A loss is not finite; the state before that is kept."""


@dataclass
class Position:
    """Where a run stands: which stage of `train.stages`, and how many of its steps are done."""

    stage: int = 0
    step: int = 0


@dataclass(frozen=True)
class Place:
    """Where a run computes: on what, beside which other processes, and how many threads prepare its batches."""

    compute: Compute = field(default_factory=Compute)
    group: Group = field(default_factory=Group)
    threads: int = 1


class Run:
    """One training run in one folder. Raises ValueError for a recipe that contradicts itself or cannot be shared."""

    def __init__(
        self,
        recipe: Recipe,
        clips: Sequence[Clip],
        out: Path,
        seed: int,
        journal: Record,
        place: Place = Place(),
    ) -> None:
        check(recipe)
        self.recipe, self.clips, self.out, self.seed, self.journal = recipe, clips, out, seed, journal
        self.place, self._group = place, place.group
        self.stages = stages(recipe)
        self._check_shares()
        torch.manual_seed(seed)
        self.segmenter = Segmenter(recipe.model).to(place.compute.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.segmenter).eval()
        synchronise_norms(self.segmenter, self._group)
        if place.compute.precision == "bf16":
            convolve_in_bf16(self.segmenter)
        self.position = Position()
        self.figures = Figures()
        self.interruption = Interruption()
        self._seconds_before, self._sat_down = 0.0, time.monotonic()  # what earlier sittings took; when this one began
        self._origin: dict[str, Any] = {}
        self._descent: Descent | None = None
        self._saved_descent: dict[str, Any] | None = None  # to be restored when the stage begins
        self._clusterer: dict[str, Any] | None = None  # weights of the encoder whose pseudo masks this stage learns
        self._within_step = False

    @property
    def state_path(self) -> Path:
        """All that is needed to go on."""
        return self.out / "state.pt"

    @property
    def seconds(self) -> float:
        """How long this run has taken so far, all sittings together."""
        return self._seconds_before + time.monotonic() - self._sat_down

    @property
    def where(self) -> str:
        """Where the run stands, in words."""
        if self.position.stage == len(self.stages):
            return "at the end"
        stage = self.stages[self.position.stage]
        return f"{stage.name}, step {self.position.step} of {stage.settings.steps}"

    def start_from(self, checkpoint: Checkpoint) -> None:
        """Begin with the weights of another run instead of random ones. Raises CheckpointError for other sizes."""
        weights = checkpoint.segmenter().state_dict()
        try:
            self.segmenter.load_state_dict(weights)
        except RuntimeError as error:
            made, wanted = checkpoint.config.name, self.recipe.model.name
            raise CheckpointError(
                f"weights of {made!r} do not fit the networks of {wanted!r}; resume from the same recipe"
            ) from error
        self.average.load_state_dict(weights)

    def resume(self) -> None:
        """Continue from `state_path`, with any number of processes. Raises CheckpointError when it cannot be read."""
        try:
            state = torch.load(self.state_path, map_location="cpu", weights_only=True)
            self.segmenter.load_state_dict(state["segmenter"])
            self.average.load_state_dict(state["average"])
        except Exception as error:  # torch raises many types for a damaged file
            raise CheckpointError(
                f"{self.state_path}: this recipe cannot go on from it ({type(error).__name__}: {error}); "
                "resume with the recipe it was made with, or begin again with --resume-from its checkpoint.pt"
            ) from error
        self.position = Position(**state["position"])
        self.figures = Figures(state["figures"])
        self._seconds_before = state["seconds"]
        self._saved_descent, self._clusterer = state["descent"], state["clusterer"]

    def save(self) -> None:
        """State to go on from, and the checkpoint to export. Raises SaveFailed; the files before are then kept."""
        if not self._group.leads:
            return
        half = {n: t.half() if t.is_floating_point() else t for n, t in self.average.state_dict().items()}
        origin = self._origin | {"gates": self.figures.gates} if self.figures.gates else self._origin
        checkpoint = Checkpoint({name: tensor.cpu() for name, tensor in half.items()}, self.recipe.model, origin)
        write_whole(self.out / "checkpoint.pt", checkpoint.save)  # first: a state without one cannot be resumed
        state = {
            "segmenter": self.segmenter.state_dict(),
            "average": self.average.state_dict(),
            "position": vars(self.position),
            "figures": self.figures.state(),
            "seconds": self.seconds,
            "descent": self._descent.state() if self._descent else self._saved_descent,
            "clusterer": self._clusterer,
        }
        write_whole(self.state_path, lambda path: torch.save(state, path))

    def learn(self, origin: dict[str, Any], held_out: Sequence[AnnotatedSequence] = ()) -> None:
        """Run to the end of the recipe from wherever the run stands; saves as it goes and when interrupted.

        `origin` goes into the checkpoint. With `held_out`, J&F after each stage. Raises Stopped, Diverged, WorkerLost,
        and SaveFailed when the last save fails; one that fails on the way is said, and tried again.
        """
        self._origin, self._sat_down = origin, time.monotonic()
        self._group.follow_first(self.segmenter)
        self._group.follow_first(self.average)
        try:
            self._save_if_possible()
            while self.position.stage < len(self.stages):
                stage = self.stages[self.position.stage]
                self._learn_stage(stage)
                self._gate(stage, held_out)
                self._descent = self._saved_descent = self._clusterer = None
                self.position = Position(self.position.stage + 1, 0)
                self._save_if_possible()
        except BaseException:
            if not self._within_step:  # else the state of the last save is the one to go on from
                self.save()
            raise
        self.save()

    def _check_shares(self) -> None:
        recipe = self.recipe
        self._group.share(recipe.correspondence.clips, "correspondence.clips")
        if recipe.rounds:
            self._group.share(recipe.masks.clips, "masks.clips")
        if recipe.masks_correspondence_weight > 0:
            self._group.share(recipe.masks_correspondence_clips, "masks_correspondence_clips")

    def _learn_stage(self, stage: Stage) -> None:
        windows = self._windows(stage) if stage.learns_masks else []
        self._steps(stage, self._objective(stage, windows))
        if stage.learns_masks:
            self._group.once(lambda: self._show_propagated(stage, windows))

    def _objective(self, stage: Stage, windows: Sequence[PseudoWindow]) -> Objective:
        recipe, lesson = self.recipe, Lesson(self.clips, (self.seed, self.position.stage), self._group)
        before = stage.correspondence_steps_before
        if not stage.learns_masks:
            return Correspondence(lesson, recipe.correspondence, before)
        masks = Masks(lesson, recipe.masks, windows)
        if recipe.masks_correspondence_weight == 0:
            return masks
        few = replace(recipe.correspondence, clips=recipe.masks_correspondence_clips)
        return MasksWithCorrespondence(masks, Correspondence(lesson, few, before), recipe.masks_correspondence_weight)

    def _windows(self, stage: Stage) -> list[PseudoWindow]:
        """Pseudo masks of this round by the average as it was when the round began; process 0 makes them for all."""
        if self._clusterer is None:
            self._clusterer = copy.deepcopy(self.average.frame_encoder.state_dict())
        encoder = copy.deepcopy(self.average.frame_encoder)
        encoder.load_state_dict(self._clusterer)
        seed, folder = (self.seed, self.position.stage), self.out / "pseudo_masks"

        def windows() -> list[PseudoWindow]:
            return pseudo_windows(encoder, self.clips, self.recipe.clustering, seed, folder)

        def make() -> None:
            made = windows()
            self.journal.scalars(cluster_report(made), stage.round)
            self.journal.picture(f"pseudo_masks_{stage.round}", pseudo_mask_sheet(made, self.clips))

        self._group.once(make)
        return windows()  # from the cache

    def _show_propagated(self, stage: Stage, windows: Sequence[PseudoWindow]) -> None:
        networks = TorchNetworks(self.average, str(self.place.compute.device))
        self.journal.picture(f"propagated_masks_{stage.round}", propagated_sheet(networks, windows, self.clips))

    def _gate(self, stage: Stage, held_out: Sequence[AnnotatedSequence]) -> None:
        """J&F after a stage, on the curves and in the provenance; nothing without held-out sequences."""
        if not held_out:
            return
        scores = self._group.once(lambda: held_out_scores(self.average, held_out))
        self.journal.say(f"after {stage.name}: J&F " + ", ".join(f"{kind} {value}" for kind, value in scores.items()))
        self.journal.scalars({f"gate/{kind}": value for kind, value in scores.items()}, self.position.stage)
        self.figures.gates.append({"stage": self.position.stage, "name": stage.name, **scores})

    def _steps(self, stage: Stage, objective: Objective) -> None:
        descent = Descent(self.segmenter, self.average, stage.settings, objective.rate)
        if self._saved_descent:
            descent.restore(self._saved_descent)
        self._descent, saved = descent, time.monotonic()
        batches = prefetched(objective.sample, self.position.step, stage.settings.steps, self.place.threads)
        with (
            closing(batches),
            self.journal.stage(stage.name, stage.settings.steps) as report,
            self.interruption.deferred(),
        ):
            for batch in batches:
                figures = self._step(descent, objective, batch, stage)
                report(self.position.step, figures)
                if time.monotonic() - saved > self.recipe.save_seconds:
                    self._save_if_possible()
                    saved = time.monotonic()
                self._stop_if_asked()

    def _step(self, descent: Descent, objective: Objective, batch: Any, stage: Stage) -> dict[str, float]:
        """One step, the same in all processes; the figures are means over the whole batch."""
        self._within_step = True
        losses = objective.losses(self.segmenter, moved(batch, self.place.compute.device), self.position.step)
        means = self._group.averaged(torch.stack([value.detach().float() for value in losses.values()])).tolist()
        figures = dict(zip(losses, means, strict=True))
        if not all(math.isfinite(value) for value in means):
            raise Diverged(
                f"the loss is not finite at step {self.position.step} of {stage.name} ({figures}); lower the learning "
                "rate, for example by half with --set, and go on from the last state with --resume"
            )
        total = torch.stack([value for name, value in losses.items() if is_loss(name)]).sum()
        descent.step(total, self.position.step, self._group, self.recipe.ema_decay)
        self.position.step += 1
        self.figures.add(stage.name, figures)
        self._within_step = False
        return figures

    def _save_if_possible(self) -> None:
        try:
            self.save()
        except SaveFailed as error:
            print(f"warning: {error}; learning goes on, and saving is tried again", file=sys.stderr, flush=True)

    def _stop_if_asked(self) -> None:
        """All processes stop after the same step, whichever of them was asked."""
        asked = torch.tensor(float(self.interruption.asked > 0), device=self.place.compute.device)
        if self._group.averaged(asked) > 0:
            raise Stopped(self.interruption.asked or signal.SIGTERM)

"""The run: correspondence, then rounds of clustering and mask learning, resumable at any step.

Every random choice is drawn from (seed, stage, step), so a run that was stopped continues exactly as if it had not
been. State is written whole or not at all. What is exported is the slow average of the weights (EMA).
"""

import copy
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from maskstream.checkpoint import Checkpoint
from maskstream.dataset import AnnotatedSequence
from maskstream.engines.torch_networks import TorchNetworks
from maskstream.errors import CheckpointError
from maskstream.model.segmenter import Segmenter
from train.clips import Clip
from train.clustering import PseudoWindow, cluster_clips, cluster_entropy
from train.correspondence import correspondence_losses, sample_batch
from train.evaluate import held_out_scores
from train.journal import Journal
from train.mask_learning import mask_losses, sample_mask_batch
from train.pictures import propagated_sheet, pseudo_mask_sheet
from train.recipes import Recipe, StageSettings

GRADIENT_NORM = 5.0

Losses = dict[str, Tensor]
Batch = TypeVar("Batch")


@dataclass
class Position:
    """Where a run stands: stage 0 is correspondence, stage n is the n-th round of mask learning."""

    stage: int = 0
    step: int = 0


class Run:
    """One training run in one folder."""

    def __init__(
        self,
        recipe: Recipe,
        clips: Sequence[Clip],
        out: Path,
        seed: int,
        journal: Journal,
        held_out: Sequence[AnnotatedSequence] = (),
    ) -> None:
        self.recipe, self.clips, self.out, self.seed, self.journal = recipe, clips, out, seed, journal
        self.held_out = held_out
        torch.manual_seed(seed)
        self.segmenter = Segmenter(recipe.model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.segmenter).eval()
        self.position = Position()
        self._optimizer: torch.optim.Optimizer | None = None
        self._optimizer_state: dict[str, Any] | None = None

    @property
    def state_path(self) -> Path:
        """All that is needed to go on."""
        return self.out / "state.pt"

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
        """Continue from `state_path`."""
        state = torch.load(self.state_path, map_location="cpu", weights_only=True)
        self.segmenter.load_state_dict(state["segmenter"])
        self.average.load_state_dict(state["average"])
        self.position = Position(**state["position"])
        self._optimizer_state = state["optimizer"]

    def save(self, provenance: dict[str, Any]) -> None:
        """State to go on from, and the checkpoint to export, each written whole or not at all."""
        half = {n: t.half() if t.is_floating_point() else t for n, t in self.average.state_dict().items()}
        Checkpoint(half, self.recipe.model, provenance).save(
            self.out / "checkpoint.pt"
        )  # first: a state without one cannot be resumed
        state = {
            "segmenter": self.segmenter.state_dict(),
            "average": self.average.state_dict(),
            "position": vars(self.position),
            "optimizer": self._optimizer.state_dict() if self._optimizer else None,
        }
        partial = self.state_path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.state_path)

    def learn(self, provenance: dict[str, Any]) -> None:
        """Run to the end of the recipe from wherever the run stands; saves as it goes and when interrupted."""
        try:
            while self.position.stage <= self.recipe.rounds:
                self._stage(provenance)
                self._gate(provenance)
                self.position = Position(self.position.stage + 1, 0)
                self._optimizer = self._optimizer_state = None
        finally:
            self.save(provenance)

    def _gate(self, provenance: dict[str, Any]) -> None:
        """J&F after a stage, on the curves and in the provenance; nothing without held-out sequences."""
        if not self.held_out:
            return
        scores = held_out_scores(self.average, self.held_out)
        print(f"after stage {self.position.stage}: J&F " + ", ".join(f"{k} {v}" for k, v in scores.items()), flush=True)
        self.journal.scalars({f"gate/{kind}": value for kind, value in scores.items()}, self.position.stage)
        provenance.setdefault("gates", []).append({"stage": self.position.stage, **scores})

    def _stage(self, provenance: dict[str, Any]) -> None:
        if self.position.stage == 0:
            rate = {"frame_encoder": 1.0}
            self._steps(
                "correspondence",
                self.recipe.correspondence_stage,
                rate,
                self._sample_correspondence,
                self._correspond,
                provenance,
            )
            return
        windows = self._windows(self.position.stage)
        rates = {"mask_encoder": 1.0, "mask_decoder": 1.0, "frame_encoder": self.recipe.masks.encoder_rate}

        def sample(rng: np.random.Generator) -> Any:
            return sample_mask_batch(rng, self.clips, windows, self.recipe.masks)

        stage = self.position.stage
        self._steps(f"masks{stage}", self.recipe.mask_stage, rates, sample, self._segment, provenance)
        sheet = propagated_sheet(TorchNetworks(self.average), windows, self.clips)
        self.journal.picture(f"propagated_masks_{stage}", sheet)

    def _sample_correspondence(self, rng: np.random.Generator) -> Any:
        return sample_batch(rng, list(self.clips), self.recipe.correspondence)

    def _correspond(self, batch: Any) -> Losses:
        self.segmenter.train()
        encoder = self.segmenter.frame_encoder
        views = torch.cat((batch.first, batch.other, batch.first_again, batch.other_again))
        key = encoder.key(encoder.backbone(views)[-1]).flatten(2)
        first, other, first_again, other_again = key.chunk(4)
        keys = (first, other, first_again, other_again)
        return correspondence_losses(keys, batch, self.recipe.correspondence, self.position.step)

    def _segment(self, batch: Any) -> Losses:
        self.segmenter.train()
        encoder = self.segmenter.frame_encoder
        for part in (encoder.stem, encoder.stages, encoder.key_head):
            part.eval()  # batch statistics of pasted pictures are not those of frames
        return mask_losses(self.segmenter, batch, self.recipe.masks)

    def _windows(self, stage: int) -> list[PseudoWindow]:
        """Pseudo masks of this round, made once by the averaged encoder and kept in the run's folder."""
        path = self.out / f"pseudo_masks_{stage}.pt"
        if path.exists():
            return [PseudoWindow(w["clip"], tuple(w["frames"]), w["labels"].numpy()) for w in torch.load(path)]
        rng = np.random.default_rng([self.seed, stage])
        self.average.eval()
        windows = cluster_clips(self.average.frame_encoder, self.clips, self.recipe.clustering, rng)
        records = [
            {"clip": w.clip, "frames": list(w.frame_indices), "labels": torch.from_numpy(w.labels)} for w in windows
        ]
        torch.save(records, path)
        self.journal.scalars(
            {"clusters/windows": len(windows), "clusters/entropy_bits": cluster_entropy(windows)}, stage
        )
        self.journal.picture(f"pseudo_masks_{stage}", pseudo_mask_sheet(windows, self.clips))
        return windows

    def _steps(
        self,
        name: str,
        settings: StageSettings,
        rates: dict[str, float],
        sample: Callable[[np.random.Generator], Batch],
        losses_of: Callable[[Batch], Losses],
        provenance: dict[str, Any],
    ) -> None:
        self._optimizer = self._new_optimizer(rates, settings)
        saved = time.monotonic()
        with ThreadPoolExecutor(1) as pool, self.journal.stage(name, settings.steps) as progress:
            batch: Future[Batch] = pool.submit(sample, self._rng())
            while self.position.step < settings.steps:
                current = batch.result()
                torch.manual_seed(hash((self.seed, self.position.stage, self.position.step)) % 2**63)
                losses = losses_of(current)
                self._descend(losses, settings)
                self.position.step += 1
                batch = pool.submit(sample, self._rng())
                progress(self.position.step, {key: float(value.detach()) for key, value in losses.items()})
                if time.monotonic() - saved > self.recipe.save_seconds:
                    self.save(provenance)
                    saved = time.monotonic()

    def _rng(self) -> np.random.Generator:
        return np.random.default_rng([self.seed, self.position.stage, self.position.step])

    def _new_optimizer(self, rates: dict[str, float], settings: StageSettings) -> torch.optim.Optimizer:
        self.segmenter.zero_grad()  # what the last stage left on weights that now rest must not count in the norm
        groups: list[dict[str, Any]] = []
        for name, parameter in self.segmenter.named_parameters():
            rate = rates.get(name.split(".")[0], 0.0)
            if ".context_head" in name or ".skip" in name:
                rate = 1.0 if self.position.stage else 0.0  # heads of the mask networks that live in the frame encoder
            parameter.requires_grad_(rate > 0)
            if rate > 0:
                decay = settings.weight_decay if parameter.ndim > 1 else 0.0
                groups.append({"params": [parameter], "weight_decay": decay, "rate": rate})
        optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate)
        if self._optimizer_state:
            optimizer.load_state_dict(self._optimizer_state)
            self._optimizer_state = None
        return optimizer

    def _descend(self, losses: Losses, settings: StageSettings) -> None:
        assert self._optimizer is not None
        total = torch.stack([value for key, value in losses.items() if not key.startswith("iou")]).sum()
        if not torch.isfinite(total):
            raise FloatingPointError(f"the loss is not finite at step {self.position.step}; lower the learning rate")
        step_rate = learning_rate(self.position.step, settings)
        for group in self._optimizer.param_groups:
            group["lr"] = step_rate * group["rate"]
        self._optimizer.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_([p for p in self.segmenter.parameters() if p.grad is not None], GRADIENT_NORM)
        self._optimizer.step()
        self._average_weights()

    @torch.no_grad()
    def _average_weights(self) -> None:
        decay = min(self.recipe.ema_decay, (self.position.step + 1) / (self.position.step + 10))
        for slow, fast in zip(self.average.parameters(), self.segmenter.parameters(), strict=True):
            slow.lerp_(fast, 1 - decay)
        for slow, fast in zip(self.average.buffers(), self.segmenter.buffers(), strict=True):
            slow.copy_(fast)


def learning_rate(step: int, settings: StageSettings) -> float:
    """Linear warm-up, then half a cosine down to a hundredth."""
    warm = min(1.0, (step + 1) / max(1, settings.warmup_steps))
    cosine = 0.5 * (1 + np.cos(np.pi * step / max(1, settings.steps)))
    return float(settings.learning_rate * warm * max(0.01, cosine))

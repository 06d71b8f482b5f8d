"""What a step of learning is: a batch, and the losses of it.

Every random choice is drawn from (seed, stage, step, item), so that a step can be repeated, batches can be prepared by
any number of threads, and several processes draw the same global batch as one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from maskstream.model.segmenter import Segmenter
from train.clips import Clip
from train.clustering import PseudoWindow
from train.correspondence import FINE, CorrespondenceSettings, correspondence_losses, sample_batch
from train.distributed import Group
from train.mask_learning import MaskSettings, mask_losses, sample_mask_batch

Losses = dict[str, Tensor]

KEY_PARTS = tuple(f"frame_encoder.{part}" for part in ("stem.", "stages.", "key_head.", "fine_"))  # what makes keys
_ITEMS, _CHOICES = 1, 2  # what is drawn: a purpose of its own for each, or they would repeat each other

# B clips of the batch, b of this process's share, K key channels, N tokens of a view, S pixels a side


class Objective(Protocol):
    """One kind of step."""

    def sample(self, step: int) -> Any:
        """This process's share of the batch of a step: a dict or dataclass of tensors."""

    def losses(self, segmenter: Segmenter, batch: Any, step: int) -> Losses:
        """Scalars to be summed; those called iou... are for the record."""

    def rate(self, parameter_name: str) -> float:
        """Learning rate of a parameter relative to the stage's; 0 leaves it as it is."""


def is_loss(name: str) -> bool:
    """Whether a figure by this name is to be made small."""
    return not name.startswith("iou")


@dataclass(frozen=True)
class Lesson:
    """What the objectives of a run share: its clips, where it stands, and this process among the others."""

    clips: Sequence[Clip]
    seed: tuple[int, int]  # of the run, and the stage
    group: Group

    def rngs(self, share: range, step: int) -> list[np.random.Generator]:
        """One generator for each item of a share."""
        return [np.random.default_rng([_ITEMS, *self.seed, step, item]) for item in share]

    def generator(self, step: int) -> torch.Generator:
        """For the random choices of the losses; the same in every process."""
        seed = np.random.default_rng([_CHOICES, *self.seed, step]).integers(2**63)
        return torch.Generator().manual_seed(int(seed))


@dataclass(frozen=True)
class Correspondence:
    """Keys of the same place agree; teaches what makes keys."""

    lesson: Lesson
    settings: CorrespondenceSettings
    steps_before: int  # of correspondence in earlier stages: its warm-ups are over

    def sample(self, step: int) -> Any:
        """See `Objective.sample`."""
        share = self.lesson.group.share(self.settings.clips, "correspondence.clips")
        return sample_batch(self.lesson.rngs(share, step), self.lesson.clips, self.settings)

    def losses(self, segmenter: Segmenter, batch: Any, step: int) -> Losses:
        """See `Objective.losses`; the same in every process, since they compare the clips of all."""
        segmenter.train()
        encoder, group = segmenter.frame_encoder, self.lesson.group
        view_XSS3 = torch.cat(tuple(batch.views.values()))  # one pass, so that all views share the norms' statistics
        _, map8, top = encoder.backbone(view_XSS3)
        keys = _by_view(encoder.key(top), batch.views)
        if segmenter.config.fine_channels and self.settings.fine_weight > 0:
            fine = _by_view(encoder.fine_key(map8, top), batch.views)
            keys |= {f"{FINE}{name}": key for name, key in fine.items()}
        return correspondence_losses(
            group.gathered_all(keys),
            group.gathered_all(batch.facts),
            self.settings,
            self.steps_before + step,
            self.lesson.generator(step),
        )

    def rate(self, parameter_name: str) -> float:
        """See `Objective.rate`."""
        return float(parameter_name.startswith(KEY_PARTS))


def _by_view(key_XKhw: Tensor, views: Iterable[str]) -> Losses:
    """Keys [b, K, N] by the name of the view."""
    names = list(views)
    return dict(zip(names, key_XKhw.flatten(2).chunk(len(names)), strict=True))


@dataclass(frozen=True)
class Masks:
    """Masks are carried from frame to frame; teaches the mask networks and their heads in the frame encoder."""

    lesson: Lesson
    settings: MaskSettings
    windows: Sequence[PseudoWindow]

    def sample(self, step: int) -> Any:
        """See `Objective.sample`."""
        share = self.lesson.group.share(self.settings.clips, "masks.clips")
        return sample_mask_batch(self.lesson.rngs(share, step), self.lesson.clips, self.windows, self.settings)

    def losses(self, segmenter: Segmenter, batch: Any, step: int) -> Losses:
        """See `Objective.losses`; means over this process's share."""
        segmenter.train()
        encoder = segmenter.frame_encoder
        for part in encoder.key_parts():
            part.eval()  # batch statistics of pasted pictures are not those of frames
        return mask_losses(segmenter, batch, self.settings)

    def rate(self, parameter_name: str) -> float:
        """See `Objective.rate`."""
        return self.settings.encoder_rate if parameter_name.startswith(KEY_PARTS) else 1.0


@dataclass(frozen=True)
class MasksWithCorrespondence:
    """Mask learning that moves the keys too, held by correspondence: masks alone would let them collapse."""

    masks: Masks
    correspondence: Correspondence
    weight: float  # of the correspondence losses

    def sample(self, step: int) -> Any:
        """See `Objective.sample`."""
        return {"masks": self.masks.sample(step), "correspondence": self.correspondence.sample(step)}

    def losses(self, segmenter: Segmenter, batch: Any, step: int) -> Losses:
        """See `Objective.losses`."""
        matched = self.correspondence.losses(segmenter, batch["correspondence"], step)
        weighted = {f"correspondence_{name}": self.weight * value for name, value in matched.items()}
        return self.masks.losses(segmenter, batch["masks"], step) | weighted

    def rate(self, parameter_name: str) -> float:
        """See `Objective.rate`."""
        return self.masks.rate(parameter_name)

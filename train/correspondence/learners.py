"""The learners behind one interface, and the one place that knows them all.

What a batch must hold and which terms there are both follow from the list here. A learner is given its own values, not
the settings of the others, and names the views it compares; adding one is a module and a line.
"""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from train.correspondence.anchors import Anchors
from train.correspondence.equivariance import Equivariance
from train.correspondence.matching import Match
from train.correspondence.reconstruction import Reconstruction
from train.correspondence.settings import FINE, CorrespondenceSettings
from train.correspondence.walk import Walk

# B clips, K key channels, N tokens of a view


class Learner(Protocol):
    """One way to learn keys from unlabelled clips: the views it compares and a loss over their keys."""

    @property
    def name(self) -> str:
        """What the term is called in logs."""

    @property
    def near(self) -> bool:
        """Whether the term is about what is near in place, and so teaches the fine keys too."""

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the views whose keys the loss reads; `CorrespondenceBatch` says which there are."""

    def loss(
        self, keys: Mapping[str, Tensor], facts: Mapping[str, Tensor], step: int, generator: torch.Generator
    ) -> Tensor:
        """The unweighted term, a scalar, from normalised float32 keys [B, K, N] by view; random draws on the CPU."""


def active_learners(settings: CorrespondenceSettings) -> tuple[tuple[float, Learner], ...]:
    """The learners that have a weight, each with it."""
    s = settings
    known: tuple[tuple[float, Learner], ...] = (
        (s.walk_weight, Walk(s.temperature, s.edge_dropout)),
        (s.match_weight, Match(s.temperature)),
        (s.anchor_weight, Anchors(s.temperature, s.anchors, s.anchor_grid, s.anchor_warmup_steps)),
        (s.equivariance_weight, Equivariance(s.equivariance_temperature, s.equivariance_window, s.equivariance_gap)),
        (
            s.reconstruction_weight,
            Reconstruction(s.reconstruction_temperature, s.reconstruction_window, s.reconstruction_gap),
        ),
    )
    return tuple((weight, learner) for weight, learner in known if weight > 0)


def correspondence_losses(
    keys: Mapping[str, Tensor],
    batch_facts: Mapping[str, Tensor],
    settings: CorrespondenceSettings,
    step: int,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """The weighted terms by name, scalars, from keys [B, K, N] of every view of the batch and its facts.

    Fine keys of a view stand beside its keys as "fine_" and the view's name, and their terms are named alike.
    Computed in float32 on the keys' device, whatever autocast says. All random choices come from `generator`, which
    lives on the CPU.
    """
    learners = active_learners(settings)
    if not learners:
        return {}
    device = next(iter(keys.values())).device
    facts = {name: fact.to(device) for name, fact in batch_facts.items()}
    with torch.autocast(device.type, enabled=False):
        full = {name: key.float() for name, key in keys.items()}
        losses = {learner.name: weight * learner.loss(full, facts, step, generator) for weight, learner in learners}
        fine_keys = _fine(full)
        if fine_keys and settings.fine_weight > 0:
            fine_facts = facts | _fine(facts)
            for weight, learner in learners:
                if learner.near:
                    loss = learner.loss(fine_keys, fine_facts, step, generator)
                    losses[f"{FINE}{learner.name}"] = settings.fine_weight * weight * loss
    return losses


def _fine(named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What is named as fine, under the name it has in the learners."""
    return {name.removeprefix(FINE): value for name, value in named.items() if name.startswith(FINE)}

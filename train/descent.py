"""One stage's descent: AdamW under a learning rate that warms up and falls, and the slow average of the weights (EMA).

What is exported and what clusters is the average. The norms' statistics are copied into it, not averaged: they are
averages over steps themselves, and at the end of a stage, when the learning rate is low, slow and fast agree.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from train.distributed import Group
from train.recipes import StageSettings

GRADIENT_NORM = 5.0


class Descent:
    """Optimizer of one stage. `rate_of` gives each parameter's learning rate by name, relative; 0 lets it rest."""

    def __init__(
        self, segmenter: nn.Module, average: nn.Module, settings: StageSettings, rate_of: Callable[[str], float]
    ) -> None:
        self._segmenter, self._average, self._settings = segmenter, average, settings
        segmenter.zero_grad()  # what the last stage left on weights that now rest must not count in the norm
        groups: list[dict[str, Any]] = []
        for name, parameter in segmenter.named_parameters():
            rate = rate_of(name)
            parameter.requires_grad_(rate > 0)
            if rate > 0:
                decay = settings.weight_decay if parameter.ndim > 1 else 0.0
                groups.append({"params": [parameter], "weight_decay": decay, "rate": rate})
        self._optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate)
        self._learning: list[nn.Parameter] = [group["params"][0] for group in groups]

    def state(self) -> dict[str, Any]:
        """All that `restore` needs to go on bit for bit."""
        return self._optimizer.state_dict()

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state` of the same stage."""
        self._optimizer.load_state_dict(state)

    def step(self, total: Tensor, step: int, group: Group, ema_decay: float) -> None:
        """Down the gradient of `total`, averaged over the processes, at the learning rate of `step`."""
        rate = learning_rate(step, self._settings)
        for parameters in self._optimizer.param_groups:
            parameters["lr"] = rate * parameters["rate"]
        self._optimizer.zero_grad()
        total.backward()
        group.average_gradients(self._learning)
        nn.utils.clip_grad_norm_([p for p in self._learning if p.grad is not None], GRADIENT_NORM)
        self._optimizer.step()
        self._average_weights(min(ema_decay, (step + 1) / (step + 10)))

    @torch.no_grad()
    def _average_weights(self, decay: float) -> None:
        for slow, fast in zip(self._average.parameters(), self._segmenter.parameters(), strict=True):
            slow.lerp_(fast, 1 - decay)
        for kept, current in zip(self._average.buffers(), self._segmenter.buffers(), strict=True):
            kept.copy_(current)


def learning_rate(step: int, settings: StageSettings) -> float:
    """Linear warm-up, then half a cosine down to a hundredth."""
    warm = min(1.0, (step + 1) / max(1, settings.warmup_steps))
    cosine = 0.5 * (1 + np.cos(np.pi * step / max(1, settings.steps)))
    return float(settings.learning_rate * warm * max(0.01, cosine))

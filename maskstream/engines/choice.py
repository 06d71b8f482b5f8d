"""What "fastest" means on this machine: every installed engine is timed at the networks' own size, the fastest runs.

Which one that is depends on the processor (bfloat16 and int8 units, cores), not on anything a table could know. The
first of the candidates is the one that the export gate checked; another must give its masks, or it is left out however
fast it is. Nothing is decided in silence: `Choice.reason` has every figure.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from maskstream import masks
from maskstream.errors import EngineUnavailable, MaskstreamError
from maskstream.moving_shapes import render
from maskstream.networks import F32, Networks
from maskstream.tracker import Prompt, Tracker

TIMED_FRAMES = 3
WARM_UP_FRAMES = 2  # the prompted frame and the first that is segmented
LEAST_IOU = 0.97  # of the masks with those of the engine that the gate checked


@dataclass(frozen=True)
class Trial:
    """How one candidate did: seconds of a whole step with one object, IoU with the first candidate's masks."""

    engine: str
    precision: str = ""
    seconds: float = float("inf")
    iou: float = 0.0
    error: str = ""  # why it does not run, if it does not

    @property
    def fit(self) -> bool:
        """Whether it runs and gives the right masks."""
        return not self.error and self.iou >= LEAST_IOU

    def text(self) -> str:
        """For a log line."""
        if self.error:
            return f"{self.engine} does not run ({self.error})"
        told = f"{self.engine} {self.precision} {1000 * self.seconds:.0f} ms a step"
        return told if self.fit else f"{told}, left out: its masks differ (IoU {self.iou:.3f})"


@dataclass(frozen=True)
class Choice:
    """The networks that run, and why."""

    networks: Networks
    trials: tuple[Trial, ...]

    @property
    def reason(self) -> str:
        """One line with the figures of all candidates, the chosen one first."""
        chosen = self.networks.engine
        if not self.trials:
            return f"fastest: {chosen} {self.networks.precision}, not timed: no other is installed"
        ordered = sorted(self.trials, key=lambda trial: (trial.engine != chosen, trial.seconds))
        return f"fastest: {'; '.join(trial.text() for trial in ordered)}"


def choose_fastest(candidates: Sequence[str], opened: Callable[[str], Networks]) -> Choice:
    """Open each candidate, time it, keep the fastest fit one. A single candidate is not timed.

    Raises EngineUnavailable when none runs; what the only candidate raises passes through.
    """
    if len(candidates) == 1:
        return Choice(opened(candidates[0]), ())
    best: Networks | None = None
    fastest, trials, wanted = float("inf"), [], None
    for name in candidates:
        try:
            networks = opened(name)
            seconds, found = _try(networks)
        except MaskstreamError as error:
            trials.append(Trial(name, error=str(error)))
            continue
        wanted = found if wanted is None else wanted
        trial = Trial(name, networks.precision, seconds, min(map(_iou, found, wanted)))
        trials.append(trial)
        if trial.fit and seconds < fastest:
            best, fastest = networks, seconds
    if best is None:
        raise EngineUnavailable("; ".join(trial.text() for trial in trials) or "no engine is installed")
    return Choice(best, tuple(trials))


def _try(networks: Networks) -> tuple[float, tuple[F32, F32]]:
    """Median seconds of a step, and the masks of the last frame: propagated [H/4, W/4] and answered [H, W]."""
    spec = networks.spec
    size = masks.working_size(spec.short_side, spec.short_side * 16 // 9, spec.short_side, spec.stride)
    clip = render(WARM_UP_FRAMES + TIMED_FRAMES, size, num_objects=1)
    tracker, seconds = Tracker(networks), []
    for index, frame in enumerate(clip.frames):
        answer = tracker.step(frame, [Prompt(1, clip.id_maps[0] == 1)] if index == 0 else [])
        seconds.append(sum(answer.stage_seconds.values()))
    tracker.close()
    answered = (answer.id_map == 1).astype(np.float32)
    return statistics.median(seconds[WARM_UP_FRAMES:]), (answer.coarse[0], answered)


def _iou(found: F32, wanted: F32) -> float:
    """Soft IoU, 1 when both are empty; 0 where anything is not finite."""
    if found.shape != wanted.shape or not np.isfinite(found).all():
        return 0.0
    union = float(np.maximum(found, wanted).sum())
    return float(np.minimum(found, wanted).sum()) / union if union else 1.0

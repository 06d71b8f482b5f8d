"""What "auto" means: the installed engines are tried one after the other, and the fastest that is right runs.

Which one that is depends on the processor (bfloat16 and int8 units, cores), not on anything a table could know. The
first of the candidates is the one that the export gate checked; another must give its masks, or it is left out however
fast it is. Nothing is decided in silence: `Choice.reason` has every figure. Here is the decision alone; the trials run
in processes of their own (maskstream.engines.trial_process), so that nothing of the losers stays in memory.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from maskstream.errors import EngineUnavailable
from maskstream.networks import F32

LEAST_IOU = 0.97  # of the masks with those of the engine that the gate checked


class TrialCutShort(EngineUnavailable):
    """A trial ended without an answer: its process died, or took too long. Another time it may do better."""


@dataclass(frozen=True)
class Measured:
    """What one trial found: median seconds of a whole step with one object, and the masks of its last frame."""

    precision: str
    seconds: float
    coarse: F32  # [H/4, W/4] propagated
    answered: F32  # [H, W] 1 where the object is


@dataclass(frozen=True)
class Trial:
    """How one candidate did; `iou` is of its masks with the first candidate's."""

    engine: str
    precision: str = ""
    seconds: float = 0.0
    iou: float = 0.0
    error: str = ""  # why it does not run, if it does not
    cut_short: bool = False  # so that the error may be one of the moment

    @property
    def fit(self) -> bool:
        """Whether it runs and gives the right masks."""
        return not self.error and self.iou >= LEAST_IOU

    def text(self) -> str:
        """For a log line."""
        if self.error:
            return f"{self.engine} does not run ({self.error})"
        told = f"{self.engine.partition(':')[0]} {self.precision} {1000 * self.seconds:.0f} ms a step"
        return told if self.fit else f"{told}, left out: its masks differ (IoU {self.iou:.3f})"


@dataclass(frozen=True)
class Choice:
    """The engine that is to run, and why."""

    engine: str
    trials: tuple[Trial, ...] = ()
    remembered: str = ""  # the file that an earlier choice was read from

    @property
    def reason(self) -> str:
        """One line with the figures of all candidates, the chosen one first."""
        if not self.trials:
            return f"auto: {self.engine}, not timed: no other is installed that auto may take"
        ordered = sorted(self.trials, key=lambda trial: (trial.engine != self.engine, trial.seconds))
        told = f"auto: {'; '.join(trial.text() for trial in ordered)}"
        return f"{told} (timed at an earlier start; {self.remembered})" if self.remembered else told

    @property
    def lasting(self) -> bool:
        """Whether the same is to be expected at the next start."""
        return not any(trial.cut_short for trial in self.trials)


def choose(candidates: Sequence[str], tried: Callable[[str], Measured]) -> Choice:
    """Try each candidate and take the fastest fit one. A single candidate is not tried.

    `tried` raises EngineUnavailable for one that does not run. Raises EngineUnavailable when none is fit.
    """
    if len(candidates) == 1:
        return Choice(candidates[0])
    trials: list[Trial] = []
    wanted: Measured | None = None
    for name in candidates:
        try:
            found = tried(name)
        except EngineUnavailable as error:
            trials.append(Trial(name, error=str(error), cut_short=isinstance(error, TrialCutShort)))
            continue
        wanted = wanted or found
        iou = min(_iou(found.coarse, wanted.coarse), _iou(found.answered, wanted.answered))
        trials.append(Trial(name, found.precision, found.seconds, iou))
    fit = [trial for trial in trials if trial.fit]
    if not fit:
        told = "; ".join(trial.text() for trial in trials)
        raise EngineUnavailable(f"auto found no engine: {told}; name one, as in --engine onnxruntime, to see more")
    return Choice(min(fit, key=lambda trial: trial.seconds).engine, tuple(trials))


def _iou(found: F32, wanted: F32) -> float:
    """Soft IoU, 1 when both are empty; 0 where anything is not finite."""
    if found.shape != wanted.shape or not np.isfinite(found).all():
        return 0.0
    union = float(np.maximum(found, wanted).sum())
    return float(np.minimum(found, wanted).sum()) / union if union else 1.0

"""J&F of networks on annotated sequences: the tracker gets each object's first mask and is scored on what follows.

The networks may be any engine, so that "J&F of the engine" is measured, not deduced from the torch model. Which frames
prompt, and which are scored, is the benchmark's affair (maskstream.steps); here is the one loop for all of them.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from maskstream.masks import MAX_OBJECT_ID, IdMap
from maskstream.networks import Networks
from maskstream.scores import SequenceScorer, SequenceScores
from maskstream.steps import Step, StepSequence
from maskstream.tracker import Tracker, TrackerSettings


@dataclass(frozen=True)
class SequenceResult:
    """Scores of one sequence for three answers, and the time the tracker took."""

    decoded: SequenceScores  # the masks users get
    coarse: SequenceScores  # what affinity alone propagates
    copied: SequenceScores  # each object's first mask, unmoved: the floor that learning has to beat
    frames: int
    seconds: float  # inside Tracker.step: no decoding of video, no scoring


@dataclass(frozen=True)
class AnsweredStep:
    """One frame with the tracker's answer to it."""

    step: Step
    id_map: IdMap  # uint8 [H, W]
    j: float | None  # 0..1, mean over the objects scored on this frame; None when there are none


def evaluate_sequence(
    networks: Networks,
    sequence: StepSequence,
    on_frame: Callable[[int, IdMap], None] = lambda index, id_map: None,
    on_step: Callable[[AnsweredStep], None] = lambda answered: None,
) -> SequenceResult:
    """Follow all objects of `sequence`, each from its prompt on.

    `on_frame` gets the index of each frame and its decoded id map, `on_step` the frame itself and its score as well.
    Raises VideoError when the sequence is damaged or its frames and masks do not match.
    """
    run = _Run(networks, sequence.last_is_scored)
    try:
        for index, step in enumerate(sequence.steps()):
            answered = run.answer(step)
            on_frame(index, answered.id_map)
            on_step(answered)
    finally:
        run.tracker.close()
    decoded, coarse, copied = (scorer.finish() for scorer in (run.decoded, run.coarse, run.copied))
    return SequenceResult(decoded, coarse, copied, run.frames, run.seconds)


class _Run:
    """One pass over one sequence."""

    def __init__(self, networks: Networks, last_is_scored: bool) -> None:
        self.tracker = Tracker(networks, TrackerSettings(max_objects=MAX_OBJECT_ID))
        self.decoded, self.coarse, self.copied = (SequenceScorer(last_is_scored) for _ in range(3))
        self.frames = 0
        self.seconds = 0.0
        self._copy: IdMap | None = None

    def answer(self, step: Step) -> AnsweredStep:
        """Follow and score one frame. Nothing is asked of the tracker before the first object."""
        decoded = coarse = np.zeros(step.frame.shape[:2], np.uint8)
        copied = np.zeros_like(decoded) if self._copy is None else self._copy.copy()
        for prompt in step.prompts:
            np.copyto(copied, np.uint8(prompt.object_id), where=prompt.mask != 0)
        self._copy = copied
        if step.prompts or self.tracker.object_ids:
            started = time.perf_counter()
            answer = self.tracker.step(step.frame, step.prompts)
            self.seconds += time.perf_counter() - started
            decoded = coarse = answer.id_map
            if step.truth is not None:
                coarse = answer.coarse_id_map()
        self.frames += 1
        return AnsweredStep(step, decoded, self._score(step, decoded, coarse, copied))

    def _score(self, step: Step, decoded: IdMap, coarse: IdMap, copied: IdMap) -> float | None:
        if step.truth is None:
            return None
        self.coarse.add(coarse, step.truth, step.scored_ids)
        self.copied.add(copied, step.truth, step.scored_ids)
        j = self.decoded.add(decoded, step.truth, step.scored_ids)
        return sum(j.values()) / len(j) if j else None

"""J&F of networks on annotated sequences: the tracker gets each object's first mask and is scored on all that follows.

The networks may be any engine, so that "J&F of the engine" is measured, not deduced from the torch model.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from maskstream.dataset import AnnotatedSequence
from maskstream.masks import MAX_OBJECT_ID, IdMap, object_ids
from maskstream.networks import Networks
from maskstream.scores import SequenceScorer, SequenceScores
from maskstream.tracker import Frame, Prompt, Tracker, TrackerSettings


@dataclass(frozen=True)
class SequenceResult:
    """Scores of one sequence for three answers, and the time the tracker took."""

    decoded: SequenceScores  # the masks users get
    coarse: SequenceScores  # what affinity alone propagates
    copied: SequenceScores  # each object's first mask, unmoved: the floor that learning has to beat
    frames: int
    seconds: float  # inside Tracker.step: no decoding of video, no scoring


def evaluate_sequence(
    networks: Networks, sequence: AnnotatedSequence, on_frame: Callable[[int, IdMap], None] = lambda index, id_map: None
) -> SequenceResult:
    """Follow all objects of `sequence`, each from the first frame that shows it. `on_frame` gets index and answer.

    Raises VideoError when the sequence is damaged or its frames and masks do not match.
    """
    run = _Run(networks)
    try:
        for index, (frame, truth) in enumerate(sequence.pairs()):
            on_frame(index, run.step(frame, truth))
    finally:
        run.tracker.close()
    decoded, coarse, copied = (scorer.finish() for scorer in (run.decoded, run.coarse, run.copied))
    return SequenceResult(decoded, coarse, copied, run.frames, run.seconds)


class _Run:
    """One pass over one sequence."""

    def __init__(self, networks: Networks) -> None:
        self.tracker = Tracker(networks, TrackerSettings(max_objects=MAX_OBJECT_ID))
        self.decoded, self.coarse, self.copied = SequenceScorer(), SequenceScorer(), SequenceScorer()
        self.frames = 0
        self.seconds = 0.0
        self._copy: IdMap | None = None

    def step(self, frame: Frame, truth: IdMap) -> IdMap:
        """Follow and score one frame; the decoded id map. Nothing is asked of the tracker before the first object."""
        new_ids = [i for i in object_ids(truth) if i not in self.tracker.object_ids]
        copied = np.zeros_like(truth) if self._copy is None else self._copy
        copied = np.where(np.isin(truth, new_ids), truth, copied) if new_ids else copied
        self._copy = copied
        decoded = coarse = np.zeros_like(truth)
        if new_ids or self.tracker.object_ids:
            started = time.perf_counter()
            answer = self.tracker.step(frame, [Prompt(i, truth == i) for i in new_ids])
            self.seconds += time.perf_counter() - started
            decoded, coarse = answer.id_map, answer.coarse_id_map()
        for scorer, id_map in ((self.decoded, decoded), (self.coarse, coarse), (self.copied, copied)):
            scorer.add(id_map, truth)
        self.frames += 1
        return decoded

"""The gates of a run: J&F on sequences with masks that are held out. Masks are measured with, never learnt from.

Where many networks are compared, as in the ablation, sequences are shortened and shrunk so that one takes seconds. Such
figures compare with each other, not with those of whole sequences.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from maskstream.dataset import AnnotatedSequence
from maskstream.engines.torch_networks import TorchNetworks
from maskstream.evaluation import SequenceResult, evaluate_sequence
from maskstream.masks import object_ids, resize_frame
from maskstream.model.segmenter import Segmenter
from maskstream.scores import SequenceScores, mean_scores
from maskstream.steps import Step, StepSequence
from maskstream.tracker import Prompt


@dataclass(frozen=True)
class ShortSequence:
    """The first `num_frames` frames of a sequence, kept in memory, so that it is decoded once for many networks."""

    name: str
    kept: tuple[Step, ...]
    last_is_scored: bool = False

    @property
    def num_frames(self) -> int:
        """Frames to be followed."""
        return len(self.kept)

    @property
    def num_expected(self) -> int:
        """Frames whose masks are wanted: all."""
        return len(self.kept)

    def steps(self) -> Iterator[Step]:
        """The kept frames."""
        return iter(self.kept)


def shortened(sequence: AnnotatedSequence, frames: int, short_side: int) -> ShortSequence:
    """The first `frames` frames of a sequence, shrunk to a short side in pixels. Raises VideoError for a damaged one.

    An object is handed out on the first frame that still shows it at that size.
    """
    kept: list[Step] = []
    known: set[int] = set()
    for path, (frame, truth) in zip(sequence.masks[:frames], sequence.pairs(), strict=False):
        height, width = frame.shape[:2]
        scale = min(1.0, short_side / min(height, width))
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        small = np.asarray(cv2.resize(truth, size[::-1], interpolation=cv2.INTER_NEAREST), np.uint8)
        new_ids = [i for i in object_ids(small) if i not in known]
        known.update(new_ids)
        prompts = tuple(Prompt(i, small == i) for i in new_ids)
        kept.append(Step(path.stem, resize_frame(frame, size), prompts, small))
    return ShortSequence(sequence.name, tuple(kept), sequence.last_is_scored)


def held_out_scores(segmenter: Segmenter, sequences: Sequence[StepSequence]) -> dict[str, float]:
    """Mean J&F over objects, 0..100: of the decoded mask, of the coarse one, and of copying the first mask.

    Computed where the segmenter is.
    """
    networks = TorchNetworks(segmenter, str(segmenter.frame_encoder.pixel_mean.device))
    results = [evaluate_sequence(networks, sequence) for sequence in sequences]
    return {kind: _mean([_scores(result, kind) for result in results]) for kind in ("decoded", "coarse", "copied")}


def _scores(result: SequenceResult, kind: str) -> SequenceScores:
    scores: SequenceScores = getattr(result, kind)
    return scores


def _mean(scores: Sequence[SequenceScores]) -> float:
    mean = mean_scores(one for sequence in scores for one in sequence.objects.values())
    return round(100 * mean.jf, 2) if mean else 0.0

"""The gates of a run: J&F on sequences with masks that are held out. Masks are measured with, never learnt from."""

from collections.abc import Sequence

from maskstream.dataset import AnnotatedSequence
from maskstream.engines.torch_networks import TorchNetworks
from maskstream.evaluation import SequenceResult, evaluate_sequence
from maskstream.model.segmenter import Segmenter
from maskstream.scores import SequenceScores, mean_scores


def held_out_scores(segmenter: Segmenter, sequences: Sequence[AnnotatedSequence]) -> dict[str, float]:
    """Mean J&F over objects, 0..100: of the decoded mask, of the coarse one, and of copying the first mask."""
    networks = TorchNetworks(segmenter)
    results = [evaluate_sequence(networks, sequence) for sequence in sequences]
    return {kind: _mean([_scores(result, kind) for result in results]) for kind in ("decoded", "coarse", "copied")}


def _scores(result: SequenceResult, kind: str) -> SequenceScores:
    scores: SequenceScores = getattr(result, kind)
    return scores


def _mean(scores: Sequence[SequenceScores]) -> float:
    mean = mean_scores(one for sequence in scores for one in sequence.objects.values())
    return round(100 * mean.jf, 2) if mean else 0.0

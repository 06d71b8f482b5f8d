"""J, F and J&F as the DAVIS benchmark defines them, so that a figure here can be set beside a published one.

J is region overlap (intersection over union). F compares contours: a contour pixel is right when the other contour
passes within 0.008 of the frame's diagonal, rounded up to whole pixels. A DAVIS sequence leaves out its first frame (it
was given) and its last, in the toolkit of 2016 (fperazzi/davis) as in that of 2017 (davis2017-evaluation). All scores
are 0..1 in here; `as_percent` and its sisters make the 0..100 of tables and JSON at the rim.
"""

import math
from collections.abc import Iterable, Sequence, Set
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from maskstream.masks import IdMap, object_ids

Mask = npt.NDArray[np.bool_]  # [H, W]; boolean, since the contour is an exclusive or

BOUNDARY_TOLERANCE = 0.008  # of the frame's diagonal
RECALL_THRESHOLD = 0.5
DECAY_BINS = 4


def jaccard(mask: Mask, truth: Mask) -> float:
    """Intersection over union of two masks [H, W], 0..1; two empty masks agree: 1."""
    _check_sizes(mask, truth)
    union = np.count_nonzero(mask | truth)
    return np.count_nonzero(mask & truth) / union if union else 1.0


def boundary_f(mask: Mask, truth: Mask) -> float:
    """Harmonic mean of contour precision and recall of two masks [H, W], 0..1; two masks without contour agree: 1."""
    _check_sizes(mask, truth)
    window = _window(mask | truth)  # no contour lies outside it, and working inside it is several times faster
    contour, true_contour = boundary(mask[window]), boundary(truth[window])
    if not contour.any() or not true_contour.any():
        return float(contour.any() == true_contour.any())
    disk = _disk(math.ceil(BOUNDARY_TOLERANCE * math.hypot(*mask.shape)))
    precision = _share_near(contour, true_contour, disk)
    recall = _share_near(true_contour, contour, disk)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def boundary(mask: Mask) -> Mask:
    """One pixel wide contour [H, W]: pixels that differ from their right, lower or lower right neighbour.

    The last row compares only to the right and the last column only downward; the last pixel is never contour.
    """
    contour = np.zeros(mask.shape, dtype=bool)
    contour[:, :-1] |= mask[:, :-1] ^ mask[:, 1:]
    contour[:-1, :] |= mask[:-1, :] ^ mask[1:, :]
    contour[:-1, :-1] |= mask[:-1, :-1] ^ mask[1:, 1:]
    return contour


@dataclass(frozen=True)
class Statistics:
    """Of one score over the frames of one object: mean, share of frames above 0.5, loss from first to last quarter."""

    mean: float
    recall: float
    decay: float


def statistics(values: Sequence[float]) -> Statistics:
    """Mean, recall and decay of per-frame scores. Raises ValueError when there are none.

    Decay cuts the series into four bins whose edge frames belong to both neighbours, as the DAVIS toolkit does. (The
    toolkit keeps the edges in 8 bits, which garbles series of more than 256 frames; here they are whole.)
    """
    if not len(values):
        raise ValueError("no frame to take statistics of; a scored sequence has at least three frames")
    series = np.asarray(values, dtype=np.float64)
    edges = (np.round(np.linspace(1, len(series), DECAY_BINS + 1) + 1e-10) - 1).astype(np.int64)
    first, last = series[: edges[1] + 1], series[edges[-2] : edges[-1] + 1]
    decay = first.mean() - last.mean()
    return Statistics(float(series.mean()), float((series > RECALL_THRESHOLD).mean()), float(decay))


@dataclass(frozen=True)
class ObjectScores:
    """J and F of one object over one sequence."""

    j: Statistics
    f: Statistics

    @property
    def jf(self) -> float:
        """Mean of J and F."""
        return (self.j.mean + self.f.mean) / 2


@dataclass(frozen=True)
class MeanScores:
    """Means over objects. DAVIS averages over objects, not over sequences."""

    jf: float
    j: float
    f: float


@dataclass(frozen=True)
class SequenceScores:
    """Scores of one sequence by object id, in the order of the ids."""

    objects: dict[int, ObjectScores]

    @property
    def mean(self) -> MeanScores | None:
        """Means over the sequence's objects; None when no object had a frame to be scored on."""
        return mean_scores(self.objects.values())


def mean_scores(objects: Iterable[ObjectScores]) -> MeanScores | None:
    """J&F, J and F averaged over objects; None when there are none."""
    scored = list(objects)
    if not scored:
        return None
    j = float(np.mean([scores.j.mean for scores in scored]))
    f = float(np.mean([scores.f.mean for scores in scored]))
    return MeanScores((j + f) / 2, j, f)


def mean_statistics(objects: Iterable[ObjectScores]) -> tuple[Statistics, Statistics] | None:
    """Mean, recall and decay of J and of F, each averaged over objects; None when there are none."""
    scored = list(objects)
    if not scored:
        return None
    return _average([scores.j for scores in scored]), _average([scores.f for scores in scored])


def _average(parts: Sequence[Statistics]) -> Statistics:
    mean, recall, decay = np.mean([(part.mean, part.recall, part.decay) for part in parts], axis=0).tolist()
    return Statistics(mean, recall, decay)


class SequenceScorer:
    """Takes a sequence frame by frame, so that no clip need be held in memory.

    An object is scored from the frame after the one in which the truth first shows it (that frame was its prompt) to
    the last but one of the sequence, or to its last where a benchmark counts that too.
    """

    def __init__(self, last_is_scored: bool = False) -> None:
        self._j: dict[int, list[float]] = {}
        self._f: dict[int, list[float]] = {}
        self._last_is_scored = last_is_scored
        self._scored_last: set[int] = set()

    def add(self, answer: IdMap, truth: IdMap, scored_ids: Set[int] | None = None) -> dict[int, float]:
        """Score the next frame, id maps uint8 [H, W] of the same size; J of each object scored on it.

        With `scored_ids` the truth speaks of these objects alone: on this frame all others are neither begun nor
        scored.
        """
        _check_sizes(answer, truth)
        self._scored_last = {i for i in self._j if scored_ids is None or i in scored_ids}
        for object_id in self._scored_last:
            mask, true_mask = answer == object_id, truth == object_id
            self._j[object_id].append(jaccard(mask, true_mask))
            self._f[object_id].append(boundary_f(mask, true_mask))
        for object_id in object_ids(truth):
            if object_id not in self._j and (scored_ids is None or object_id in scored_ids):
                self._j[object_id], self._f[object_id] = [], []
        return {i: self._j[i][-1] for i in sorted(self._scored_last)}

    def finish(self) -> SequenceScores:
        """Scores of all frames that count. Objects without such a frame are left out."""
        left_out = set() if self._last_is_scored else self._scored_last
        kept = {i: len(self._j[i]) - (i in left_out) for i in sorted(self._j)}
        return SequenceScores(
            {
                i: ObjectScores(statistics(self._j[i][:count]), statistics(self._f[i][:count]))
                for i, count in kept.items()
                if count > 0
            }
        )


def as_percent(scores: MeanScores | None) -> dict[str, float | None]:
    """jf, j, f in 0..100, rounded to hundredths, for tables and JSON; None where nothing was scored."""
    if scores is None:
        return {"jf": None, "j": None, "f": None}
    return {"jf": _percent(scores.jf), "j": _percent(scores.j), "f": _percent(scores.f)}


def statistics_as_percent(objects: Iterable[ObjectScores]) -> dict[str, dict[str, float]] | None:
    """{"j": {"mean", "recall", "decay"}, "f": {...}} in 0..100, averaged over objects; None when there are none."""
    means = mean_statistics(objects)
    if means is None:
        return None
    j, f = ({name: _percent(value) for name, value in asdict(part).items()} for part in means)
    return {"j": j, "f": f}


def sequence_as_percent(scores: SequenceScores) -> dict[str, Any]:
    """jf, j, f of a sequence, and under "objects" those of each object with recall and decay, in 0..100."""
    return {**as_percent(scores.mean), "objects": {str(i): _object(o) for i, o in scores.objects.items()}}


def _object(scores: ObjectScores) -> dict[str, float]:
    parts = {"jf": scores.jf, "j": scores.j.mean, "f": scores.f.mean}
    parts |= {"j_recall": scores.j.recall, "j_decay": scores.j.decay}
    parts |= {"f_recall": scores.f.recall, "f_decay": scores.f.decay}
    return {name: _percent(value) for name, value in parts.items()}


def _percent(value: float) -> float:
    return round(100 * value, 2)


def _check_sizes(mask: npt.NDArray[np.generic], truth: npt.NDArray[np.generic]) -> None:
    if mask.shape != truth.shape or mask.ndim != 2:
        raise ValueError(f"masks to compare have one size, [H, W]; got {list(mask.shape)} and {list(truth.shape)}")


def _window(inside: Mask) -> tuple[slice, slice]:
    """The box of what is inside and one pixel more on each side, where contours may lie."""
    x, y, width, height = cv2.boundingRect(inside.astype(np.uint8))
    return slice(max(0, y - 1), y + height + 1), slice(max(0, x - 1), x + width + 1)


def _disk(radius: int) -> npt.NDArray[np.uint8]:
    """uint8 [2r+1, 2r+1]: 1 within `radius` pixels of the centre."""
    squares = np.arange(-radius, radius + 1) ** 2
    return (squares[:, None] + squares[None, :] <= radius**2).astype(np.uint8)


def _share_near(contour: Mask, other: Mask, disk: npt.NDArray[np.uint8]) -> float:
    """Share of the pixels of `contour` that lie within `disk` of a pixel of `other`."""
    near = cv2.dilate(other.view(np.uint8), disk)
    return float(np.count_nonzero(contour & (near != 0)) / np.count_nonzero(contour))

"""How good pseudo masks are, in figures: whether clusters collapsed, and how near masks come to true objects.

True masks are measured against, never learnt from: nothing here goes back into the clustering.
"""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from maskstream.masks import IdMap
from train.clustering.pseudo_window import DOUBT, Labels, PseudoWindow


def cluster_report(windows: Sequence[PseudoWindow], drawn: int | None = None) -> dict[str, float]:
    """Figures for the curves, by name. `drawn` is how many windows were clustered; without it, those given.

    `clusters/area_share` is the mean share of the picture that one object takes, 0..1.
    """
    shares = [np.mean(_likely(window.labels) == i) for window in windows for i in window.object_ids]
    return {
        "clusters/windows": float(len(windows) if drawn is None else drawn),
        "clusters/windows_kept": float(len(windows)),
        "clusters/objects_per_window": len(shares) / max(1, len(windows)),
        "clusters/entropy_bits": cluster_entropy(windows),
        "clusters/area_share": float(np.mean(shares)) if shares else 0.0,
    }


def cluster_entropy(windows: Sequence[PseudoWindow]) -> float:
    """Mean entropy, in bits, of how a window's pixels share out over background and objects; near 0 means collapse."""
    entropies = []
    for window in windows:
        counts = np.bincount(window.labels[window.labels < DOUBT], minlength=2).astype(np.float64)
        share = counts[counts > 0] / counts.sum()
        entropies.append(float(-(share * np.log2(share)).sum()))
    return float(np.mean(entropies)) if entropies else 0.0


def best_overlap(labels: Labels, truth: npt.NDArray[np.uint8]) -> dict[int, float]:
    """For each true object of a window, IoU over all its frames with the pseudo mask that fits it best, 0..1.

    Both are [F, H, W]; pixels in doubt count with the label they carry. Objects in no frame are left out.
    """
    likely = _likely(labels)
    pairs = np.bincount(truth.astype(np.int64).ravel() * DOUBT + likely.ravel(), minlength=256 * DOUBT)
    both = pairs.reshape(-1, DOUBT).astype(np.float64)  # [true id, label], in pixels
    either = both.sum(axis=1, keepdims=True) + both.sum(axis=0, keepdims=True) - both
    iou = both / np.maximum(either, 1)
    return {int(i): float(iou[i, 1:].max()) for i in np.flatnonzero(both.sum(axis=1)) if i}


def mean_overlap(windows: Sequence[PseudoWindow], truths: Mapping[int, Sequence[IdMap]]) -> float:
    """Mean best-overlap IoU, 0..1, over the true objects of all windows whose clip is in `truths`; 0 without any.

    `truths` holds an id map of any size for each frame of a clip, by the clip's index.
    """
    overlaps: list[float] = []
    for window in windows:
        if window.clip in truths:
            size = (window.labels.shape[2], window.labels.shape[1])
            maps = [truths[window.clip][i] for i in window.frame_indices]
            truth = np.stack([cv2.resize(one, size, interpolation=cv2.INTER_NEAREST) for one in maps])
            overlaps += best_overlap(window.labels, truth.astype(np.uint8)).values()
    return float(np.mean(overlaps)) if overlaps else 0.0


def _likely(labels: Labels) -> Labels:
    """Labels without the bit of doubt."""
    return labels & np.uint8(DOUBT - 1)

"""Cleaning: which clusters are like an object, and their masks at the picture's size.

A cluster is kept when it is, in every frame, neither too large nor too small, not all along the border, and compact;
and, where asked for, when the keys carry it from frame to frame and change across its outline. What is kept is
sharpened to the picture's edges by a guided filter (He et al., 2013); where the edge stays doubtful the label says so.
"""

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from train.clustering.key_evidence import contrasts, stabilities
from train.clustering.pseudo_window import DOUBT, Labels
from train.clustering.settings import ClusterSettings

Mask = npt.NDArray[np.bool_]  # [h, w]
Soft = npt.NDArray[np.float32]  # [H, W]

COMPACT = 0.6  # share of a mask that its main components hold, at least
MAIN = 3  # a component is a main one unless the largest is more than so many times as large
SURE = 0.65  # likelier than this, or less likely than its complement, is not doubtful

# F frames, M clusters, K key channels


def clean(soft_FMhw: Tensor, key_FKhw: Tensor, frames: Labels, settings: ClusterSettings) -> Labels:
    """Labels [F, H, W] at the frames' size: object-like clusters as 1.., the rest background, DOUBT along edges.

    `frames` are uint8 [F, H, W, 3]; the tensors are on the CPU.
    """
    soft, kept = soft_FMhw.numpy(), object_like(soft_FMhw, key_FKhw, settings)
    winners = soft.argmax(axis=1)
    height, width = frames.shape[1:3]
    labels = np.zeros((len(frames), height, width), np.uint8)
    for f, frame in enumerate(frames):
        guide = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
        for label, m in enumerate(kept, start=1):
            cells = (soft[f, m] * main_components(winners[f] == m)).astype(np.float32)
            sharp = guided_filter(guide, cv2.resize(cells, (width, height)), settings.sharpen_radius, 1e-3)
            labels[f][sharp > 0.5] = label
            labels[f][(sharp > 1 - SURE) & (sharp < SURE)] |= DOUBT
    return labels


def object_like(soft_FMhw: Tensor, key_FKhw: Tensor, settings: ClusterSettings) -> list[int]:
    """Numbers of the clusters that pass every rule."""
    clusters, winners = soft_FMhw.shape[1], soft_FMhw.numpy().argmax(axis=1)
    winner_Fhw = torch.from_numpy(winners)
    kept = [m for m in range(clusters) if all(has_shape_of_object(winner == m, settings) for winner in winners)]
    if settings.stability > 0 and kept:
        stability_M = stabilities(winner_Fhw, key_FKhw, clusters)
        kept = [m for m in kept if stability_M[m] >= settings.stability]
    if settings.contrast > 0 and kept:
        contrast_M = contrasts(winner_Fhw, key_FKhw, clusters)
        kept = [m for m in kept if contrast_M[m] >= settings.contrast]
    return kept


def has_shape_of_object(mask: Mask, settings: ClusterSettings) -> bool:
    """Area, share of the frame's border, and compactness are those of an object."""
    border = np.concatenate((mask[0], mask[-1], mask[:, 0], mask[:, -1]))
    in_range = settings.smallest_area <= mask.mean() <= settings.largest_area
    compact = main_components(mask).sum() >= COMPACT * mask.sum()
    return bool(in_range and border.mean() <= settings.border_share and compact)


def main_components(mask: Mask) -> Mask:
    """The largest connected part and those at least a third as large."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if count <= 1:
        return mask
    areas = stats[1:, cv2.CC_STAT_AREA]
    kept = np.flatnonzero(MAIN * areas >= areas.max()) + 1
    return np.isin(labels, kept)


def guided_filter(guide: Soft, mask: Soft, radius: int, epsilon: float) -> Soft:
    """Edge-preserving smoothing of `mask` along the edges of `guide`, both float32 [H, W] in 0..1."""
    size = (2 * radius + 1, 2 * radius + 1)

    def mean(image: Soft) -> Soft:
        return np.asarray(cv2.blur(image, size), np.float32)

    mean_guide, mean_mask = mean(guide), mean(mask)
    slope = (mean(guide * mask) - mean_guide * mean_mask) / (mean(guide * guide) - mean_guide**2 + epsilon)
    filtered: Soft = mean(slope) * guide + mean(mean_mask - slope * mean_guide)
    return filtered

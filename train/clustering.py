"""Space-time clustering: pseudo masks from nothing but the keys of a clip.

The tokens of a few frames of a clip are clustered together, in key space with a little position, by spherical k-means
(k-means++ seeds, restarts, empty clusters re-seeded): a cluster is one thing through the window. Clusters are then held
to what an object is like (not too large or small, not all along the border, compact, present in every frame), sharpened
to the picture's edges by a guided filter (He et al., 2013), and where the edge stays doubtful the label says so.

A doubtful pixel keeps the likelier label and carries the DOUBT bit: it belongs to the mask that goes into memory but
teaches nothing as a target. Leaving doubtful pixels out of both shrinks every given mask by the same rim that no target
forbids, and the decoder learns to grow masks by a pixel or two a frame.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from maskstream.model.frame_encoder import FrameEncoder
from train.clips import Clip

DOUBT = 128  # bit beside a label: likely this one, but not sure enough to be taught
IGNORE = 255  # nothing is known at all: outside the frame
GRID = 16  # pixels; sides the encoders of all strides take

# F frames, M clusters, K feature channels, N tokens of all frames together


@dataclass(frozen=True)
class ClusterSettings:
    """How windows are drawn, clustered and cleaned. Areas and border shares are fractions."""

    clusters: int = 8
    windows_per_clip: int = 3
    frames: int = 4
    frame_gap: int = 3
    short_side: int = 384  # pixels; the working size for the keys
    position_weight: float = 0.5
    temperature: float = 0.1
    iterations: int = 15
    restarts: int = 2
    smallest_area: float = 0.006
    largest_area: float = 0.4
    border_share: float = 0.35
    sharpen_radius: int = 6  # pixels at the clip's size


@dataclass(frozen=True)
class PseudoWindow:
    """A few frames of one clip and their pseudo masks: 0 is background, 1..M objects; with DOUBT where unsure."""

    clip: int
    frame_indices: tuple[int, ...]
    labels: npt.NDArray[np.uint8]  # [F, H, W]

    @property
    def object_ids(self) -> list[int]:
        """Labels that stand for an object in the first frame."""
        return [int(label) for label in np.unique(self.labels[0]) if 0 < label < DOUBT]


@torch.no_grad()
def cluster_clips(
    encoder: FrameEncoder, clips: Sequence[Clip], settings: ClusterSettings, rng: np.random.Generator
) -> list[PseudoWindow]:
    """Pseudo masks of windows all over the clips; windows without any object are left out."""
    windows = []
    for index, clip in enumerate(clips):
        for _ in range(settings.windows_per_clip):
            window = _cluster_window(encoder, index, clip, settings, rng)
            if window.object_ids:
                windows.append(window)
    return windows


def _cluster_window(
    encoder: FrameEncoder, clip_index: int, clip: Clip, settings: ClusterSettings, rng: np.random.Generator
) -> PseudoWindow:
    gap = max(1, min(settings.frame_gap, (len(clip.frames) - 1) // settings.frames))
    start = int(rng.integers(max(1, len(clip.frames) - gap * (settings.frames - 1))))
    indices = tuple(min(start + gap * i, len(clip.frames) - 1) for i in range(settings.frames))
    frames = np.stack([clip.frames[i] for i in indices])
    key_FKhw = _keys(encoder, frames, settings.short_side)
    soft_FMhw = soft_clusters(key_FKhw, settings, torch.Generator().manual_seed(int(rng.integers(2**31))))
    return PseudoWindow(clip_index, indices, clean(soft_FMhw.numpy(), frames, settings))


def _keys(encoder: FrameEncoder, frames: npt.NDArray[np.uint8], short_side: int) -> Tensor:
    scale = short_side / min(frames.shape[1:3])  # may enlarge: more tokens make sharper clusters
    height, width = (round(side * scale / GRID) * GRID for side in frames.shape[1:3])
    resized = np.stack([cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR) for frame in frames])
    return encoder.key(encoder.backbone(torch.from_numpy(resized))[-1])


def soft_clusters(key_FKhw: Tensor, settings: ClusterSettings, generator: torch.Generator) -> Tensor:
    """Soft assignment [F, M, h, w] of every token of the window to the clusters of its best restart."""
    frames, _, height, width = key_FKhw.shape
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    place_F2hw = torch.stack((y, x)).expand(frames, -1, -1, -1) * settings.position_weight
    point_NK = torch.cat((key_FKhw, place_F2hw), dim=1).permute(0, 2, 3, 1).flatten(0, 2)
    point_NK = torch.nn.functional.normalize(point_NK, dim=1)
    runs = [
        spherical_kmeans(point_NK, settings.clusters, settings.iterations, generator) for _ in range(settings.restarts)
    ]
    centre_MK = max(runs, key=lambda centre: float((point_NK @ centre.T).amax(dim=1).mean()))
    soft_NM = torch.softmax(point_NK @ centre_MK.T / settings.temperature, dim=1)
    return soft_NM.unflatten(0, (frames, height, width)).permute(0, 3, 1, 2)


def spherical_kmeans(point_NK: Tensor, clusters: int, iterations: int, generator: torch.Generator) -> Tensor:
    """Unit centres [M, K] of largest mean cosine to the points; an empty cluster takes the point that fits worst."""
    centre_MK = _seeds(point_NK, clusters, generator)
    for _ in range(iterations):
        best_N, label_N = (point_NK @ centre_MK.T).max(dim=1)
        total_MK = torch.zeros_like(centre_MK).index_add_(0, label_N, point_NK)
        empty = torch.bincount(label_N, minlength=clusters) == 0
        if empty.any():
            total_MK[empty] = point_NK[best_N.argsort()[: int(empty.sum())]]
        centre_MK = torch.nn.functional.normalize(total_MK, dim=1)
    return centre_MK


def _seeds(point_NK: Tensor, clusters: int, generator: torch.Generator) -> Tensor:
    """k-means++: the next seed is drawn in proportion to its squared distance from the nearest one."""
    chosen = [int(torch.randint(len(point_NK), (1,), generator=generator))]
    for _ in range(clusters - 1):
        distance_N = 2 - 2 * (point_NK @ point_NK[chosen].T).amax(dim=1)
        weight_N = distance_N.clamp_min(1e-9).square()
        chosen.append(int(torch.multinomial(weight_N, 1, generator=generator)))
    return point_NK[chosen]


def clean(
    soft_FMhw: npt.NDArray[np.float32], frames: npt.NDArray[np.uint8], settings: ClusterSettings
) -> npt.NDArray[np.uint8]:
    """Labels [F, H, W] at the frames' size: object-like clusters as 1.., the rest background, DOUBT along edges."""
    height, width = frames.shape[1:3]
    winner_Fhw = soft_FMhw.argmax(axis=1)
    kept = [m for m in range(soft_FMhw.shape[1]) if all(_is_object(winner == m, settings) for winner in winner_Fhw)]
    labels = np.zeros((len(frames), height, width), np.uint8)
    for f, frame in enumerate(frames):
        guide = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
        for label, m in enumerate(kept, start=1):
            cells = (soft_FMhw[f, m] * _main_components(winner_Fhw[f] == m)).astype(np.float32)
            sharp = guided_filter(guide, cv2.resize(cells, (width, height)), settings.sharpen_radius, 1e-3)
            labels[f][sharp > 0.5] = label
            labels[f][(sharp > 0.35) & (sharp < 0.65)] |= DOUBT
    return labels


def _is_object(mask: npt.NDArray[np.bool_], settings: ClusterSettings) -> bool:
    border = np.concatenate((mask[0], mask[-1], mask[:, 0], mask[:, -1]))
    in_range = settings.smallest_area <= mask.mean() <= settings.largest_area
    compact = _main_components(mask).sum() >= 0.6 * mask.sum()
    return bool(in_range and border.mean() <= settings.border_share and compact)


def _main_components(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The largest connected part and those at least a third as large."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if count <= 1:
        return mask
    areas = stats[1:, cv2.CC_STAT_AREA]
    kept = np.flatnonzero(areas >= areas.max() / 3) + 1
    return np.isin(labels, kept)


def guided_filter(
    guide: npt.NDArray[np.float32], mask: npt.NDArray[np.float32], radius: int, epsilon: float
) -> npt.NDArray[np.float32]:
    """Edge-preserving smoothing of `mask` along the edges of `guide`, both float32 [H, W] in 0..1."""
    size = (2 * radius + 1, 2 * radius + 1)

    def mean(image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return np.asarray(cv2.blur(image, size), np.float32)

    mean_guide, mean_mask = mean(guide), mean(mask)
    slope = (mean(guide * mask) - mean_guide * mean_mask) / (mean(guide * guide) - mean_guide**2 + epsilon)
    filtered: npt.NDArray[np.float32] = mean(slope) * guide + mean(mean_mask - slope * mean_guide)
    return filtered


def cluster_entropy(windows: Sequence[PseudoWindow]) -> float:
    """Mean entropy, in bits, of how a window's pixels share out over background and objects; near 0 means collapse."""
    entropies = []
    for window in windows:
        counts = np.bincount(window.labels[window.labels < DOUBT], minlength=2).astype(np.float64)
        share = counts[counts > 0] / counts.sum()
        entropies.append(float(-(share * np.log2(share)).sum()))
    return float(np.mean(entropies)) if entropies else 0.0

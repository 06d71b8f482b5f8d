"""Clusters of keys over space and time, in numpy: what `train.clustering` does with torch, for one frame or a few.

The same points (a key with a little of its place and moment), the same spherical k-means with k-means++ seeds, so that
what is found when a stream starts is what the model was taught with. The seed is fixed: one picture gives one answer.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from maskstream.networks import F32

POSITION_WEIGHT = 0.5  # of place beside the key, as in training

# F frames, M clusters, K key channels, N points


def points(key_FKhw: F32, time_weight: float = 0.0) -> F32:
    """Unit points [F * h * w, K + 2], or K + 3 with time: keys, place and moment from -1 to 1 by weight."""
    frames, _, height, width = key_FKhw.shape
    place_2hw = np.stack(np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij"))
    parts: list[npt.NDArray[Any]] = [key_FKhw, np.broadcast_to(POSITION_WEIGHT * place_2hw, (frames, *place_2hw.shape))]
    if time_weight:
        moment_F = np.linspace(-1, 1, frames) * time_weight
        parts.append(np.broadcast_to(moment_F[:, None, None, None], (frames, 1, height, width)))
    joined = np.concatenate(parts, axis=1).astype(np.float32).transpose(0, 2, 3, 1)
    return normalized(joined.reshape(frames * height * width, -1))


def spherical_kmeans(point_NK: F32, seed_MK: F32, iterations: int) -> F32:
    """Unit centres [M, K] of largest mean cosine from these seeds; an empty cluster takes the point that fits worst."""
    centre_MK = seed_MK
    for _ in range(iterations):
        cosine_NM = point_NK @ centre_MK.T
        best_N, label_N = cosine_NM.max(axis=1), cosine_NM.argmax(axis=1)
        member_NM = (label_N[:, None] == np.arange(len(centre_MK))).astype(np.float32)
        total_MK = member_NM.T @ point_NK
        empty_M = ~member_NM.any(axis=0)
        if empty_M.any():
            total_MK[empty_M] = point_NK[np.argsort(best_N, kind="stable")[: int(empty_M.sum())]]
        centre_MK = normalized(total_MK)
    return centre_MK


def seeds(point_NK: F32, clusters: int, rng: np.random.Generator) -> F32:
    """k-means++ seeds [M, K]: the next is drawn in proportion to its squared distance, squared, from the nearest."""
    chosen = [int(rng.integers(len(point_NK)))]
    nearest_N = point_NK @ point_NK[chosen[0]]
    for _ in range(clusters - 1):
        weight_N = np.square(np.maximum(2 - 2 * nearest_N, 1e-9), dtype=np.float64)
        chosen.append(int(rng.choice(len(point_NK), p=weight_N / weight_N.sum())))
        nearest_N = np.maximum(nearest_N, point_NK @ point_NK[chosen[-1]])
    return point_NK[chosen]


def cluster(key_FKhw: F32, clusters: int, iterations: int = 10, seed: int = 0) -> npt.NDArray[np.intp]:
    """The cluster 0..M-1 of every token [F, h, w]; at most as many clusters as tokens."""
    point_NK = points(key_FKhw)
    wanted = min(clusters, len(point_NK))
    centre_MK = spherical_kmeans(point_NK, seeds(point_NK, wanted, np.random.default_rng(seed)), iterations)
    frames, _, height, width = key_FKhw.shape
    return np.asarray((point_NK @ centre_MK.T).argmax(axis=1).reshape(frames, height, width))


def normalized(rows: F32) -> F32:
    """Rows of unit length; a row of nothing stays one."""
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12), np.float32)

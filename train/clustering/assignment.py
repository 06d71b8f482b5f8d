"""From keys to clusters: what a point is, and which method assigns points.

A point is the key of a token with a little of its place and time, so that a cluster is one thing in one part of the
picture and not everything of one look.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import normalize

from train.clustering.kmeans import soft_kmeans
from train.clustering.settings import ClusterSettings
from train.clustering.sinkhorn import soft_sinkhorn
from train.clustering.spectral import soft_spectral

Assign = Callable[[Tensor, ClusterSettings, torch.Generator], Tensor]  # unit points [N, K] -> [N, M], rows sum to 1

ASSIGN: dict[str, Assign] = {"kmeans": soft_kmeans, "sinkhorn": soft_sinkhorn, "spectral": soft_spectral}

# F frames, M clusters, K key channels, N tokens of all frames together


def soft_clusters(key_FKhw: Tensor, settings: ClusterSettings, generator: torch.Generator) -> Tensor:
    """Soft assignment [F, M, h, w] of every token of the window to the clusters, on the device of the keys.

    `generator` is one of the CPU. Raises ValueError for more clusters than tokens.
    """
    frames, _, height, width = key_FKhw.shape
    if settings.clusters > frames * height * width:
        raise ValueError(
            f"clustering.clusters={settings.clusters}, but a window has {frames * height * width} tokens; take fewer "
            "clusters, or more tokens by clustering.short_side"
        )
    soft_NM = ASSIGN[settings.method](points(key_FKhw, settings), settings, generator)
    return soft_NM.unflatten(0, (frames, height, width)).permute(0, 3, 1, 2)


def points(key_FKhw: Tensor, settings: ClusterSettings) -> Tensor:
    """Unit points [N, K + 2], or K + 3 with time: keys, place and time within the window from -1 to 1 by weight."""
    frames, _, height, width = key_FKhw.shape
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    place_F2hw = torch.stack((y, x)).expand(frames, -1, -1, -1) * settings.position_weight
    parts = [key_FKhw, place_F2hw.to(key_FKhw)]
    if settings.time_weight:
        moment_F = torch.linspace(-1, 1, frames) * settings.time_weight
        parts.append(moment_F.to(key_FKhw).view(-1, 1, 1, 1).expand(-1, 1, height, width))
    return normalize(torch.cat(parts, dim=1).permute(0, 2, 3, 1).flatten(0, 2), dim=1)

"""Spherical k-means: centres of largest mean cosine. What the paper does, with seeds, restarts and repair.

Random draws are made on the CPU whatever the points are on, so that a seed means the same draws everywhere.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from train.clustering.settings import ClusterSettings

# M clusters, K channels of a point, N points


def soft_kmeans(point_NK: Tensor, settings: ClusterSettings, generator: torch.Generator) -> Tensor:
    """Soft assignment [N, M] of unit points to the centres of the best restart."""
    centre_MK = best_kmeans(point_NK, settings, generator)
    return torch.softmax(point_NK @ centre_MK.T / settings.temperature, dim=1)


def best_kmeans(point_NK: Tensor, settings: ClusterSettings, generator: torch.Generator) -> Tensor:
    """Unit centres [M, K] of the restart whose points lie nearest to their centres."""
    runs = [
        spherical_kmeans(point_NK, settings.clusters, settings.iterations, generator) for _ in range(settings.restarts)
    ]
    return max(runs, key=lambda centre: float((point_NK @ centre.T).amax(dim=1).mean()))


def spherical_kmeans(point_NK: Tensor, clusters: int, iterations: int, generator: torch.Generator) -> Tensor:
    """Unit centres [M, K] of largest mean cosine to the points; an empty cluster takes the point that fits worst."""
    centre_MK = seeds(point_NK, clusters, generator)
    for _ in range(iterations):
        best_N, label_N = (point_NK @ centre_MK.T).max(dim=1)
        total_MK = torch.zeros_like(centre_MK).index_add_(0, label_N, point_NK)
        empty = torch.bincount(label_N, minlength=clusters) == 0
        if empty.any():
            total_MK[empty] = point_NK[best_N.argsort()[: int(empty.sum())]]
        centre_MK = normalize(total_MK, dim=1)
    return centre_MK


def seeds(point_NK: Tensor, clusters: int, generator: torch.Generator) -> Tensor:
    """k-means++ seeds [M, K]: the next is drawn in proportion to its squared distance, squared, from the nearest."""
    chosen = [int(torch.randint(len(point_NK), (1,), generator=generator))]
    for _ in range(clusters - 1):
        distance_N = 2 - 2 * (point_NK @ point_NK[chosen].T).amax(dim=1)
        weight_N = distance_N.clamp_min(1e-9).square()
        chosen.append(int(torch.multinomial(weight_N.cpu(), 1, generator=generator)))
    return point_NK[chosen]

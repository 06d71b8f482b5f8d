"""Spectral cut: clusters that are hard to leave by short steps, whatever their shape; k-means wants them round.

The graph has thousands of tokens, so it is the landmark form of the normalised cut (Chen and Cai, 2011): tokens are
joined to their few nearest of some hundred landmarks only, and the eigenvectors of that bipartite graph come from a
matrix of landmarks by landmarks. Points carry place and time beside the key, so that two far things of one look are
far in the graph too.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from train.clustering.kmeans import best_kmeans
from train.clustering.settings import ClusterSettings

LANDMARK_ROUNDS = 4  # of k-means; landmarks need to be spread well, not to be optimal
SHARPNESS = 20.0  # an edge weighs exp(20 cosine)

# L landmarks, M clusters and as many eigenvectors, K channels of a point, N points, R neighbours


def soft_spectral(point_NK: Tensor, settings: ClusterSettings, generator: torch.Generator) -> Tensor:
    """Soft assignment [N, M]: k-means on the unit rows of the eigenvectors, as Ng, Jordan and Weiss (2001) do."""
    landmark_LK = landmarks(point_NK, settings.landmarks, generator)
    edge_NL = edges(point_NK, landmark_LK, settings.neighbours)
    row_NM = normalize(eigenvectors(edge_NL, settings.clusters), dim=1)
    centre_MM = best_kmeans(row_NM, settings, generator)
    return torch.softmax(row_NM @ centre_MM.T / settings.temperature, dim=1)


def landmarks(point_NK: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Unit landmarks [L, K], `count` or as many as there are points: random ones, each moved to
    the middle of the points that are nearest to it.
    """
    chosen_L = torch.randperm(len(point_NK), generator=generator)[:count]
    landmark_LK = point_NK[chosen_L.to(point_NK.device)]
    for _ in range(LANDMARK_ROUNDS):
        nearest_N = (point_NK @ landmark_LK.T).argmax(dim=1)
        total_LK = torch.zeros_like(landmark_LK).index_add_(0, nearest_N, point_NK)
        empty_L = torch.bincount(nearest_N, minlength=len(landmark_LK)) == 0
        landmark_LK = normalize(torch.where(empty_L[:, None], landmark_LK, total_LK), dim=1)
    return landmark_LK


def edges(point_NK: Tensor, landmark_LK: Tensor, neighbours: int) -> Tensor:
    """Weights [N, L], each row summing to 1 over the nearest landmarks of its point and 0 elsewhere."""
    cosine_NL = point_NK @ landmark_LK.T
    near_NR, index_NR = cosine_NL.topk(min(neighbours, len(landmark_LK)), dim=1)
    return torch.zeros_like(cosine_NL).scatter_(1, index_NR, torch.softmax(SHARPNESS * near_NR, dim=1))


def eigenvectors(edge_NL: Tensor, count: int) -> Tensor:
    """Smallest generalised eigenvectors [N, M] of the normalised cut, that of 0 first; at most L of them.

    They are the left singular vectors of edges / sqrt(degree of the landmark) with the largest singular values. In
    float64: their squares are what is computed.
    """
    degree_L = edge_NL.sum(dim=0).clamp_min(1e-6)
    half_NL = (edge_NL * degree_L.rsqrt()).double()
    square_L, right_LL = torch.linalg.eigh(half_NL.T @ half_NL)
    count = min(count, len(square_L))
    largest_M, right_LM = square_L[-count:].flip(0), right_LL[:, -count:].flip(1)
    return (half_NL @ right_LM / largest_M.clamp_min(1e-9).sqrt()).to(edge_NL.dtype)

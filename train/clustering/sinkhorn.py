"""Balanced assignment: entropic optimal transport between points and centres, whose sizes are only leaned on.

Plain k-means gives a homogeneous ground as many centres as it gives things. Equal sizes would be as wrong: things are
smaller than grounds. So each point gives all its mass, while the size a centre takes is held to an equal share by a KL
penalty only (unbalanced transport: Chizat et al., arXiv 1607.05816): a scaling step raised to the power `balance`. All
of it is in logarithms, so that no temperature overflows.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from train.clustering.kmeans import seeds
from train.clustering.settings import ClusterSettings

TEMPERATURE = 0.02  # of the plan; sharper than what is answered, or centres blur into each other
SCALINGS = 5  # a round; the prices are carried on to the next

# M clusters, K channels of a point, N points


def soft_sinkhorn(point_NK: Tensor, settings: ClusterSettings, generator: torch.Generator) -> Tensor:
    """Soft assignment [N, M] of unit points, by the restart whose plan has the largest mean cosine."""
    runs = [_centres(point_NK, settings, generator) for _ in range(settings.restarts)]
    _, centre_MK, price_M = max(runs, key=lambda run: run[0])
    return torch.softmax((point_NK @ centre_MK.T + TEMPERATURE * price_M) / settings.temperature, dim=1)


def _centres(point_NK: Tensor, settings: ClusterSettings, generator: torch.Generator) -> tuple[float, Tensor, Tensor]:
    """Mean cosine of the plan, unit centres [M, K] and log prices [M]: plan and centres in turn."""
    centre_MK = seeds(point_NK, settings.clusters, generator)
    price_M, fit = point_NK.new_zeros(settings.clusters), 0.0
    for _ in range(settings.iterations):
        cosine_NM = point_NK @ centre_MK.T
        price_M = prices(cosine_NM / TEMPERATURE, settings.balance, SCALINGS, price_M)
        plan_NM = torch.softmax(cosine_NM / TEMPERATURE + price_M, dim=1)
        fit = float((plan_NM * cosine_NM).sum(dim=1).mean())
        centre_MK = normalize(plan_NM.T @ point_NK, dim=1)
    return fit, centre_MK, price_M


def prices(logit_NM: Tensor, balance: float, scalings: int, price_M: Tensor) -> Tensor:
    """Log prices [M], so that softmax(logit + price) over M is the plan; `price_M` is where to start.

    With `balance` 0 they are 0 and sizes are free; with 1 every centre takes N / M of the mass once they converge.
    """
    points, clusters = logit_NM.shape
    for _ in range(scalings):
        given_N1 = -math.log(points) - torch.logsumexp(logit_NM + price_M, dim=1, keepdim=True)
        price_M = balance * (-math.log(clusters) - torch.logsumexp(logit_NM + given_N1, dim=0))
    return price_M

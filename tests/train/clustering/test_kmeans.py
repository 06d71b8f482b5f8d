"""Spherical k-means finds what is there and leaves no centre without points."""

import torch
from torch.nn.functional import normalize

from train.clustering.kmeans import best_kmeans, seeds, soft_kmeans, spherical_kmeans
from train.clustering.settings import ClusterSettings


def three_directions(count: int = 300) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    truth = torch.randint(0, 3, (count,), generator=generator)
    return normalize(torch.eye(3)[truth] + 0.05 * torch.randn(count, 3, generator=generator), dim=1), truth


def test_three_separate_directions_are_found() -> None:
    points, truth = three_directions()
    found = (points @ spherical_kmeans(points, 3, 10, torch.Generator().manual_seed(0)).T).argmax(dim=1)
    pairs = {(int(a), int(b)) for a, b in zip(truth, found, strict=True)}
    assert len(pairs) == 3, "each direction is one cluster and each cluster one direction"


def test_no_cluster_stays_empty() -> None:
    """Nearly all points coincide: without repair k-means would leave centres with nothing."""
    points = normalize(torch.tensor([[1.0, 0.0]] * 97 + [[0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]]), dim=1)
    centres = spherical_kmeans(points, 4, 10, torch.Generator().manual_seed(1))
    assert (points @ centres.T).argmax(dim=1).unique().numel() == 4


def test_a_restart_never_makes_it_worse() -> None:
    points, _ = three_directions(60)

    def fit(restarts: int) -> float:
        settings = ClusterSettings(clusters=3, iterations=1, restarts=restarts)
        centres = best_kmeans(points, settings, torch.Generator().manual_seed(5))
        return float((points @ centres.T).amax(dim=1).mean())

    assert fit(8) >= fit(2) >= fit(1)


def test_seeds_are_points_and_lie_apart() -> None:
    points = torch.eye(4).repeat(25, 1)
    found = seeds(points, 4, torch.Generator().manual_seed(0))
    assert torch.equal(found.sum(dim=0), torch.ones(4)), "a direction that has a seed gets no second one"


def test_assignment_is_a_softmax_of_cosines() -> None:
    points = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    soft = soft_kmeans(points, ClusterSettings(clusters=2, temperature=0.5), torch.Generator().manual_seed(0))
    own = 1 / (1 + torch.exp(torch.tensor(-2.0)))  # cosines 1 and 0 over 0.5
    assert torch.allclose(soft.amax(dim=1), own.expand(2))
    assert torch.allclose(soft.sum(dim=1), torch.ones(2))

"""The spectral cut follows shapes that k-means cuts through, and its eigenvectors are those of the cut."""

import torch
from torch.nn.functional import normalize

from train.clustering.kmeans import soft_kmeans
from train.clustering.settings import ClusterSettings
from train.clustering.spectral import edges, eigenvectors, landmarks, soft_spectral


def two_long_arcs(count: int = 200) -> tuple[torch.Tensor, torch.Tensor]:
    """Points on two circles of latitude, 20 degrees north and south, three quarters of the way round."""
    truth = torch.arange(2 * count) % 2
    longitude = torch.linspace(0, 1.5 * torch.pi, 2 * count)
    latitude = torch.where(truth == 0, 0.35, -0.35)
    level = latitude.cos()
    return torch.stack((level * longitude.cos(), level * longitude.sin(), latitude.sin()), dim=1), truth


def agreement(soft: torch.Tensor, truth: torch.Tensor) -> float:
    same = float((soft.argmax(dim=1) == truth).float().mean())
    return max(same, 1 - same)


def test_two_long_arcs_are_two_things_where_k_means_cuts_both_in_half() -> None:
    points, truth = two_long_arcs()
    settings = ClusterSettings(method="spectral", clusters=2, landmarks=60, neighbours=4)
    assert agreement(soft_spectral(points, settings, torch.Generator().manual_seed(0)), truth) > 0.98
    assert agreement(soft_kmeans(points, settings, torch.Generator().manual_seed(0)), truth) < 0.8


def test_eigenvectors_of_two_separate_parts_are_constant_on_each() -> None:
    """Three points share one landmark, two the other; both parts have eigenvalue 0, and orthonormal eigenvectors."""
    edge = torch.tensor([[1.0, 0.0]] * 3 + [[0.0, 1.0]] * 2)
    vectors = eigenvectors(edge, 2)
    assert torch.allclose(vectors.T @ vectors, torch.eye(2), atol=1e-6)
    assert torch.allclose(vectors[:3], vectors[0].expand(3, 2), atol=1e-6)
    assert torch.allclose(vectors[3:], vectors[3].expand(2, 2), atol=1e-6)
    assert abs(float(normalize(vectors, dim=1)[0] @ normalize(vectors, dim=1)[3])) < 1e-5


def test_eigenvectors_minimise_the_normalised_cut() -> None:
    """Against the dense problem: of W = E D^-1 E^T, whose rows sum to 1, the second largest eigenvalue."""
    edge = normalize(torch.rand(12, 5, generator=torch.Generator().manual_seed(0)), p=1, dim=1)
    affinity = (edge / edge.sum(dim=0)) @ edge.T
    assert torch.allclose(affinity.sum(dim=1), torch.ones(12), atol=1e-5)
    values, dense = torch.linalg.eigh(affinity)
    found = eigenvectors(edge, 2)[:, 1]
    assert torch.allclose(affinity @ found, values[-2] * found, atol=1e-5)
    assert abs(float(found @ dense[:, -2])) > 0.999


def test_a_point_is_joined_to_its_nearest_landmarks_only() -> None:
    marks = normalize(torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]), dim=1)
    weight = edges(marks, marks, 2)
    assert torch.equal(weight > 0, torch.tensor([[True, True, False], [True, True, False], [False, True, True]]))
    assert torch.allclose(weight.sum(dim=1), torch.ones(3))


def test_there_are_no_more_landmarks_than_points_and_all_are_unit() -> None:
    points, _ = two_long_arcs(10)
    marks = landmarks(points, 300, torch.Generator().manual_seed(0))
    assert len(marks) == 20
    assert torch.allclose(marks.norm(dim=1), torch.ones(20))
    settings = ClusterSettings(method="spectral", clusters=3)
    assert soft_spectral(points, settings, torch.Generator().manual_seed(0)).shape == (20, 3)


def test_points_that_all_coincide_are_no_error() -> None:
    points = torch.tensor([[1.0, 0.0]]).expand(40, 2).contiguous()
    soft = soft_spectral(points, ClusterSettings(method="spectral", clusters=4), torch.Generator().manual_seed(0))
    assert torch.isfinite(soft).all()

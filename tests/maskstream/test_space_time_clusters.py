"""The clusters of numpy are those that training finds with torch, step by step."""

import numpy as np
import pytest

from maskstream import space_time_clusters as clusters

torch = pytest.importorskip("torch")


def keys(frames: int = 2) -> np.ndarray:
    key = np.random.default_rng(3).normal(size=(frames, 8, 5, 7)).astype(np.float32)
    return key / np.linalg.norm(key, axis=1, keepdims=True)


@pytest.mark.parametrize("time_weight", [0.0, 0.4])
def test_points_are_those_of_training(time_weight):
    from train.clustering.assignment import points
    from train.clustering.settings import ClusterSettings

    settings = ClusterSettings(position_weight=clusters.POSITION_WEIGHT, time_weight=time_weight)
    expected = points(torch.from_numpy(keys()), settings).numpy()
    np.testing.assert_allclose(clusters.points(keys(), time_weight), expected, atol=1e-6)


def test_kmeans_from_the_same_seeds_ends_at_the_same_centres(monkeypatch):
    from train.clustering import kmeans

    point_NK = clusters.points(keys())
    seed_MK = clusters.seeds(point_NK, 5, np.random.default_rng(0))
    monkeypatch.setattr(kmeans, "seeds", lambda *words: torch.from_numpy(seed_MK))
    expected = kmeans.spherical_kmeans(torch.from_numpy(point_NK), 5, 6, torch.Generator())
    np.testing.assert_allclose(clusters.spherical_kmeans(point_NK, seed_MK, 6), expected.numpy(), atol=1e-5)


def test_an_empty_cluster_takes_the_point_that_fits_worst():
    point_NK = np.eye(3, dtype=np.float32)[[0, 0, 0, 1]]
    seed_MK = np.eye(3, dtype=np.float32)[[0, 2]]
    centre_MK = clusters.spherical_kmeans(point_NK, seed_MK, 2)
    np.testing.assert_allclose(centre_MK, np.eye(3)[[0, 1]], atol=1e-6)


def test_no_cluster_holds_two_looks_and_the_seed_decides():
    key = np.zeros((1, 3, 6, 8), np.float32)
    key[:, 0], key[:, 0, 2:4, 2:5], key[:, 1, 2:4, 2:5] = 1, 0, 1
    labels = clusters.cluster(key, 4)
    inside = key[0, 1] > 0
    assert not set(labels[0][inside].tolist()) & set(labels[0][~inside].tolist())
    np.testing.assert_array_equal(labels, clusters.cluster(key, 4))


def test_no_more_clusters_than_tokens():
    assert clusters.cluster(keys(1)[:, :, :1, :2], 9).max() <= 1

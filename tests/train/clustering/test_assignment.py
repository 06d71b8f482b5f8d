"""Whatever the method, a thing is one cluster through space and time."""

import pytest
import torch

from train.clustering.assignment import ASSIGN, points, soft_clusters
from train.clustering.settings import METHODS, ClusterSettings


def moving_thing() -> torch.Tensor:
    """Keys [3, 4, 8, 10]: one look on another, two tokens further each frame."""
    key = torch.zeros(3, 4, 8, 10)
    key[:, 0] = 1
    for frame in range(3):
        key[frame, :, 2:5, 2 * frame : 2 * frame + 3] = torch.tensor([0.0, 1, 0, 0])[:, None, None]
    return key


@pytest.mark.parametrize("method", METHODS)
def test_a_thing_is_one_cluster_through_the_frames(method: str) -> None:
    settings = ClusterSettings(method=method, clusters=2, position_weight=0.1)
    label = soft_clusters(moving_thing(), settings, torch.Generator().manual_seed(0)).argmax(dim=1)
    things = {int(label[f, 3, 2 * f + 1]) for f in range(3)}
    assert len(things) == 1
    assert things != {int(label[f, 7, 9]) for f in range(3)}


@pytest.mark.parametrize("method", METHODS)
def test_a_seed_repeats_itself_and_each_token_is_shared_out_whole(method: str) -> None:
    settings = ClusterSettings(method=method, clusters=3)
    first, again = (soft_clusters(moving_thing(), settings, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(first, again)
    assert first.shape == (3, 3, 8, 10)
    assert torch.allclose(first.sum(dim=1), torch.ones(3, 8, 10))


def test_each_method_has_its_function_and_an_unknown_one_is_refused() -> None:
    assert tuple(ASSIGN) == METHODS
    with pytest.raises(ValueError, match=r"'agglomerative'; there are: kmeans, sinkhorn, spectral"):
        ClusterSettings(method="agglomerative")


@pytest.mark.parametrize(("name", "value"), [("clusters", 0), ("clusters", 128), ("balance", 1.5)])
def test_settings_that_cannot_work_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"clustering.{name}={value}"):
        ClusterSettings(**{name: value})  # type: ignore[arg-type]


def test_more_clusters_than_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match=r"clusters=30, but a window has 24 tokens"):
        soft_clusters(torch.ones(1, 2, 4, 6), ClusterSettings(clusters=30), torch.Generator())


def test_a_point_is_key_place_and_moment_by_weight() -> None:
    key = torch.zeros(2, 1, 3, 3)
    key[:, 0] = 1
    point = points(key, ClusterSettings(position_weight=0.5, time_weight=2.0)).view(2, 3, 3, 4)
    assert torch.allclose(point[0, 1, 1], torch.tensor([1.0, 0, 0, -2]) / 5**0.5)
    assert torch.allclose(point[1, 0, 2], torch.tensor([1.0, -0.5, 0.5, 2]) / 5.5**0.5)
    assert points(key, ClusterSettings(time_weight=0)).shape == (18, 3)


def test_time_weight_parts_what_is_there_early_from_what_is_there_late() -> None:
    """Equal keys: with a heavy time weight the window is cut in time, with a heavy place weight in space."""
    key = torch.zeros(4, 1, 4, 4)
    key[:, 0] = 1
    settings = ClusterSettings(clusters=2, position_weight=0.1, time_weight=3, restarts=4)
    label = soft_clusters(key, settings, torch.Generator().manual_seed(0)).argmax(dim=1)
    assert (label.flatten(1) == label[:, :1, 0]).all()
    assert label[0, 0, 0] != label[3, 0, 0]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("method", METHODS)
def test_a_gpu_finds_the_same_clusters(method: str) -> None:
    settings = ClusterSettings(method=method, clusters=2, position_weight=0.1)
    there = soft_clusters(moving_thing().cuda(), settings, torch.Generator().manual_seed(0))
    assert there.is_cuda
    here = soft_clusters(moving_thing(), settings, torch.Generator().manual_seed(0))
    assert torch.equal(there.argmax(dim=1).cpu(), here.argmax(dim=1))

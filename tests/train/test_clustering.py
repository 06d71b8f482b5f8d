"""Clustering finds what is there, and cleaning keeps what looks like an object."""

import cv2
import numpy as np
import torch

from train.clustering import (
    DOUBT,
    ClusterSettings,
    PseudoWindow,
    clean,
    cluster_entropy,
    guided_filter,
    soft_clusters,
    spherical_kmeans,
)

SETTINGS = ClusterSettings(clusters=3, iterations=10)


def test_k_means_finds_three_separate_directions() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.randint(0, 3, (300,), generator=generator)
    points = torch.eye(3)[truth] + 0.05 * torch.randn(300, 3, generator=generator)
    points = torch.nn.functional.normalize(points, dim=1)
    found = (points @ spherical_kmeans(points, 3, 10, generator).T).argmax(dim=1)
    pairs = {(int(a), int(b)) for a, b in zip(truth, found, strict=True)}
    assert len(pairs) == 3, "each direction is one cluster and each cluster one direction"


def test_no_cluster_stays_empty() -> None:
    """Nearly all points coincide: without repair k-means would leave centres with nothing."""
    points = torch.nn.functional.normalize(
        torch.tensor([[1.0, 0.0]] * 97 + [[0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]]), dim=1
    )
    centres = spherical_kmeans(points, 4, 10, torch.Generator().manual_seed(1))
    assert (points @ centres.T).argmax(dim=1).unique().numel() == 4


def test_a_thing_is_one_cluster_through_the_frames() -> None:
    """The same key moves two tokens a frame; it keeps its cluster, so ids agree across time."""
    key = torch.zeros(3, 4, 8, 10)
    key[:, 0] = 1
    for frame in range(3):
        key[frame, :, 2:5, 2 * frame : 2 * frame + 3] = torch.tensor([0.0, 1, 0, 0])[:, None, None]
    settings = ClusterSettings(clusters=2, position_weight=0.1)
    label = soft_clusters(key, settings, torch.Generator().manual_seed(0)).argmax(dim=1)
    things = {int(label[f, 3, 2 * f + 1]) for f in range(3)}
    ground = {int(label[f, 7, 9]) for f in range(3)}
    assert len(things) == 1
    assert things != ground


def frames_with_a_square(side: int = 64) -> tuple[np.ndarray, np.ndarray]:
    frame = np.full((side, side, 3), 40, np.uint8)
    frame[18:46, 18:46] = 200
    return np.stack([frame, frame]), np.zeros((2, 2, 8, 8), np.float32)


def test_cleaning_keeps_the_object_and_sharpens_it_to_the_picture() -> None:
    frames, soft = frames_with_a_square()
    soft[:, 0] = 1
    soft[:, :, 2:6, 2:6] = np.array([0.0, 1.0])[None, :, None, None]
    labels = clean(soft, frames, ClusterSettings(smallest_area=0.01, border_share=0.3))
    inside = labels[0] == 1
    assert inside[24:40, 24:40].all()
    assert not inside[:12].any()
    assert (labels[0] >= DOUBT).any(), "where the edge is unsure nothing is taught"


def test_doubtful_pixels_lie_on_both_sides_of_the_edge() -> None:
    """Left out of the object alone, they made every mask in memory too small and the decoder grew masks."""
    frames, soft = frames_with_a_square()
    soft[:, 0] = 1
    soft[:, :, 2:6, 2:6] = np.array([0.0, 1.0])[None, :, None, None]
    blurred = np.stack([cv2.GaussianBlur(frame, (0, 0), 4) for frame in frames])
    labels = clean(soft, blurred, ClusterSettings(smallest_area=0.01, border_share=0.3))[0]
    inside, outside = (labels == DOUBT | 1).sum(), (labels == DOUBT).sum()
    assert inside > 0.3 * outside > 0


def test_cleaning_drops_what_hugs_the_border_and_what_vanishes() -> None:
    frames, soft = frames_with_a_square()
    soft[:, 0] = 1
    soft[:, :, :, :2] = np.array([0.0, 1.0])[None, :, None, None]
    assert set(np.unique(clean(soft, frames, ClusterSettings(border_share=0.2)))) == {0}
    soft[:] = 0
    soft[:, 0] = 1
    soft[0, :, 2:6, 2:6] = np.array([0.0, 1.0])[:, None, None]  # in the first frame only
    assert set(np.unique(clean(soft, frames, SETTINGS))) == {0}


def test_guided_filter_follows_the_edge_of_the_guide() -> None:
    guide = np.zeros((40, 40), np.float32)
    guide[:, 20:] = 1
    rough = np.zeros((40, 40), np.float32)
    rough[:, 23:] = 1  # three pixels beside the edge
    sharp = guided_filter(guide, rough, radius=6, epsilon=1e-4)
    assert sharp[20, 21] > 0.5 > sharp[20, 18]


def test_entropy_is_zero_when_clusters_collapse_and_one_bit_for_two_halves() -> None:
    labels = np.zeros((1, 4, 4), np.uint8)
    assert cluster_entropy([PseudoWindow(0, (0,), labels)]) == 0
    halves = labels.copy()
    halves[:, :2] = 1
    assert abs(cluster_entropy([PseudoWindow(0, (0,), halves)]) - 1) < 1e-9

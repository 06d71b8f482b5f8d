"""Cleaning keeps what looks like an object; each rule is tested against masks counted by hand."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from train.clustering.cleaning import clean, guided_filter, has_shape_of_object, main_components, object_like
from train.clustering.pseudo_window import DOUBT
from train.clustering.settings import ClusterSettings

ALL_OFF = ClusterSettings(smallest_area=0.0, largest_area=1.0, border_share=1.0)
SMALL_PICTURE = ClusterSettings(smallest_area=0.01, border_share=0.3)


def mask(*boxes: tuple[slice, slice]) -> np.ndarray:
    made = np.zeros((10, 10), bool)
    for box in boxes:
        made[box] = True
    return made


MIDDLE = mask((slice(3, 6), slice(3, 7)))  # 12 tokens of 100
CORNER = mask((slice(0, 5), slice(0, 5)))  # 10 of 40 tokens along the border, its corner counted twice
TORN = mask(*((slice(y, y + 2), slice(x, x + 2)) for y in (0, 4, 8) for x in (0, 4, 8)))  # nine parts of one size
CRUMBS = mask((slice(0, 3), slice(0, 4)), *((slice(y, y + 2), slice(x, x + 1)) for y in (4, 7) for x in (1, 3, 5, 7)))


def test_area_is_held_between_two_bounds() -> None:
    assert has_shape_of_object(MIDDLE, ALL_OFF)
    assert has_shape_of_object(MIDDLE, replace(ALL_OFF, smallest_area=0.12, largest_area=0.12))
    assert not has_shape_of_object(MIDDLE, replace(ALL_OFF, smallest_area=0.13))
    assert not has_shape_of_object(MIDDLE, replace(ALL_OFF, largest_area=0.11))


def test_what_lies_along_the_border_is_no_object() -> None:
    assert has_shape_of_object(CORNER, replace(ALL_OFF, border_share=0.25))
    assert not has_shape_of_object(CORNER, replace(ALL_OFF, border_share=0.24))
    assert has_shape_of_object(MIDDLE, replace(ALL_OFF, border_share=0.0))


def test_main_components_hold_most_of_an_object() -> None:
    """Of the crumbs the largest has 12 tokens, the others 2 each: 12 of 28 is less than 60 %."""
    assert main_components(CRUMBS).sum() == 12
    assert not has_shape_of_object(CRUMBS, ALL_OFF)
    assert main_components(TORN).sum() == TORN.sum() == 36, "parts of one size all count"
    assert has_shape_of_object(TORN, ALL_OFF)


def test_a_component_counts_from_a_third_of_the_largest_on() -> None:
    parts = mask((slice(0, 3), slice(0, 3)), (slice(5, 6), slice(0, 3)), (slice(8, 9), slice(0, 2)))  # 9, 3 and 2
    assert main_components(parts).sum() == 12
    assert not main_components(np.zeros((4, 4), bool)).any()


def window(*masks: np.ndarray) -> torch.Tensor:
    """Soft assignment [F, 2, 10, 10] of ground and a thing that is where the masks say."""
    thing = torch.from_numpy(np.stack(masks)).float()
    return torch.stack((1 - thing, thing), dim=1)


def resting_keys(frames: int) -> torch.Tensor:
    return torch.eye(100).view(1, 100, 10, 10).repeat(frames, 1, 1, 1)


def test_an_object_has_its_shape_in_every_frame() -> None:
    settings = replace(ALL_OFF, largest_area=0.5, smallest_area=0.01)
    assert object_like(window(MIDDLE, MIDDLE), resting_keys(2), settings) == [1]
    assert object_like(window(MIDDLE, np.zeros_like(MIDDLE)), resting_keys(2), settings) == []


def test_a_mask_that_the_keys_carry_elsewhere_is_dropped() -> None:
    """Moved by one of its four columns while the keys rest: 9 of 15 tokens agree."""
    settings = replace(ALL_OFF, largest_area=0.5)
    moved = np.roll(MIDDLE, 1, axis=1)
    assert object_like(window(MIDDLE, moved), resting_keys(2), replace(settings, stability=0.60)) == [1]
    assert object_like(window(MIDDLE, moved), resting_keys(2), replace(settings, stability=0.61)) == []
    assert object_like(window(MIDDLE, MIDDLE), resting_keys(2), replace(settings, stability=1.0)) == [1]


def test_a_mask_cut_out_of_a_ground_is_dropped() -> None:
    settings = replace(ALL_OFF, largest_area=0.5, contrast=2.0)
    key = torch.zeros(1, 2, 10, 10)
    key[:, 0] = 1
    assert object_like(window(MIDDLE), key, settings) == []
    key[:, 0, 3:6, 3:7], key[:, 1, 3:6, 3:7] = 0, 1
    assert object_like(window(MIDDLE), key, settings) == [1]


def frames_with_a_square(blur: float = 0.0) -> tuple[np.ndarray, torch.Tensor]:
    frame = np.full((64, 64, 3), 40, np.uint8)
    frame[18:46, 18:46] = 200
    if blur:
        frame = cv2.GaussianBlur(frame, (0, 0), blur)
    soft = torch.zeros(2, 2, 8, 8)
    soft[:, 0] = 1
    soft[:, :, 2:6, 2:6] = torch.tensor([0.0, 1.0])[:, None, None]
    return np.stack([frame, frame]), soft


def test_the_object_is_sharpened_to_the_picture() -> None:
    frames, soft = frames_with_a_square()
    labels = clean(soft, torch.ones(2, 1, 8, 8), frames, SMALL_PICTURE)
    inside = labels[0] == 1
    assert inside[24:40, 24:40].all()
    assert not inside[:12].any()
    assert (labels[0] >= DOUBT).any(), "where the edge is unsure nothing is taught"


def test_doubtful_pixels_lie_on_both_sides_of_the_edge() -> None:
    """Left out of the object alone, they made every mask in memory too small and the decoder grew masks."""
    frames, soft = frames_with_a_square(blur=4)
    labels = clean(soft, torch.ones(2, 1, 8, 8), frames, SMALL_PICTURE)[0]
    inside, outside = (labels == DOUBT | 1).sum(), (labels == DOUBT).sum()
    assert inside > 0.3 * outside > 0


def test_labels_are_numbered_without_gaps_and_dropped_clusters_are_background() -> None:
    frames, _ = frames_with_a_square()
    soft = torch.zeros(2, 4, 8, 8)
    soft[:, 0] = 0.5
    soft[:, 1, 7:] = 1.0  # along the border
    soft[:, 2, 1:3, 1:3] = 1.0
    soft[:, 3, 4:6, 4:7] = 1.0
    labels = clean(soft, torch.ones(2, 1, 8, 8), frames, replace(SMALL_PICTURE, border_share=0.2))
    assert set(np.unique(labels & (DOUBT - 1))) == {0, 1, 2}
    assert (labels[0, 12:20, 12:20] & (DOUBT - 1)).max() == 1
    assert (labels[0, 36:44, 40:50] & (DOUBT - 1)).max() == 2


def test_guided_filter_follows_the_edge_of_the_guide() -> None:
    guide = np.zeros((40, 40), np.float32)
    guide[:, 20:] = 1
    rough = np.zeros((40, 40), np.float32)
    rough[:, 23:] = 1  # three pixels beside the edge
    sharp = guided_filter(guide, rough, radius=6, epsilon=1e-4)
    assert sharp[20, 21] > 0.5 > sharp[20, 18]


def test_guided_filter_leaves_a_constant_alone() -> None:
    guide = np.random.default_rng(0).random((20, 20), np.float32)
    assert guided_filter(guide, np.full((20, 20), 0.25, np.float32), 3, 1e-3) == pytest.approx(0.25, abs=1e-5)

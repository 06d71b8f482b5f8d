"""Measures without labels: perfect, lost, drifting and stuck trackers get what can be worked out by hand."""

from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from fakes import FakeNetworks

from maskstream.consistency import (
    carry,
    consistency,
    cycle_consistency,
    flow_between,
    mean_of,
    temporal_stability,
)
from maskstream.masks import IdMap
from maskstream.networks import FrameFeatures, MemoryView, SoftMasks

HEIGHT, WIDTH, SIDE, STEP = 96, 128, 32, 4


class Copying(FakeNetworks):
    """Never moves a mask; works at the frames' own size, so that cells and pixels line up."""

    def __init__(self) -> None:
        super().__init__()
        self.spec = replace(self.spec, short_side=HEIGHT)


class Seeing(Copying):
    """Knows the object: it is what is bright."""

    def encode_frame(self, frame_BHW3: npt.NDArray[np.uint8]) -> FrameFeatures:
        bright_HW = frame_BHW3[0].mean(axis=2).reshape(HEIGHT // 4, 4, WIDTH // 4, 4).mean(axis=(1, 3)) > 128
        return super().encode_frame(frame_BHW3)._replace(skip4=bright_HW[None, None].astype(np.float32))

    def segment(self, features: FrameFeatures, memory: MemoryView) -> SoftMasks:
        soft = np.repeat(features.skip4, memory.value.shape[1], axis=1)
        return SoftMasks(soft, soft)


class Losing(Copying):
    """Answers nothing at all."""

    def segment(self, features: FrameFeatures, memory: MemoryView) -> SoftMasks:
        soft = np.zeros_like(super().segment(features, memory).decoded)
        return SoftMasks(soft, soft)


class Drifting(Copying):
    """Moves whatever it holds a cell to the right, whichever way time runs."""

    def encode_mask(self, features: FrameFeatures, soft_BOHW: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        self.held = soft_BOHW
        return super().encode_mask(features, soft_BOHW)

    def segment(self, features: FrameFeatures, memory: MemoryView) -> SoftMasks:
        soft = np.roll(self.held, 1, axis=3)
        return SoftMasks(soft, soft)


def square_at(x: int, y: int = 32) -> IdMap:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[y : y + SIDE, x : x + SIDE] = 1
    return mask


def film(places: list[int]) -> npt.NDArray[np.uint8]:
    """uint8 [T, H, W, 3]: a bright textured square over a dark textured ground, its left edge at each of `places`."""
    rng = np.random.default_rng(0)
    ground = cv2.resize(rng.integers(0, 90, (24, 32, 3), dtype=np.uint8), (WIDTH, HEIGHT))
    thing = cv2.resize(rng.integers(170, 256, (8, 8, 3), dtype=np.uint8), (SIDE, SIDE))
    frames = np.repeat(ground[None], len(places), axis=0)
    for frame, x in zip(frames, places, strict=True):
        frame[32 : 32 + SIDE, x : x + SIDE] = thing
    return frames


MOVING = [16 + STEP * t for t in range(8)]


def test_a_perfect_tracker_comes_home_and_goes_with_the_flow() -> None:
    found = consistency(Seeing(), film(MOVING), square_at(MOVING[0]))
    assert found.cycle[1] > 0.98, "but for a pixel at each corner"
    assert found.stability[1] > 0.9
    assert [np.argmax(answer.any(axis=0)) for answer in found.answers] == MOVING


def test_a_tracker_that_loses_the_object_gets_nothing() -> None:
    found = consistency(Losing(), film(MOVING), square_at(MOVING[0]))
    assert found.cycle == {1: 0.0}
    assert found.stability == {1: 0.0}


def test_a_drifting_tracker_is_in_between() -> None:
    still = film([32] * 4)
    found = consistency(Drifting(), still, square_at(32))
    # three frames there and three back move it by 24 pixels of 32: 8 columns in common, 56 in either
    assert found.cycle[1] == pytest.approx(8 / 56, abs=0.03)
    # the flow stands still, so each answer overlaps the last in 28 columns of 36
    assert found.stability[1] == pytest.approx(28 / 36, abs=0.04)


def test_a_mask_that_never_moves_has_a_perfect_cycle_and_little_stability() -> None:
    found = consistency(Copying(), film(MOVING), square_at(MOVING[0]))
    assert found.cycle[1] > 0.98
    assert found.stability[1] < 0.9 * consistency(Seeing(), film(MOVING), square_at(MOVING[0])).stability[1]


def test_an_object_lost_on_the_way_counts_0_and_leaves_the_others_alone() -> None:
    start = square_at(32) + 2 * square_at(80)
    answers = [start, start, square_at(32)]  # the second one is lost on the last of three frames
    still = film([32] * 3)
    assert temporal_stability(still, answers) == pytest.approx({1: 1.0, 2: 0.5})
    assert cycle_consistency(Copying(), still, answers) == pytest.approx({1: 1.0, 2: 0.0}, abs=0.01)


def test_flow_carries_a_mask_to_where_the_thing_went() -> None:
    before, after = film([32, 36])
    carried = carry(square_at(32), flow_between(after, before))
    assert np.mean(carried != square_at(36)) < 0.01
    shifted = np.zeros((HEIGHT, WIDTH, 2), np.float32)
    shifted[..., 0] = -WIDTH
    assert not carry(square_at(32), shifted).any(), "what comes from outside the frame is background"


@pytest.mark.parametrize(("places", "start"), [([16], square_at(16)), ([16, 20], np.zeros((HEIGHT, WIDTH), np.uint8))])
def test_one_frame_or_no_object_is_refused(places: list[int], start: IdMap) -> None:
    with pytest.raises(ValueError, match="expected two frames and one object"):
        consistency(Copying(), film(places), start)


def test_the_mean_is_over_objects() -> None:
    assert mean_of({1: 1.0, 4: 0.5}) == 0.75
    with pytest.raises(ValueError, match="no object"):
        mean_of({})

"""The tracker's promises, each a failure that users of other trackers met, over networks that need no learning."""

import mmap
from dataclasses import replace

import numpy as np
import pytest
from fakes import FakeNetworks

from maskstream.block_pool import BlockPool
from maskstream.errors import InvalidFrame, InvalidPrompt, MemoryExhausted, NoObjects, SizeChanged
from maskstream.networks import F32, FrameFeatures, MemoryView, SoftMasks
from maskstream.tracker import Prompt, Tracker, TrackerSettings

SIZE = (96, 128)


def frame_of(value: int = 90) -> np.ndarray:
    return np.full((*SIZE, 3), value, np.uint8)


def square(x: int, y: int, side: int = 32) -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    mask[y : y + side, x : x + side] = 1
    return mask


@pytest.fixture
def tracker() -> Tracker:
    return Tracker(FakeNetworks())


def test_a_prompted_object_is_followed_and_described(tracker: Tracker) -> None:
    first = tracker.step(frame_of(), [Prompt(5, square(16, 32))])
    np.testing.assert_array_equal(first.id_map == 5, square(16, 32) > 0)
    second = tracker.step(frame_of())
    state = second.objects[0]
    assert (state.object_id, state.lost) == (5, False)
    assert state.box is not None
    assert state.area == np.count_nonzero(second.id_map == 5)
    assert set(second.stage_seconds) == set(Tracker.STAGES)


def test_a_frame_before_any_object_says_what_to_do(tracker: Tracker) -> None:
    with pytest.raises(NoObjects, match="give a mask, a box or points"):
        tracker.step(frame_of())


@pytest.mark.parametrize("object_id", [0, 256, -1])
def test_object_ids_outside_1_to_255_are_refused(tracker: Tracker, object_id: int) -> None:
    with pytest.raises(InvalidPrompt, match=r"outside 1\.\.255"):
        tracker.step(frame_of(), [Prompt(object_id, square(0, 0))])


def test_ids_above_127_survive(tracker: Tracker) -> None:
    tracker.step(frame_of(), [Prompt(255, square(0, 0)), Prompt(128, square(64, 32))])
    assert set(np.unique(tracker.step(frame_of()).id_map)) == {0, 128, 255}


def test_a_mask_of_another_size_is_refused_and_the_stream_goes_on(tracker: Tracker) -> None:
    tracker.step(frame_of(), [Prompt(1, square(16, 16))])
    with pytest.raises(InvalidPrompt, match="the mask of object 2 is 10x20, the frame is 128x96"):
        tracker.step(frame_of(), [Prompt(2, np.ones((20, 10), np.uint8))])
    assert tracker.object_ids == (1,)
    assert tracker.step(frame_of()).objects[0].object_id == 1


def test_a_prompt_on_no_object_is_refused(tracker: Tracker) -> None:
    with pytest.raises(InvalidPrompt, match="empty"):
        tracker.step(frame_of(), [Prompt(1, np.zeros(SIZE, np.uint8))])


def test_a_frame_size_that_changes_mid_stream_fails_that_frame_only(tracker: Tracker) -> None:
    tracker.step(frame_of(), [Prompt(1, square(16, 16))])
    with pytest.raises(SizeChanged, match="this stream is 128x96, the frame is 64x64"):
        tracker.step(np.zeros((64, 64, 3), np.uint8))
    assert tracker.step(frame_of()).frame_index == 1


@pytest.mark.parametrize("shape", [(96, 128), (96, 128, 4), (0, 128, 3)])
def test_what_is_not_a_frame_is_refused(tracker: Tracker, shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidFrame, match=r"uint8 \[H, W, 3\] RGB"):
        tracker.step(np.zeros(shape, np.uint8), [Prompt(1, square(0, 0))])


def test_two_objects_starting_on_one_frame_are_both_followed(tracker: Tracker) -> None:
    tracker.step(frame_of(), [Prompt(3, square(0, 0)), Prompt(7, square(64, 32))])
    answer = tracker.step(frame_of())
    assert {state.object_id for state in answer.objects if not state.lost} == {3, 7}


def test_an_object_added_in_mid_stream_leaves_the_others_alone(tracker: Tracker) -> None:
    tracker.step(frame_of(), [Prompt(1, square(0, 0))])
    before = tracker.step(frame_of()).id_map == 1
    tracker.step(frame_of(), [Prompt(2, square(64, 32))])
    after = tracker.step(frame_of())
    np.testing.assert_array_equal(after.id_map == 1, before)
    assert (after.id_map == 2).any()


def test_a_new_prompt_of_a_known_object_corrects_it(tracker: Tracker) -> None:
    tracker.step(frame_of(), [Prompt(1, square(0, 0))])
    tracker.step(frame_of())
    corrected = tracker.step(frame_of(), [Prompt(1, square(80, 48))])
    np.testing.assert_array_equal(corrected.id_map == 1, square(80, 48) > 0)
    assert tracker.object_ids == (1,)
    assert (tracker.step(frame_of()).id_map[48:80, 80:112] == 1).mean() > 0.5


def test_a_prompt_takes_its_pixels_from_other_objects(tracker: Tracker) -> None:
    tracker.step(frame_of(), [Prompt(1, square(0, 0, 64))])
    answer = tracker.step(frame_of(), [Prompt(2, square(0, 0, 32))])
    assert (answer.id_map[:32, :32] == 2).all()
    assert (answer.id_map == 1).any()


def test_an_id_reused_after_removal_starts_afresh(tracker: Tracker) -> None:
    tracker.step(frame_of(), [Prompt(1, square(0, 0)), Prompt(2, square(64, 0))])
    tracker.step(frame_of())
    tracker.remove([1])
    assert set(np.unique(tracker.step(frame_of()).id_map)) == {0, 2}
    tracker.step(frame_of(), [Prompt(1, square(32, 64))])
    answer = tracker.step(frame_of())
    assert not (answer.id_map[:32, :32] == 1).any(), "nothing of the first life of id 1 comes back"


def test_removing_an_unknown_object_is_refused_and_removes_nothing(tracker: Tracker) -> None:
    tracker.step(frame_of(), [Prompt(1, square(0, 0))])
    with pytest.raises(InvalidPrompt, match="object 9 is not followed"):
        tracker.remove([1, 9])
    assert tracker.object_ids == (1,)


def test_state_does_not_leak_between_streams() -> None:
    networks = FakeNetworks()
    one, two = Tracker(networks), Tracker(networks)
    one.step(frame_of(), [Prompt(1, square(0, 0))])
    two.step(frame_of(), [Prompt(1, square(64, 32))])
    first, second = one.step(frame_of()).id_map, two.step(frame_of()).id_map
    assert not ((first == 1) & (second == 1)).any()


def test_reset_forgets_objects_memory_and_size(tracker: Tracker) -> None:
    tracker.step(frame_of(), [Prompt(1, square(0, 0))])
    tracker.reset()
    assert (tracker.object_ids, tracker.bank_bytes, tracker.frame_size) == ((), 0, None)
    tracker.step(np.zeros((64, 64, 3), np.uint8), [Prompt(1, np.ones((64, 64), np.uint8))])


class PoisonedNetworks(FakeNetworks):
    """Answers NaN for frames of one colour."""

    POISON = 13

    def encode_frame(self, frame_BHW3: np.ndarray) -> FrameFeatures:
        features = super().encode_frame(frame_BHW3)
        if (frame_BHW3 == self.POISON).all():
            return FrameFeatures(*(np.full_like(part, np.nan) for part in features))
        return features

    def segment(self, features: FrameFeatures, memory: MemoryView) -> SoftMasks:
        masks = super().segment(features, memory)
        return SoftMasks(*(np.full_like(m, np.nan) for m in masks)) if np.isnan(features.key).any() else masks


def test_nan_in_one_frame_does_not_poison_the_next() -> None:
    tracker = Tracker(PoisonedNetworks())
    tracker.step(frame_of(), [Prompt(1, square(16, 16))])
    before = tracker.step(frame_of())
    poisoned = tracker.step(frame_of(PoisonedNetworks.POISON))
    np.testing.assert_array_equal(poisoned.id_map, before.id_map)
    assert tracker.writes_skipped["not_finite"] == 1
    np.testing.assert_array_equal(tracker.step(frame_of()).id_map, before.id_map)


class FadingNetworks(FakeNetworks):
    """Sees nothing at all after the prompt."""

    def segment(self, features: FrameFeatures, memory: MemoryView) -> SoftMasks:
        empty: F32 = np.zeros_like(super().segment(features, memory).decoded)
        return SoftMasks(empty, empty)


def test_an_absent_object_is_reported_lost_and_not_written() -> None:
    tracker = Tracker(FadingNetworks())
    tracker.step(frame_of(), [Prompt(1, square(16, 16))])
    for _ in range(30):
        answer = tracker.step(frame_of())
    assert answer.objects[0].lost
    assert answer.memory_slots == 1, "only the prompt is in memory"
    assert tracker.writes_skipped["absent"] == 30


def test_too_many_objects_are_refused() -> None:
    tracker = Tracker(FakeNetworks(), TrackerSettings(max_objects=1))
    with pytest.raises(InvalidPrompt, match="this stream allows 1"):
        tracker.step(frame_of(), [Prompt(1, square(0, 0)), Prompt(2, square(64, 0))])


def test_memory_exhausted_adds_nothing_and_leaks_nothing() -> None:
    pool = BlockPool(mmap.PAGESIZE, mmap.PAGESIZE)
    pool.take((1,))
    tracker = Tracker(FakeNetworks(), pool=pool)
    with pytest.raises(MemoryExhausted):
        tracker.step(frame_of(), [Prompt(1, square(0, 0))])
    assert (tracker.object_ids, pool.used_blocks) == ((), 1)


def test_memory_exhausted_by_a_new_object_leaves_the_others_followed() -> None:
    pool = BlockPool(2**20)
    tracker = Tracker(FakeNetworks(), pool=pool)
    tracker.step(frame_of(), [Prompt(1, square(0, 0))])
    pool.take((pool.longest_free_bytes // 4,))
    with pytest.raises(MemoryExhausted):
        tracker.step(frame_of(), [Prompt(2, square(64, 0))])
    assert tracker.object_ids == (1,)
    assert (tracker.step(frame_of()).id_map == 1).any()


def test_memory_is_constant_over_a_long_stream_and_returned_at_close() -> None:
    pool = BlockPool(2**24, mmap.PAGESIZE)
    tracker = Tracker(FakeNetworks(), pool=pool)
    tracker.step(frame_of(), [Prompt(1, square(0, 0))])
    size, held = tracker.bank_bytes, pool.used_blocks
    for _ in range(300):
        tracker.step(frame_of())
        assert pool.used_blocks == held
    assert tracker.bank_bytes == size <= pool.used_bytes
    tracker.close()
    assert pool.used_bytes == 0


def test_a_failed_first_frame_does_not_fix_the_size(tracker: Tracker) -> None:
    with pytest.raises(NoObjects):
        tracker.step(frame_of())
    tracker.step(np.zeros((64, 64, 3), np.uint8), [Prompt(1, np.ones((64, 64), np.uint8))])


class EagerDecoder(FakeNetworks):
    """Its decoder claims the whole picture; the propagated mask stays as it is."""

    def segment(self, features: FrameFeatures, memory: MemoryView) -> SoftMasks:
        coarse = super().segment(features, memory).coarse
        return SoftMasks(np.full_like(coarse, 0.9), coarse)


def test_memory_keeps_the_propagated_mask_not_the_decoded_one() -> None:
    """A decoder that read its own answers compounded its errors: masks crept outwards frame by frame."""
    tracker = Tracker(EagerDecoder())
    tracker.step(frame_of(), [Prompt(1, square(32, 32))])
    for _ in range(5):
        answer = tracker.step(frame_of())
    assert (answer.id_map == 1).all(), "the answer is the decoded mask"
    np.testing.assert_array_equal(answer.coarse_id_map() == 1, square(32, 32) > 0)


def test_short_side_sets_the_size_that_the_networks_work_at() -> None:
    seen: list[tuple[int, ...]] = []

    class Watched(FakeNetworks):
        def encode_frame(self, frame_BHW3: np.ndarray) -> FrameFeatures:
            seen.append(frame_BHW3.shape)
            return super().encode_frame(frame_BHW3)

    tracker = Tracker(Watched(), TrackerSettings(short_side=48))
    answer = tracker.step(frame_of(), [Prompt(1, square(16, 16))])
    assert seen == [(1, 48, 64, 3)]
    assert answer.id_map.shape == SIZE


def test_a_restored_tracker_answers_as_its_original_does() -> None:
    networks = FakeNetworks()
    original, copy = Tracker(networks), Tracker(networks)
    original.step(frame_of(), [Prompt(200, square(0, 0)), Prompt(3, square(64, 32))])
    original.step(frame_of(100))
    original.remove([200])
    original.step(frame_of(), [Prompt(7, square(32, 64))])
    state = original.state()
    assert state is not None
    copy.restore(state)
    assert copy.object_ids == (3, 7)
    for value in (90, 120, 30, 90, 90, 90, 90):
        restored, kept = copy.step(frame_of(value)), original.step(frame_of(value))
        np.testing.assert_array_equal(restored.id_map, kept.id_map)
        assert (restored.frame_index, restored.objects) == (kept.frame_index, kept.objects)
    with pytest.raises(SizeChanged):
        copy.step(np.zeros((32, 32, 3), np.uint8))


def test_there_is_no_state_before_the_first_frame_and_after_a_reset(tracker: Tracker) -> None:
    assert tracker.state() is None
    tracker.step(frame_of(), [Prompt(1, square(0, 0))])
    assert tracker.state() is not None
    tracker.reset()
    assert tracker.state() is None


def test_a_state_of_other_sizes_is_refused_and_holds_no_memory() -> None:
    original, pool = Tracker(FakeNetworks()), BlockPool(2**20)
    original.step(frame_of(), [Prompt(1, square(0, 0))])
    state = original.state()
    assert state is not None
    for change in ({"frame_size": (192, 128)}, {"soft": state.soft[:, :3]}, {"object_ids": (1, 2)}):
        with pytest.raises(ValueError, match="do not fit"):
            Tracker(FakeNetworks(), pool=pool).restore(replace(state, **change))
    with pytest.raises(ValueError, match="this stream allows 0"):
        Tracker(FakeNetworks(), TrackerSettings(max_objects=0), pool).restore(state)
    other = replace(state.bank, key=state.bank.key[:2])
    with pytest.raises(ValueError, match="other networks"):
        Tracker(FakeNetworks(), pool=pool).restore(replace(state, bank=other))
    assert pool.used_blocks == 0

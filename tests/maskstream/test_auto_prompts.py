"""What stands out is found, what does not is not, and what is followed already is not found again."""

import numpy as np
import pytest
from fakes import FakeNetworks

from maskstream.auto_prompts import auto_prompts, find_more
from maskstream.errors import InvalidPrompt, NoObjects
from maskstream.masks import MAX_OBJECT_ID
from maskstream.prompt_kinds import AutoPrompt, Prompt
from maskstream.scores import jaccard
from maskstream.tracker import Tracker, TrackerSettings

SIZE = (480, 640)
RED, BLUE = (230, 30, 30), (30, 30, 230)
NOTHING = np.zeros(SIZE, dtype=bool)


def disc(x: int, y: int, radius: int) -> np.ndarray:
    rows, columns = np.indices(SIZE)
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2


THINGS = {"red": disc(200, 240, 80), "blue": disc(450, 240, 70)}


@pytest.fixture
def frame() -> np.ndarray:
    picture = np.random.default_rng(1).integers(90, 120, (*SIZE, 3), dtype=np.uint8)
    picture[THINGS["red"]], picture[THINGS["blue"]] = RED, BLUE
    return picture


def key_of(frame: np.ndarray) -> np.ndarray:
    return FakeNetworks().encode_frame(frame[None]).key


def best(prompts: list[Prompt], thing: str) -> float:
    return max((jaccard(prompt.mask != 0, THINGS[thing]) for prompt in prompts), default=0.0)


def test_things_that_stand_out_are_found_and_numbered_from_1(frame):
    prompts = auto_prompts(FakeNetworks(), [frame], 2)
    assert [prompt.object_id for prompt in prompts] == [1, 2]
    assert best(prompts, "red") > 0.7
    assert best(prompts, "blue") > 0.7


def test_several_frames_are_looked_at_together_and_the_first_is_answered(frame):
    moved = np.roll(frame, 16, axis=1)
    prompts = auto_prompts(FakeNetworks(), [frame, moved, moved], 2)
    assert best(prompts, "red") > 0.7


def test_same_picture_gives_the_same_things(frame):
    first, second = (auto_prompts(FakeNetworks(), [frame], 5) for _ in range(2))
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.mask, other.mask)


def test_things_that_are_found_do_not_overlap(frame):
    prompts = auto_prompts(FakeNetworks(), [frame], 10)
    assert np.sum([prompt.mask for prompt in prompts], axis=0).max() == 1


def test_a_picture_of_one_look_shows_nothing():
    assert auto_prompts(FakeNetworks(), [np.full((*SIZE, 3), 99, np.uint8)], 5) == []


def test_what_is_followed_is_left_out_and_ids_in_use_are_not_given(frame):
    prompts = find_more(key_of(frame), SIZE, 1, THINGS["red"], {1, 3})
    assert [prompt.object_id for prompt in prompts] == [2]
    assert best(prompts, "blue") > 0.7


def test_no_room_and_no_ids_find_nothing(frame):
    assert find_more(key_of(frame), SIZE, 0, NOTHING, ()) == []
    assert find_more(key_of(frame), SIZE, 5, NOTHING, range(1, MAX_OBJECT_ID + 1)) == []


def test_keys_that_are_not_finite_find_nothing(frame):
    assert find_more(np.full_like(key_of(frame), np.nan), SIZE, 5, NOTHING, ()) == []


@pytest.mark.parametrize(("frames", "most"), [(0, 1), (1, 0)])
def test_nothing_to_look_at_or_for_is_an_error(frame, frames, most):
    with pytest.raises(ValueError, match="expected 1 or more"):
        auto_prompts(FakeNetworks(), [frame] * frames, most)


def test_the_tracker_follows_what_it_finds(frame):
    tracker = Tracker(FakeNetworks())
    segmentation = tracker.step(frame, [AutoPrompt(2)])
    assert tracker.object_ids == (1, 2)
    again = auto_prompts(FakeNetworks(), [frame], 2)
    for prompt in again:
        np.testing.assert_array_equal(segmentation.id_map == prompt.object_id, prompt.mask)
    assert tracker.step(frame).objects[0].area > 0


def test_the_tracker_finds_beside_what_it_is_shown_and_what_it_follows(frame):
    tracker = Tracker(FakeNetworks())
    tracker.step(frame, [Prompt(7, THINGS["red"])])
    segmentation = tracker.step(frame, [AutoPrompt(1)])
    assert tracker.object_ids == (7, 1)
    assert jaccard(segmentation.id_map == 1, THINGS["blue"]) > 0.7


def test_no_more_is_found_than_the_stream_may_have(frame):
    tracker = Tracker(FakeNetworks(), TrackerSettings(max_objects=2))
    tracker.step(frame, [Prompt(7, THINGS["red"]), AutoPrompt(5)])
    assert len(tracker.object_ids) == 2


def test_nothing_found_leaves_the_stream_as_it_was(frame):
    tracker = Tracker(FakeNetworks())
    with pytest.raises(NoObjects, match="nothing stands out"):
        tracker.step(np.full((*SIZE, 3), 99, np.uint8), [AutoPrompt(3)])
    assert tracker.object_ids == ()
    assert tracker.frame_size is None
    assert tracker.bank_bytes == 0
    with pytest.raises(InvalidPrompt, match="ask for 1 or more"):
        tracker.step(frame, [AutoPrompt(0)])
    assert tracker.step(frame, [AutoPrompt(2)]).frame_index == 0


def test_nothing_found_after_all_objects_were_removed_keeps_the_stream_usable(frame):
    tracker = Tracker(FakeNetworks())
    tracker.step(frame, [Prompt(7, THINGS["red"])])
    tracker.remove([7])
    with pytest.raises(NoObjects, match="nothing stands out"):
        tracker.step(np.full((*SIZE, 3), 99, np.uint8), [AutoPrompt(3)])
    for _ in range(3):
        segmentation = tracker.step(frame, [Prompt(8, THINGS["blue"])])
    assert jaccard(segmentation.id_map == 8, THINGS["blue"]) > 0.9

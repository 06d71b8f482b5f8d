"""The bank keeps its bounds and its promises under any order of writes, additions and removals."""

import mmap
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskstream.block_pool import BlockPool, Heap, Pool
from maskstream.errors import MemoryExhausted
from maskstream.memory_bank import LAST_TRUST, MemoryBank, Role, SlotPolicy
from maskstream.networks import NetworkSpec

SPEC = NetworkSpec(
    name="test", stride=16, mask_stride=4, key_channels=2, value_channels=3, short_side=96, capacity=6, memory_stride=5
)
TOKENS = 4
ROW_BYTES = 4 * SPEC.capacity * SPEC.value_channels * TOKENS
KEY_BYTES = 4 * SPEC.capacity * SPEC.key_channels * TOKENS


def bank_of(pool: Pool | None = None) -> MemoryBank:
    return MemoryBank(SPEC, TOKENS, pool or Heap())


def write(bank: MemoryBank, frame: int, stored: list[bool], prompted: bool = False, mark: float = 1.0) -> int:
    key = np.full((SPEC.key_channels, TOKENS), frame, np.float32)
    value = np.full((len(stored), SPEC.value_channels, TOKENS), mark, np.float32)
    return bank.write(frame, key, value, np.array(stored), prompted)


@given(prompts=st.lists(st.booleans(), min_size=1, max_size=80))
def test_any_stream_keeps_its_first_prompt_its_last_frame_and_its_capacity(prompts: list[bool]) -> None:
    policy = SlotPolicy(permanent=2, recent=3, memory_stride=5)
    for frame, prompted in enumerate([True, *prompts]):
        policy.choose(frame, prompted)
        held = [i for i in policy.frame_index if i >= 0]
        assert len(held) == len(set(held)) <= policy.capacity
        assert 0 in held, "the first prompt is the user's own word and is never evicted"
        assert frame in held, "the frame just written is in the bank"
        assert policy.role.count(Role.PERMANENT) <= 2
        assert policy.role.count(Role.RECENT) <= 3 + 2 - policy.role.count(Role.PERMANENT)
        assert policy.role.count(Role.LAST) <= 1


def test_recent_frames_are_a_ring_of_every_fifth() -> None:
    policy = SlotPolicy(permanent=1, recent=3, memory_stride=5)
    policy.choose(0, prompted=True)
    for frame in range(1, 31):
        policy.choose(frame, prompted=False)
    recent = sorted(i for i, role in zip(policy.frame_index, policy.role, strict=True) if role is Role.RECENT)
    assert recent == [19, 24, 29]
    assert policy.evictions == {"recent": 3}, "4, 9 and 14 were kept and gave way"


def test_a_permanent_slot_that_waits_for_a_prompt_holds_a_recent_frame_until_then() -> None:
    policy = SlotPolicy(permanent=2, recent=1, memory_stride=5)
    policy.choose(0, prompted=True)
    for frame in range(1, 31):
        policy.choose(frame, prompted=False)
    recent = sorted(i for i, role in zip(policy.frame_index, policy.role, strict=True) if role is Role.RECENT)
    assert recent == [24, 29]
    policy.choose(31, prompted=True)
    held = dict(zip(policy.frame_index, policy.role, strict=True))
    assert held == {0: Role.PERMANENT, 29: Role.RECENT, 30: Role.LAST, 31: Role.PERMANENT}, "the oldest recent one went"


def test_a_bank_without_recent_slots_holds_first_and_last() -> None:
    policy = SlotPolicy(permanent=1, recent=0, memory_stride=5)
    policy.choose(0, prompted=True)
    for frame in range(1, 20):
        policy.choose(frame, prompted=False)
    assert sorted(policy.frame_index) == [0, 19]


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="permanent >= 1"):
        SlotPolicy(permanent=0, recent=3, memory_stride=5)


def test_key_value_validity_and_age_of_a_slot_stay_together() -> None:
    bank = bank_of()
    bank.add_row()
    for frame in range(40):
        write(bank, frame, [True], prompted=frame == 0, mark=frame)
        view = bank.view(frame)
        for slot in np.flatnonzero(view.valid[0, 0]):
            index = frame - view.age[0, slot]
            assert (view.key[0, :, slot] == index).all()
            assert (view.value[0, 0, :, slot] == index).all()


def test_an_object_added_late_in_a_long_stream() -> None:
    """XMem's eviction raised when an object came after long-term memory had begun."""
    bank = bank_of()
    bank.add_row()
    for frame in range(200):
        write(bank, frame, [True], prompted=frame == 0)
    bank.add_row()
    for frame in range(200, 400):
        write(bank, frame, [True, True], prompted=frame == 200)
    view = bank.view(400)
    assert (view.valid[0, 0] > 0).sum() == SPEC.capacity
    assert (view.valid[0, 1] > 0).sum() == SPEC.capacity - 1, "the slot of frame 0 never saw the second object"


def test_an_id_reused_after_removal_finds_nothing_of_its_past() -> None:
    """Cutie's purge left the object memory behind."""
    bank = bank_of()
    bank.add_row()
    bank.add_row()
    write(bank, 0, [True, True], prompted=True, mark=7)
    bank.remove_row(0)
    row = bank.add_row()
    view = bank.view(1)
    assert view.valid[0, row].sum() == 0
    assert (view.value[0, row] == 0).all()
    assert (view.value[0, 0, :, 0] == 7).all(), "the other object moved down and kept its memory"


def test_the_newest_frame_is_trusted_less_until_it_is_kept_and_a_prompt_never() -> None:
    bank = bank_of()
    bank.add_row()
    write(bank, 0, [True], prompted=True)
    assert bank.view(1).valid[0, 0].max() == 1, "a prompt is the user's own word, however new"
    newest = write(bank, 1, [True])
    assert bank.view(2).valid[0, 0, newest] == np.float32(LAST_TRUST)
    for frame in range(2, 8):
        write(bank, frame, [True])
    view = bank.view(8)
    assert sorted(view.valid[0, 0, view.age[0] == 1].tolist()) == [np.float32(LAST_TRUST)]
    assert (view.valid[0, 0, (view.age[0] > 1) & (view.valid[0, 0] > 0)] == 1).all()


def test_an_object_left_out_of_a_write_is_invalid_and_zero_in_that_slot() -> None:
    bank = bank_of()
    bank.add_row()
    bank.add_row()
    slot = write(bank, 0, [True, False], prompted=True, mark=5)
    view = bank.view(0)
    assert view.valid[0, :, slot].tolist() == [1, 0]
    assert (view.value[0, 1, :, slot] == 0).all()


def test_the_pool_bounds_all_banks_together_and_gets_everything_back() -> None:
    pool = BlockPool(4 * mmap.PAGESIZE, mmap.PAGESIZE)  # a block holds the keys, or the values of some objects
    first, second = bank_of(pool), bank_of(pool)
    first.add_row()
    second.add_row()
    with pytest.raises(MemoryExhausted, match="close a stream"):
        second.add_row()
    assert second.rows == 1, "a refused row leaves the bank as it was"
    write(second, 0, [True], prompted=True, mark=7)
    assert (second.view(0).value[0, 0, :, 0] == 7).all()
    with pytest.raises(MemoryExhausted):
        bank_of(pool)
    first.close()
    first.close()
    second.close()
    assert pool.used_bytes == 0


def test_bank_bytes_do_not_depend_on_the_length_of_the_stream() -> None:
    bank = bank_of()
    bank.add_row()
    size = bank.num_bytes
    for frame in range(500):
        write(bank, frame, [True], prompted=frame % 50 == 0)
    assert bank.num_bytes == size == KEY_BYTES + ROW_BYTES


def test_a_restored_bank_goes_on_as_its_original() -> None:
    original, copy = bank_of(), bank_of()
    for _ in range(3):
        original.add_row()
    for frame in range(23):
        write(original, frame, [True, frame % 2 == 0, frame < 4], prompted=frame in (0, 9), mark=frame)
    copy.restore(original.state())
    for frame in range(23, 40):
        assert write(copy, frame, [True, False, True]) == write(original, frame, [True, False, True])
        for restored, kept in zip(copy.view(frame), original.view(frame), strict=True):
            np.testing.assert_array_equal(restored, kept)


def test_a_state_is_a_copy() -> None:
    bank = bank_of()
    bank.add_row()
    write(bank, 0, [True], prompted=True)
    state = bank.state()
    write(bank, 1, [True], mark=5.0)
    assert state.frame_indices == (0, -1, -1, -1, -1, -1)
    assert not (state.value == 5.0).any()


@pytest.mark.parametrize(
    "change",
    [
        {"roles": ("permanent",) * 6},
        {"roles": ("empty",) * 6},
        {"roles": ("nonsense", *("empty",) * 5)},
        {"frame_indices": (0, 0, -1, -1, -1, -1)},
        {"roles": ("permanent", "empty"), "frame_indices": (0, -1)},
        {"roles": ("recent",) * 6, "frame_indices": tuple(range(6))},
        {"key": np.zeros((1, 6, TOKENS), np.float32)},
        {"value": np.zeros((1, 2, 6, TOKENS), np.float32)},
    ],
)
def test_a_state_that_no_bank_can_have_is_refused(change: dict[str, Any]) -> None:
    bank = bank_of()
    bank.add_row()
    write(bank, 0, [True], prompted=True)
    with pytest.raises(ValueError, match=r"other networks|no bank of 6 slots"):
        bank_of().restore(replace(bank.state(), **change))

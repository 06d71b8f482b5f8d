"""The pool gives runs of blocks, gets them back whole, and leaves nothing of one bank to the next."""

import mmap

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskstream.block_pool import BlockPool
from maskstream.errors import MemoryExhausted

PAGE = mmap.PAGESIZE
FLOATS = PAGE // 4  # of a block


def pool_of(blocks: int) -> BlockPool:
    return BlockPool(blocks * PAGE, PAGE)


@given(wishes=st.lists(st.tuples(st.integers(0, 3 * FLOATS), st.booleans()), max_size=40))
def test_arrays_never_share_memory_and_everything_comes_back(wishes: list[tuple[int, bool]]) -> None:
    pool, held = pool_of(16), {}
    for mark, (floats, gives) in enumerate(wishes, 1):
        try:
            array = pool.take((floats,))
        except MemoryExhausted:
            assert 4 * floats > pool.longest_free_bytes
            continue
        assert not array.any(), "nothing of an earlier owner is left"
        array[:] = mark
        held[mark] = array
        if gives:
            pool.give(held.pop(min(held)))
        for owner, kept in held.items():
            assert (kept == owner).all()
        assert pool.used_blocks == sum(-(-kept.size // FLOATS) for kept in held.values())
    for kept in held.values():
        pool.give(kept)
    assert (pool.used_bytes, pool.longest_free_bytes) == (0, pool.total_bytes), "all runs have joined again"


def test_a_run_that_is_not_there_is_refused_though_the_sum_would_do() -> None:
    pool = pool_of(3)
    first, middle, last = (pool.take((FLOATS,)) for _ in range(3))
    pool.give(first)
    pool.give(last)
    with pytest.raises(MemoryExhausted, match="close a stream"):
        pool.take((2 * FLOATS,))
    pool.give(middle)
    assert pool.take((3 * FLOATS,)).size == 3 * FLOATS


def test_the_smallest_run_that_fits_is_taken_so_that_large_ones_last() -> None:
    pool = pool_of(6)
    one, _ = pool.take((FLOATS,)), pool.take((FLOATS,))
    pool.give(one)
    pool.take((FLOATS,))
    assert pool.longest_free_bytes == 4 * PAGE


def test_reserved_memory_is_there_from_the_start_and_clean_again_after_use() -> None:
    pool = pool_of(4)
    pool.reserve()
    array = pool.take((2, FLOATS))
    array[:] = 1
    pool.give(array)
    assert not pool.take((4 * FLOATS,)).any()


def test_memory_that_was_given_back_is_the_systems_again() -> None:
    def resident_bytes() -> int:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
            return int(file.read().split()[1]) * PAGE

    pool = BlockPool(2**27)
    before = resident_bytes()
    array = pool.take((2**25,))
    assert resident_bytes() - before < 2**24, "addresses alone"
    array[:] = 1
    assert resident_bytes() - before > 2**26
    pool.give(array)
    assert resident_bytes() - before < 2**24


def test_an_array_of_nothing_costs_nothing() -> None:
    pool = pool_of(1)
    empty = pool.take((0, 5))
    assert (empty.shape, pool.used_blocks) == ((0, 5), 0)
    pool.give(empty)
    np.testing.assert_array_equal(pool.take((FLOATS,)), 0)

"""Batches come in order whatever the threads do, and nobody waits for those that are not wanted any more."""

import time

import pytest

from train.prefetch import prefetched


def slow_when_even(step: int) -> int:
    time.sleep(0.02 if step % 2 == 0 else 0)
    return step


@pytest.mark.parametrize("threads", [1, 3, 20])
def test_batches_come_in_order(threads: int) -> None:
    assert list(prefetched(slow_when_even, 4, 13, threads)) == list(range(4, 13))


def test_a_stage_that_is_done_has_no_batches() -> None:
    assert list(prefetched(slow_when_even, 4, 4, 2)) == []


def test_what_goes_wrong_in_a_thread_is_raised_at_its_step() -> None:
    batches = prefetched(lambda step: 1 // (step - 2), 0, 9, 4)
    assert [next(batches), next(batches)] == [-1, -1]
    with pytest.raises(ZeroDivisionError):
        next(batches)


def test_no_more_is_sampled_ahead_than_there_are_threads() -> None:
    begun: list[int] = []
    batches = prefetched(begun.append, 0, 100, 2)
    next(batches)
    batches.close()
    assert len(begun) <= 3

"""Batches prepared ahead by threads, in order. Which thread makes a batch does not change what is in it."""

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Batch = TypeVar("Batch")


def prefetched(sample: Callable[[int], Batch], first: int, last: int, threads: int) -> Generator[Batch]:
    """`sample(step)` for the steps first..last-1, as many of them in the making as there are threads."""
    with ThreadPoolExecutor(threads) as pool:
        coming = deque(pool.submit(sample, step) for step in range(first, min(last, first + threads)))
        try:
            for step in range(first, last):
                batch = coming.popleft().result()
                if step + threads < last:
                    coming.append(pool.submit(sample, step + threads))
                yield batch
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

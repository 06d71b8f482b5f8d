"""The memory of all banks of a process: one region, cut into blocks, asked for once and never grown.

A bank takes runs of neighbouring blocks, so that what it stores is one array that engines read in place. A run that is
not there is refused: traffic can make an open fail, never the process. Blocks that come back are given to the
operating system and read as zeros afterwards, so nothing of one stream is left for the next.
"""

import math
import mmap
from bisect import insort
from collections.abc import Sequence
from threading import Lock
from typing import Protocol

import numpy as np

from maskstream.errors import MemoryExhausted
from maskstream.networks import F32

BLOCK_BYTES = 2**18  # a quarter of a MiB: a stream at 480p with one object takes about fifty
_NO_RESERVE = 0x4000  # Linux: MAP_NORESERVE, which Python's mmap names from 3.13 on


class Pool(Protocol):
    """Where a bank has its arrays from."""

    def take(self, shape: Sequence[int]) -> F32:
        """Float32 zeros of this shape. Raises MemoryExhausted."""
        ...

    def give(self, array: F32) -> None:
        """Return what `take` gave; the array must not be used any more."""
        ...


class Heap:
    """No bound: for a tracker alone in its process."""

    def take(self, shape: Sequence[int]) -> F32:
        """Float32 zeros of this shape."""
        return np.zeros(shape, np.float32)

    def give(self, array: F32) -> None:
        """Nothing to do: Python frees it."""


class BlockPool:
    """`total_bytes` of memory, rounded down to whole blocks. Any thread may take and give."""

    def __init__(self, total_bytes: int, block_bytes: int = BLOCK_BYTES) -> None:
        """Asks the system for addresses alone; pages follow as banks write, or at once with `reserve`."""
        assert block_bytes % mmap.PAGESIZE == 0, "blocks are whole pages"
        self.block_bytes, self.total_blocks = block_bytes, max(1, total_bytes // block_bytes)
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NO_RESERVE
        self._memory = mmap.mmap(-1, self.total_bytes, flags=flags)
        self._bytes = np.frombuffer(self._memory, np.uint8)
        self._free: list[tuple[int, int]] = [(0, self.total_blocks)]  # first block and length of each run, in order
        self._taken: dict[int, int] = {}  # first block -> length of each run
        self._reserved = False
        self._lock = Lock()

    @property
    def total_bytes(self) -> int:
        """Bytes of all blocks."""
        return self.total_blocks * self.block_bytes

    @property
    def used_blocks(self) -> int:
        """Blocks that are taken."""
        with self._lock:
            return sum(self._taken.values())

    @property
    def used_bytes(self) -> int:
        """Bytes of the blocks that are taken."""
        return self.used_blocks * self.block_bytes

    @property
    def longest_free_bytes(self) -> int:
        """The largest array that could be taken now."""
        with self._lock:
            return self.block_bytes * max((length for _, length in self._free), default=0)

    def reserve(self) -> None:
        """Make the system back every page now, so that none can be missing later. Before the first `take`."""
        assert not self._taken, "pages are reserved before blocks are taken"
        self._bytes[:: mmap.PAGESIZE] = 0
        self._reserved = True

    def take(self, shape: Sequence[int]) -> F32:
        """Float32 zeros of this shape in the smallest run that holds it. Raises MemoryExhausted, and takes nothing."""
        num_bytes = 4 * math.prod(shape)
        if num_bytes == 0:
            return np.zeros(shape, np.float32)
        blocks = -(-num_bytes // self.block_bytes)
        with self._lock:
            fitting = [run for run in self._free if run[1] >= blocks]
            if not fitting:
                raise self._exhausted(num_bytes)
            first, length = min(fitting, key=lambda run: run[1])
            self._free.remove((first, length))
            if length > blocks:
                insort(self._free, (first + blocks, length - blocks))
            self._taken[first] = blocks
        start = first * self.block_bytes
        array = self._bytes[start : start + num_bytes].view(np.float32).reshape(shape)
        if self._reserved:
            array[:] = 0  # else the pages are new, hence zeros
        return array

    def give(self, array: F32) -> None:
        """Return an array that `take` gave."""
        if array.size == 0:
            return
        offset = array.__array_interface__["data"][0] - self._bytes.__array_interface__["data"][0]
        first = offset // self.block_bytes
        with self._lock:
            blocks = self._taken.pop(first)
            if not self._reserved:
                self._memory.madvise(mmap.MADV_DONTNEED, first * self.block_bytes, blocks * self.block_bytes)
            self._join(first, blocks)

    def _join(self, first: int, blocks: int) -> None:
        """Put a run among the free ones, one with its neighbours."""
        for run in [run for run in self._free if run[0] + run[1] == first or first + blocks == run[0]]:
            self._free.remove(run)
            first, blocks = min(first, run[0]), blocks + run[1]
        insort(self._free, (first, blocks))

    def _exhausted(self, num_bytes: int) -> MemoryExhausted:
        free = self.block_bytes * sum(length for _, length in self._free)
        return MemoryExhausted(
            f"the memory bank needs {num_bytes / 2**20:.1f} MiB more and {free / 2**20:.1f} MiB are free; "
            "close a stream, remove an object, or start the server with a larger bank budget"
        )

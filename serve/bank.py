"""The memory of all banks, checked against what the machine has left before anyone relies on it."""

import logging

from maskstream.block_pool import BlockPool
from serve.config import ConfigError
from serve.memory_left import memory_left_bytes

log = logging.getLogger(__name__)

AUTO_SHARE = 0.5  # of what is left once the model is loaded; the rest is for frames, answers and the engine


def bank_pool(wanted_bytes: int) -> BlockPool:
    """A pool of `wanted_bytes`, 0 for a share of what is left. Raises ConfigError when that is not known."""
    if wanted_bytes:
        return BlockPool(wanted_bytes)
    left = memory_left_bytes()
    if left is None:
        raise ConfigError(
            "bank_mib = 0, but how much memory is left cannot be read here; say how much the bank may take"
        )
    pool = BlockPool(int(AUTO_SHARE * left))
    log.info("the memory bank has %d MiB, half of what is left", pool.total_bytes // 2**20)
    return pool


def secure(pool: BlockPool, reserve: bool) -> None:
    """Once the engine is warm: the bank must fit into what is left. Raises ConfigError; takes it all if `reserve`."""
    left = memory_left_bytes()
    if left is not None and pool.total_bytes > left:
        raise ConfigError(
            f"the memory bank may grow to {pool.total_bytes // 2**20} MiB, but {left // 2**20} MiB of memory are left; "
            "lower bank_mib, or set it to 0 for half of what is left"
        )
    if reserve:
        pool.reserve()

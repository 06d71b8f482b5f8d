"""How many workers a machine carries, and how many threads each has.

Many workers with one thread each do more than few with many: decoding, drawing and encoding run on one core, and only
the networks gain from more. Fewer, wider workers come where memory or the number of videos is the limit. What a control
group grants counts, not what the machine has.
"""

import math
from dataclasses import dataclass
from pathlib import Path

from maskstream.engines.graph_inputs import cores

WORKER_BYTES = 2**30  # of a worker at 480p with a handful of objects, its video's decoder and encoder included
_MEMORY_SHARE = 0.8  # of what is free; the rest is for the page cache and the command
_UNLIMITED = 2**60  # control groups say "no limit" by a number beyond this
_GROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Share:
    """Worker processes, and CPU threads of each."""

    workers: int
    threads: int


def share_machine(cores: int, free_bytes: int, videos: int, workers: int | None, threads: int | None) -> Share:
    """Workers and threads for so many videos; None is for us to choose. Nothing is ever below 1."""
    if workers is None:
        by_memory = int(free_bytes * _MEMORY_SHARE) // WORKER_BYTES
        workers = max(1, min(cores // (threads or 1), by_memory, videos))
    return Share(workers, threads or max(1, cores // workers))


def usable_cores(groups: Path = _GROUPS) -> int:
    """Cores that this process may use: its affinity, or its control group's quota where that is less; at least 1."""
    quota = _quota(groups)
    return cores() if quota is None else max(1, min(cores(), math.floor(quota + 0.5)))


def free_bytes(groups: Path = _GROUPS, meminfo: Path = Path("/proc/meminfo")) -> int:
    """Bytes of memory that can be had: free in the machine, or left in the control group where that is less."""
    lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    machine = int(lines["MemAvailable"].split()[0]) * 1024
    limit = _first_number(groups / "memory.max", groups / "memory" / "memory.limit_in_bytes")
    used = _first_number(groups / "memory.current", groups / "memory" / "memory.usage_in_bytes")
    if limit is None or limit > _UNLIMITED or used is None:
        return machine
    return max(0, min(machine, limit - used))


def _quota(groups: Path) -> float | None:
    """CPU seconds a second that the control group grants, of version 2 or 1; None when it sets no limit."""
    words = _words(groups / "cpu.max")
    if len(words) == 2:
        return None if words[0] == "max" else int(words[0]) / int(words[1])
    quota, period = (_first_number(groups / "cpu" / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
    return quota / period if quota and period and quota > 0 else None


def _first_number(*files: Path) -> int | None:
    for file in files:
        words = _words(file)
        if words and words[0].lstrip("-").isdecimal():
            return int(words[0])
    return None


def _words(file: Path) -> list[str]:
    return file.read_text().split() if file.is_file() else []

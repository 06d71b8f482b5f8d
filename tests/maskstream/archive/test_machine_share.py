"""How a machine is shared out, and what a control group grants, from files as the kernel writes them."""

import os
from pathlib import Path

import pytest

from maskstream.archive.machine_share import WORKER_BYTES, Share, free_bytes, share_machine, usable_cores

PLENTY = 1000 * WORKER_BYTES


@pytest.mark.parametrize(
    ("cores", "free", "videos", "workers", "threads", "expected"),
    [
        (2, PLENTY, 100, None, None, Share(2, 1)),
        (16, PLENTY, 100, None, None, Share(16, 1)),
        (16, PLENTY, 3, None, None, Share(3, 5)),  # few videos: wide workers
        (16, 5 * WORKER_BYTES, 100, None, None, Share(4, 4)),  # a fifth of the memory stays free
        (2, 0, 100, None, None, Share(1, 2)),
        (1, PLENTY, 100, None, None, Share(1, 1)),
        (16, PLENTY, 100, None, 4, Share(4, 4)),
        (16, PLENTY, 100, 5, None, Share(5, 3)),
        (2, PLENTY, 1, 6, None, Share(6, 1)),  # what is asked for is done
        (2, PLENTY, 100, 1, 8, Share(1, 8)),
    ],
)
def test_share(cores: int, free: int, videos: int, workers: int | None, threads: int | None, expected: Share) -> None:
    assert share_machine(cores, free, videos, workers, threads) == expected


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_dot_", ".")).write_text(text + "\n")


@pytest.mark.parametrize(
    ("cpu_max", "expected"),
    [("max 100000", 8), ("250000 100000", 3), ("10000 100000", 1), ("9900000 100000", 8), ("150000 100000", 2)],
)
def test_quota_of_version_2(tmp_path: Path, cpu_max: str, expected: int) -> None:
    write(tmp_path, cpu_dot_max=cpu_max)
    assert usable_cores(tmp_path) == expected


@pytest.mark.parametrize(("quota", "expected"), [("-1", 8), ("400000", 4)])
def test_quota_of_version_1(tmp_path: Path, quota: str, expected: int) -> None:
    write(tmp_path / "cpu", cpu_dot_cfs_quota_us=quota, cpu_dot_cfs_period_us="100000")
    assert usable_cores(tmp_path) == expected


def test_without_a_group_the_affinity_counts(tmp_path: Path) -> None:
    assert usable_cores(tmp_path) == 8


def test_memory_is_what_the_group_has_left_or_the_machine(tmp_path: Path) -> None:
    write(tmp_path, meminfo="MemTotal: 9000 kB\nMemAvailable:    8000 kB")
    meminfo = tmp_path / "meminfo"
    assert free_bytes(tmp_path, meminfo) == 8_192_000
    write(tmp_path, memory_dot_max="5000000", memory_dot_current="2000000")
    assert free_bytes(tmp_path, meminfo) == 3_000_000
    write(tmp_path, memory_dot_max="max")
    assert free_bytes(tmp_path, meminfo) == 8_192_000
    (tmp_path / "memory.max").unlink()
    write(
        tmp_path / "memory",
        memory_dot_limit_in_bytes="9223372036854771712",
        memory_dot_usage_in_bytes="5",
    )
    assert free_bytes(tmp_path, meminfo) == 8_192_000


def test_this_machine_has_cores_and_memory() -> None:
    assert usable_cores() >= 1
    assert free_bytes() > 2**20

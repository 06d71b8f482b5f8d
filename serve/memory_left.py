"""How much memory this process may still take: what the machine has left, or what its control group allows."""

from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_GROUPS = Path("/proc/self/cgroup")
_HIERARCHY = Path("/sys/fs/cgroup")


def memory_left_bytes(meminfo: Path = _MEMINFO, groups: Path = _GROUPS, hierarchy: Path = _HIERARCHY) -> int | None:
    """The smaller of the two; None where neither can be read. The files are arguments for tests alone."""
    known = [left for left in (_of_machine(meminfo), _of_group(groups, hierarchy)) if left is not None]
    return min(known, default=None)


def _of_machine(meminfo: Path) -> int | None:
    """`MemAvailable`: free memory and what the kernel would give up for it."""
    for line in _lines(meminfo):
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            return 1024 * int(rest.split()[0])
    return None


def _of_group(groups: Path, hierarchy: Path) -> int | None:
    """The tightest limit on the way up from this process's group (cgroup v2), less what is used under it."""
    path = next((line.removeprefix("0::").strip("/") for line in _lines(groups) if line.startswith("0::")), None)
    if path is None:
        return None
    folder, left = hierarchy / path, []
    while folder.is_relative_to(hierarchy):
        limit, used = ("".join(_lines(folder / name)).strip() for name in ("memory.max", "memory.current"))
        if limit.isdecimal() and used.isdecimal():
            left.append(max(0, int(limit) - int(used)))
        folder = folder.parent
    return min(left, default=None)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return []

"""The machine itself: processor and what it is good at, cores and their limit, memory, disk, Python and libraries."""

import os
import platform
import shutil
from collections.abc import Mapping
from pathlib import Path

from maskstream.doctor.findings import FAILED, NOTE, OK, Finding
from maskstream.engines.cache_folder import cache_folder
from maskstream.provenance import cpu_flags, cpu_model, versions

_GIB = 2**30
_LEAST_MEMORY, _LEAST_DISK = 1 * _GIB, 1 * _GIB  # bytes; a server of one stream takes about 0.6 GiB
_OLDEST_PYTHON = (3, 11)
_RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt", "tensorrt-rtx", "cuda-bindings", "torch")
_GROUP = Path("/sys/fs/cgroup")
_UNITS = {  # what a processor has, by the flags that say so
    "AVX2": ("avx2",),
    "AVX-512": ("avx512f",),
    "VNNI": ("avx512_vnni", "avx_vnni"),
    "bf16": ("avx512_bf16", "amx_bf16", "bf16"),
    "AMX int8": ("amx_int8",),
    "AMX bf16": ("amx_bf16",),
    "dot product (ARM)": ("asimddp",),
}


def software() -> list[Finding]:
    """Python and the libraries that can change a result."""
    found = versions()
    python = found.pop("python")
    new_enough = tuple(map(int, platform.python_version_tuple()[:2])) >= _OLDEST_PYTHON
    runtimes = {name: version for name, version in found.items() if name in _RUNTIMES}
    others = {name: version for name, version in found.items() if name not in {"maskstream", *_RUNTIMES}}
    return [
        Finding("software", "maskstream", OK, found.get("maskstream", "not installed as a distribution")),
        Finding("software", "Python", OK if new_enough else FAILED, f"{python} ({platform.platform()})"),
        Finding("software", "libraries", OK, _listed(others)),
        Finding("software", "runtimes", OK if runtimes else NOTE, _listed(runtimes) or "none"),
    ]


def _listed(found: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in found.items())


def processor() -> list[Finding]:
    """Model, cores and their limit, units that engines gain from."""
    flags = set(cpu_flags())
    units = [name for name, signs in _UNITS.items() if flags.intersection(signs)]
    fast_int8 = bool({"VNNI", "AMX int8", "dot product (ARM)"}.intersection(units))
    says = ", ".join(units) or "no units known here"
    return [
        Finding("machine", "processor", OK, cpu_model()),
        _cores(),
        Finding("machine", "units", OK if fast_int8 else NOTE, says if fast_int8 else f"{says}; int8 will gain little"),
    ]


def memory() -> list[Finding]:
    """What is left, by the kernel and by the control group."""
    total, left = _meminfo("MemTotal"), _meminfo("MemAvailable")
    limit = _number(_GROUP / "memory.max")
    if limit is not None and limit < total:
        total, left = limit, min(left, limit - (_number(_GROUP / "memory.current") or 0))
    state = OK if left >= _LEAST_MEMORY else NOTE
    advice = "" if state == OK else "a server of one stream takes about 0.6 GiB: close something, or give it more"
    return [Finding("machine", "memory", state, f"{left / _GIB:.1f} GiB left of {total / _GIB:.1f} GiB", advice)]


def disk() -> list[Finding]:
    """Room in the cache folder, where engines keep what is made once on a machine."""
    folder = cache_folder()
    if folder is None:
        return [Finding("machine", "cache folder", NOTE, "none: engines are tried anew at each start", "set HOME")]
    there = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(there).free
    writable = os.access(there, os.W_OK)
    text = f"{folder}, {free / _GIB:.1f} GiB free{'' if writable else ', cannot be written'}"
    advice = "" if writable else "engines are tried anew at each start; set XDG_CACHE_HOME to a folder of yours"
    return [Finding("machine", "cache folder", OK if writable and free >= _LEAST_DISK else NOTE, text, advice)]


def cpu_limit(group: Path = _GROUP) -> float | None:
    """Cores' worth of time that the control group grants; None without a limit."""
    file = group / "cpu.max"
    if not file.is_file():
        return None
    quota, period = file.read_text(encoding="ascii").split()
    return None if quota == "max" else int(quota) / int(period)


def _cores() -> Finding:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = cpu_limit()
    if limit is None or limit >= usable:
        return Finding("machine", "cores", OK, f"{usable} of {os.cpu_count()}")
    advice = f"engines count the cores: start with --threads {max(1, int(limit))}, or raise the container's limit"
    return Finding("machine", "cores", NOTE, f"{usable}, limited to the time of {limit:g} by its container", advice)


def _meminfo(name: str) -> int:
    """Bytes. Raises OSError or StopIteration where the kernel says nothing."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1]) * 1024


def _number(file: Path) -> int | None:
    text = file.read_text(encoding="ascii").strip() if file.is_file() else ""
    return int(text) if text.isdecimal() else None

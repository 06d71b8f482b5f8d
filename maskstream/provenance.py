"""Where a figure comes from: library versions, hardware and git revision, written beside every figure we report."""

import importlib.metadata
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_LIBRARIES = (
    *("maskstream", "numpy", "opencv-python-headless", "av", "pillow", "grpcio"),
    *("onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt", "tensorrt-rtx", "cuda-bindings", "torch"),
)
_ANSWER_SECONDS = 10.0  # that a tool may take to answer
_CPUINFO = Path("/proc/cpuinfo")


def provenance() -> dict[str, Any]:
    """Keys "versions", "hardware" and "git_revision" (None outside a repository)."""
    return {"versions": versions(), "hardware": hardware(), "git_revision": git_revision()}


def versions() -> dict[str, str]:
    """Versions of Python and of the installed libraries that can change a result; nothing is imported to find out."""
    return {"python": platform.python_version(), **installed(_LIBRARIES)}


def installed(distributions: Iterable[str]) -> dict[str, str]:
    """Versions of those of these distributions that are installed."""
    found = {}
    for name in distributions:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, Any]:
    """Processor, cores this process may use, memory in bytes, graphics cards, operating system."""
    return {
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpus": _gpu_names(),
        "os": platform.platform(),
    }


def git_revision() -> str | None:
    """Commit of the repository this package runs from, "-dirty" added when files differ from it; None outside one."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    commit = _answer("git", "-C", str(root), "rev-parse", "--verify", "HEAD")
    changes = _answer("git", "-C", str(root), "status", "--porcelain", "--untracked-files=no")
    return f"{commit}{'-dirty' if changes else ''}" if commit else None


def cpu_model() -> str:
    """The processor's name, as in "Intel(R) Xeon(R) CPU @ 2.50GHz"; at least its architecture."""
    return _cpu_field("model name") or platform.processor() or platform.machine()


def cpu_flags() -> tuple[str, ...]:
    """What the processor can do, as Linux lists it ("avx2", "amx_int8"), sorted; empty where nothing lists it.

    Two virtual machines with one model name may differ in this, and with it in which engine is the fastest.
    """
    return tuple(sorted(set((_cpu_field("flags") or _cpu_field("Features")).split())))


def _cpu_field(name: str) -> str:
    """A line about the first processor; empty where there is none of that name."""
    lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines() if _CPUINFO.exists() else []
    found = (text.strip() for key, _, text in (line.partition(":") for line in lines) if key.strip() == name)
    return next(found, "")


def _gpu_names() -> list[str]:
    return (_answer("nvidia-smi", "--query-gpu=name", "--format=csv,noheader") or "").splitlines()


def _answer(tool: str, *arguments: str) -> str | None:
    """What a tool prints, stripped; None when it is not installed or fails."""
    found = shutil.which(tool)
    if found is None:
        return None
    try:
        done = subprocess.run([found, *arguments], capture_output=True, text=True, timeout=_ANSWER_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None

"""What a run computes on: CPU or GPU, float32 or bfloat16.

With bf16 only the convolutions are in bfloat16: they are nearly all of the work, and everything that suffers from eight
bits of mantissa (norms, affinity, softmax, losses, the weights themselves) stays in float32. The positional terms of
the affinity are the reason that this is not `torch.autocast`, which would take that matrix product too.
"""

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("auto", "fp32", "bf16")
_FAST_BF16_FLAGS = ("amx_bf16", "avx512_bf16")  # without these units a CPU is slower in bf16 than in fp32

T = TypeVar("T")


@dataclass(frozen=True)
class Compute:
    """Device and precision, decided."""

    device: torch.device = torch.device("cpu")  # noqa: RUF009
    precision: str = "fp32"

    def __str__(self) -> str:
        return f"{self.precision} on {self.device.type}"


def choose_compute(device: str, precision: str, local_rank: int = 0) -> Compute:
    """Turn the words of the command line into a decision. Raises ValueError for a GPU that torch does not find.

    `local_rank` says which of the machine's GPUs is this process's own.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"--device cuda: torch {torch.__version__} finds no GPU; install its CUDA build, check `nvidia-smi`, "
            "or leave --device out"
        )
    on_gpu = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    if on_gpu and local_rank >= torch.cuda.device_count():
        raise ValueError(
            f"process {local_rank} of this machine has no GPU of its own, there are {torch.cuda.device_count()}; "
            "give torchrun --nproc-per-node no more than that"
        )
    if precision == "auto":
        precision = "bf16" if on_gpu or cpu_is_fast_in_bf16() else "fp32"
    return Compute(torch.device("cuda", local_rank) if on_gpu else torch.device("cpu"), precision)


def cpu_is_fast_in_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the CPU has units for bfloat16."""
    if not cpuinfo.exists():
        return False
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return any(flag in flags for flag in _FAST_BF16_FLAGS)


def usable_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Bf16Conv2d(nn.Conv2d):
    """A convolution whose arithmetic is in bfloat16 and whose weights, and their gradients, are in float32."""

    def forward(self, input: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.bfloat16()
        return self._conv_forward(input.bfloat16(), self.weight.bfloat16(), bias)


def convolve_in_bf16(module: nn.Module) -> None:
    """Switch all convolutions of `module` to bf16 in place; names and weights stay what they are."""
    for part in module.modules():
        if type(part) is nn.Conv2d:
            part.__class__ = Bf16Conv2d


def moved(value: T, device: torch.device) -> T:
    """Tensors, or dicts or dataclasses of them, on `device`; to a GPU through pinned memory, without waiting."""
    if isinstance(value, Tensor):
        pinned = value.pin_memory() if device.type == "cuda" and value.device.type == "cpu" else value
        return pinned.to(device, non_blocking=True)  # type: ignore[return-value]
    if isinstance(value, dict):
        return {key: moved(part, device) for key, part in value.items()}  # type: ignore[return-value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields: dict[str, Any] = {f.name: moved(getattr(value, f.name), device) for f in dataclasses.fields(value)}
        return dataclasses.replace(value, **fields)
    return value

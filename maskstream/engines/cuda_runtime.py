"""CUDA without torch: the few calls of `cuda.bindings.runtime` that an engine needs, each of them checked.

The bindings answer every call with a status and values, and raise nothing; here a status that is not success is an
error that names the call. They need the driver alone, no toolkit, and are imported when an engine is opened.
"""

import ctypes
import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from maskstream.errors import EngineUnavailable

_DRIVER_FILE = Path("/proc/driver/nvidia/version")
_INSTALL = "pip install cuda-bindings"


class CudaError(EngineUnavailable):
    """A call of CUDA failed: no device, no memory, or a fault before it."""


@dataclass(frozen=True)
class Device:
    """The GPU in use. `compute_capability` as in "8.9"."""

    name: str
    compute_capability: str


class Cuda:
    """Checked calls. `cudart` is `cuda.bindings.runtime`, or a double of it. Addresses and sizes are in bytes."""

    def __init__(self, cudart: Any) -> None:
        self._cudart = cudart

    def device(self) -> Device:
        """The current device. Raises CudaError when there is none."""
        cudart = self._cudart
        index = self._checked("cudaGetDevice", cudart.cudaGetDevice())
        found = self._checked("cudaGetDeviceProperties", cudart.cudaGetDeviceProperties(index))
        return Device(found.name.split(b"\0")[0].decode(), f"{found.major}.{found.minor}")

    def create_stream(self) -> Any:
        """A stream of its own, which does not wait for the default one; `int` of it is its handle."""
        cudart = self._cudart
        flags = cudart.cudaStreamNonBlocking
        return self._checked("cudaStreamCreateWithFlags", cudart.cudaStreamCreateWithFlags(flags))

    def destroy_stream(self, stream: Any) -> None:
        """Once its work is done."""
        self._checked("cudaStreamDestroy", self._cudart.cudaStreamDestroy(stream))

    def synchronize(self, stream: Any) -> None:
        """Wait until all work of `stream` is done; faults of that work are raised here."""
        self._checked("cudaStreamSynchronize", self._cudart.cudaStreamSynchronize(stream))

    def allocate(self, size: int) -> int:
        """Address of new device memory."""
        return int(self._checked(f"cudaMalloc of {size} bytes", self._cudart.cudaMalloc(size)))

    def free(self, address: int) -> None:
        """Give device memory back."""
        self._checked("cudaFree", self._cudart.cudaFree(address))

    def allocate_pinned(self, size: int) -> int:
        """Address of new host memory that the device copies from and to while the host goes on."""
        return int(self._checked(f"cudaMallocHost of {size} bytes", self._cudart.cudaMallocHost(size)))

    def free_pinned(self, address: int) -> None:
        """Give host memory back; no array may look at it any more."""
        self._checked("cudaFreeHost", self._cudart.cudaFreeHost(address))

    def copy_to_device(self, device: int, host: int, size: int, stream: Any) -> None:
        """Queue a copy from pinned memory."""
        kind = self._cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._checked("cudaMemcpyAsync", self._cudart.cudaMemcpyAsync(device, host, size, kind, stream))

    def copy_to_host(self, host: int, device: int, size: int, stream: Any) -> None:
        """Queue a copy to pinned memory; it is complete when the stream was synchronised."""
        kind = self._cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._checked("cudaMemcpyAsync", self._cudart.cudaMemcpyAsync(host, device, size, kind, stream))

    def record(self, stream: Any, work: Callable[[], None]) -> Any:
        """What `work` queues on `stream`, which does not run, ready to be launched. Other threads may go on using CUDA.

        Raises what `work` raises, and CudaError when something in it cannot be recorded.
        """
        cudart = self._cudart
        mode = cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._checked("cudaStreamBeginCapture", cudart.cudaStreamBeginCapture(stream, mode))
        try:
            work()
        except BaseException:
            cudart.cudaStreamEndCapture(stream)  # the stream has to be left usable; what it holds is of no use
            raise
        graph = self._checked("cudaStreamEndCapture", cudart.cudaStreamEndCapture(stream))
        try:
            return self._checked("cudaGraphInstantiate", cudart.cudaGraphInstantiate(graph, 0))
        finally:
            self._checked("cudaGraphDestroy", cudart.cudaGraphDestroy(graph))

    def launch(self, recorded: Any, stream: Any) -> None:
        """Queue what was recorded."""
        self._checked("cudaGraphLaunch", self._cudart.cudaGraphLaunch(recorded, stream))

    def destroy_recorded(self, recorded: Any) -> None:
        """Give a recording back."""
        self._checked("cudaGraphExecDestroy", self._cudart.cudaGraphExecDestroy(recorded))

    def _checked(self, call: str, answer: tuple[Any, ...]) -> Any:
        """The value of an answer, None where it has none."""
        status, *values = answer
        if int(status) != 0:
            _, told = self._cudart.cudaGetErrorString(status)
            raise CudaError(f"{call}: {told.decode() if isinstance(told, bytes) else told} (CUDA error {int(status)})")
        return values[0] if values else None


def open_cuda() -> Cuda:
    """CUDA of this process. Raises EngineUnavailable when its bindings are not installed."""
    try:
        return Cuda(importlib.import_module("cuda.bindings.runtime"))
    except ImportError as error:
        raise EngineUnavailable(f"the package cuda-bindings cannot be imported ({error}); {_INSTALL}") from error


def pinned_array(address: int, size: int) -> npt.NDArray[np.uint8]:
    """The bytes of pinned memory as an array; it must not outlive the memory."""
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))


def driver_version(file: Path = _DRIVER_FILE) -> str | None:
    """Version of the kernel's NVIDIA driver, as in "580.65.06"; None where the kernel does not say."""
    if not file.is_file():
        return None
    found = re.search(r"\b\d+\.\d+(\.\d+)?\b", file.read_text(encoding="utf-8", errors="replace"))
    return found[0] if found else None

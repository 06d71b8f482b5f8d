"""Where the torch GPU engine's work runs: on a CUDA stream of its own, or, the same steps, on the CPU.

All that is CUDA's alone is in `CudaQueue`: pinned memory, the stream, recording (CUDA graphs). What uses it runs on the
CPU too, so that tests reach it on a machine without a GPU.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from maskstream.errors import EngineUnavailable

Work = Callable[[], tuple[Tensor, ...]]


@dataclass(frozen=True)
class Recording:
    """Work that is launched as a whole: it reads the tensors it was recorded with and writes to `outputs`."""

    outputs: tuple[Tensor, ...]
    launch: Callable[[], None]


class Queue(Protocol):
    """Work that runs one piece after the other on `device`."""

    device: torch.device

    def staging(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Memory of the host that `device` copies from and to while the host goes on."""
        ...

    def running(self) -> AbstractContextManager[None]:
        """What is done inside is queued here."""
        ...

    def record(self, work: Work) -> Recording | None:
        """Work that has run before, recorded and not run; None where nothing is gained. Raises what `work` raises."""
        ...

    def wait(self) -> None:
        """Until all that was queued is done."""
        ...


class HostQueue:
    """The CPU: work is done when it was called."""

    device = torch.device("cpu")

    def staging(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """See `Queue.staging`."""
        return torch.empty(shape, dtype=dtype)

    def running(self) -> AbstractContextManager[None]:
        """See `Queue.running`."""
        return contextlib.nullcontext()

    def record(self, work: Work) -> Recording | None:
        """See `Queue.record`."""
        return None

    def wait(self) -> None:
        """See `Queue.wait`."""


class CudaQueue:
    """A CUDA stream. Its recordings share one pool of memory, which is sound since they run one after the other and
    each one's outputs are copied before the next is launched.
    """

    def __init__(self, device: str = "cuda") -> None:
        """Raises EngineUnavailable when there is no such GPU."""
        self.device = torch.device(torch.device(device).type, refuse_missing_gpu(device))
        self._stream = torch.cuda.Stream(self.device)
        self._pool = torch.cuda.graph_pool_handle()

    def staging(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """See `Queue.staging`."""
        return torch.empty(shape, dtype=dtype, pin_memory=True)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """See `Queue.running`."""
        with torch.cuda.stream(self._stream):
            yield

    def record(self, work: Work) -> Recording | None:
        """See `Queue.record`. Other threads may go on using CUDA."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            outputs = work()
        return Recording(outputs, graph.replay)

    def wait(self) -> None:
        """See `Queue.wait`; faults of the work are raised here."""
        self._stream.synchronize()


def open_queue(device: str) -> Queue:
    """The queue of "cpu" or "cuda". Raises EngineUnavailable for a GPU that is not there, never another device."""
    return HostQueue() if device == "cpu" else CudaQueue(device)


def refuse_missing_gpu(device: str) -> int:
    """Index of the GPU `device`, as in "cuda:1". Raises EngineUnavailable, with what to do, if there is none."""
    if torch.version.cuda is None:
        raise EngineUnavailable(
            f"{device} was asked for and torch {torch.__version__} is a build without CUDA; install a torch build with "
            "CUDA, or choose another engine"
        )
    if not torch.cuda.is_available():
        raise EngineUnavailable(
            f"{device} was asked for and torch sees no GPU; check that nvidia-smi lists one, that its driver is new "
            f"enough for CUDA {torch.version.cuda}, and that a container is run with --gpus all"
        )
    index = torch.device(device).index or 0
    if index >= torch.cuda.device_count():
        raise EngineUnavailable(f"{device} was asked for and torch sees {torch.cuda.device_count()} GPUs")
    return index

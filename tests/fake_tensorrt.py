"""TensorRT and CUDA without a GPU: doubles with the real names and argument orders, that keep to the real rules.

Work queued on a stream is done when the stream is synchronised, not before; addresses are of real memory, and a graph
that runs reads and writes what it was given the address of; what is queued while the stream is recorded runs when the
recording is launched. `calls` has the name of every call, in order. test_tensorrt_surface.py holds the names to the
real libraries.
"""

import ctypes
import enum
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from export.graphs import Port

PORTS = {
    "encode_frame": (
        [Port("frame", ("B", "16*h", "16*w", 3), "uint8")],
        [
            Port("key", ("B", 3, "h", "w")),
            Port("context", ("B", 2, "h", "w")),
            Port("skip8", ("B", 1, "2*h", "2*w")),
            Port("skip4", ("B", 1, "4*h", "4*w")),
        ],
    ),
    "encode_mask": (
        [Port("context", ("B", 2, "h", "w")), Port("soft_masks", ("B", "O", "4*h", "4*w"))],
        [Port("value", ("B", "O", 2, "h*w"))],
    ),
    "segment": (
        [
            Port("key", ("B", 3, "h", "w")),
            Port("context", ("B", 2, "h", "w")),
            Port("skip8", ("B", 1, "2*h", "2*w")),
            Port("skip4", ("B", 1, "4*h", "4*w")),
            Port("bank_key", ("B", 3, 4, "h", "w")),
            Port("bank_value", ("B", "O", 2, 4, "h", "w")),
            Port("valid", ("B", "O", 4)),
            Port("age", ("B", 4)),
        ],
        [Port("decoded", ("B", "O", "4*h", "4*w")), Port("coarse", ("B", "O", "4*h", "4*w"))],
    ),
}


class Status(enum.IntEnum):
    SUCCESS = 0
    FAILURE = 700


class FakeCudart:
    """`cuda.bindings.runtime`. `failing` names calls that answer with an error from now on."""

    cudaStreamNonBlocking = 1  # noqa: N815
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice="to device", cudaMemcpyDeviceToHost="to host")  # noqa: N815
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal="thread")  # noqa: N815

    def __init__(self, calls: list[str]) -> None:
        self.calls, self.failing = calls, set[str]()
        self.memory: dict[int, Any] = {}
        self.queue: list[Callable[[], None]] = []
        self.recorded: list[Callable[[], None]] | None = None
        self.alive = {"stream": 0, "recording": 0}

    def queue_work(self, work: Callable[[], None]) -> None:
        (self.queue if self.recorded is None else self.recorded).append(work)

    def __getattr__(self, name: str) -> Any:
        """Every call goes through here: noted, and failing where it was told to."""
        work = getattr(type(self), f"do_{name}", None)
        if work is None:
            raise AttributeError(name)

        def call(*arguments: Any) -> tuple[Any, ...]:
            self.calls.append(name)
            if name in self.failing:
                return (Status.FAILURE, None)
            answer = work(self, *arguments)
            return (Status.SUCCESS,) if answer is None else (Status.SUCCESS, answer)

        return call

    def do_cudaGetErrorString(self, status: Status) -> bytes:  # noqa: N802
        return b"as it was told to"

    def do_cudaGetDevice(self) -> int:  # noqa: N802
        return 0

    def do_cudaGetDeviceProperties(self, device: int) -> Any:  # noqa: N802
        return SimpleNamespace(name=b"Some GPU\0\0", major=8, minor=9)

    def do_cudaStreamCreateWithFlags(self, flags: int) -> int:  # noqa: N802
        self.alive["stream"] += 1
        return 77

    def do_cudaStreamDestroy(self, stream: int) -> None:  # noqa: N802
        self.alive["stream"] -= 1

    def do_cudaStreamSynchronize(self, stream: int) -> None:  # noqa: N802
        queued, self.queue = self.queue, []
        for work in queued:
            work()

    def do_cudaMalloc(self, size: int) -> int:  # noqa: N802
        block = (ctypes.c_uint8 * size)()
        self.memory[ctypes.addressof(block)] = block
        return ctypes.addressof(block)

    do_cudaMallocHost = do_cudaMalloc  # noqa: N815

    def do_cudaFree(self, address: int) -> None:  # noqa: N802
        del self.memory[address]

    do_cudaFreeHost = do_cudaFree  # noqa: N815

    def do_cudaMemcpyAsync(self, to: int, source: int, count: int, kind: str, stream: int) -> None:  # noqa: N802
        assert max(len(self.memory[to]), len(self.memory[source])) >= count
        self.queue_work(lambda: ctypes.memmove(to, source, count) and None)

    def do_cudaStreamBeginCapture(self, stream: int, mode: str) -> None:  # noqa: N802
        self.recorded = []

    def do_cudaStreamEndCapture(self, stream: int) -> Any:  # noqa: N802
        graph, self.recorded = self.recorded, None
        return graph

    def do_cudaGraphInstantiate(self, graph: Any, flags: int) -> Any:  # noqa: N802
        self.alive["recording"] += 1
        return tuple(graph)

    def do_cudaGraphDestroy(self, graph: Any) -> None:  # noqa: N802
        pass

    def do_cudaGraphLaunch(self, recording: Any, stream: int) -> None:  # noqa: N802
        self.queue.extend(recording)

    def do_cudaGraphExecDestroy(self, recording: Any) -> None:  # noqa: N802
        self.alive["recording"] -= 1


def expected(inputs: dict[str, Any], output: int) -> float:
    """What a graph of the double answers everywhere in its output number `output`."""
    return float(sum(np.asarray(array, np.float64).mean() for array in inputs.values())) + output


class FakeContext:
    """Refuses to run before all shapes and all addresses are set, as the real one does."""

    def __init__(self, engine: "FakeEngine", config: Any) -> None:
        self.engine, self.config = engine, config
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.accepts = True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.engine.cudart.calls.append(f"set_input_shape {name}")
        self.shapes[name] = tuple(shape)
        return True

    def infer_shapes(self) -> list[str]:
        return [port.name for port in self.engine.inputs if port.name not in self.shapes]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        assert not self.infer_shapes(), "an output has no shape before the inputs have theirs"
        axes: dict[str, int] = {}
        for port in self.engine.inputs:
            for side, length in zip(port.shape, self.shapes[port.name], strict=True):
                if isinstance(side, str):
                    factor, _, axis = side.rpartition("*")
                    axes[axis] = length // int(factor or 1)
        return self.engine.port(name).size(axes)

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self.engine.cudart.calls.append(f"set_tensor_address {name}")
        self.addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        self.engine.cudart.calls.append("execute_async_v3")
        assert stream_handle == 77
        assert set(self.addresses) == {port.name for port in self.engine.ports}, "a tensor has no address"
        shapes = {port.name: self.get_tensor_shape(port.name) for port in self.engine.ports}
        if self.accepts:
            self.engine.cudart.queue_work(lambda: self._run(shapes, dict(self.addresses)))
        return self.accepts

    def _run(self, shapes: dict[str, tuple[int, ...]], addresses: dict[str, int]) -> None:
        memory = self.engine.cudart.memory

        def array(port: Port) -> Any:
            block = np.frombuffer(memory[addresses[port.name]], np.uint8)
            used = block[: int(np.prod(shapes[port.name])) * np.dtype(port.dtype).itemsize]
            return used.view(port.dtype).reshape(shapes[port.name])

        inputs = {port.name: array(port) for port in self.engine.inputs}
        for index, port in enumerate(self.engine.outputs):
            array(port)[...] = expected(inputs, index)


class FakeEngine:
    """Deserialised: its file holds the graph's name. Tensors are listed with the outputs first, in any order."""

    def __init__(self, graph: str, cudart: FakeCudart, most: dict[str, int]) -> None:
        self.cudart, self.most = cudart, most
        self.inputs, self.outputs = PORTS[graph]
        self.ports = [*reversed(self.outputs), *self.inputs]
        self.num_io_tensors = len(self.ports)
        self.contexts: list[FakeContext] = []

    def port(self, name: str) -> Port:
        return next(port for port in self.ports if port.name == name)

    def create_runtime_config(self) -> Any:
        return SimpleNamespace(cuda_graph_strategy=None)

    def create_execution_context(self, runtime_config: Any = None) -> FakeContext:
        self.contexts.append(FakeContext(self, runtime_config))
        return self.contexts[-1]

    def get_tensor_name(self, index: int) -> str:
        return self.ports[index].name

    def get_tensor_mode(self, name: str) -> str:
        return "input" if name in [port.name for port in self.inputs] else "output"

    def get_tensor_dtype(self, name: str) -> str:
        return self.port(name).dtype

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        assert profile_index == 0
        port = self.port(name)
        return [port.size(dict.fromkeys("BOhw", 1)), port.size(self.most), port.size(self.most)]


class Module(SimpleNamespace):
    """A module: one is never equal to another."""

    __hash__ = object.__hash__


def fake_tensorrt(cudart: FakeCudart, most: dict[str, int], name: str = "tensorrt", version: str = "10.16.1.11") -> Any:
    """The module. `engines` collects what its runtime loads; a file named in `damaged` does not load."""
    engines: dict[str, FakeEngine] = {}
    damaged: set[str] = set()

    class ILogger:
        pass

    class Runtime:
        def __init__(self, logger: Any) -> None:
            self.logger = logger

        def deserialize_cuda_engine(self, serialized_engine: bytes) -> FakeEngine | None:
            graph = serialized_engine.decode()
            if graph in damaged:
                self.logger.log(SimpleNamespace(name="ERROR"), "Magic tag does not match")
                return None
            engines[graph] = FakeEngine(graph, cudart, most)
            return engines[graph]

    return Module(
        __name__=name,
        __version__=version,
        ILogger=ILogger,
        Runtime=Runtime,
        TensorIOMode=SimpleNamespace(INPUT="input", OUTPUT="output"),
        nptype=np.dtype,
        engines=engines,
        damaged=damaged,
    )

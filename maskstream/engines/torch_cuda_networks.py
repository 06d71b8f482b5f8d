"""The torch engine for a GPU: half precision, one CUDA graph for each set of shapes, one wait for each call.

A call copies its inputs into pinned memory, queues their way to the GPU, the work and the way back, and waits once. The
first call of new shapes runs as it is, in which cuDNN chooses its kernels; the second is recorded, and from then on the
work is launched as a whole. torch.compile is a setting and not the default: it takes tens of seconds for every new
number of objects, in the middle of a stream. On the device "cpu" the same steps run without recording, for the tests.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from maskstream.artifact import Artifact
from maskstream.checkpoint import Checkpoint
from maskstream.engines.shape_cache import Inputs, ShapeCache
from maskstream.engines.torch_networks import TorchNetworks
from maskstream.engines.torch_precision import DTYPES, prepared
from maskstream.engines.torch_queue import Queue, Recording, open_queue, refuse_missing_gpu
from maskstream.errors import EngineUnavailable
from maskstream.model.segmenter import Features, Segmenter
from maskstream.networks import F32, FrameFeatures, MemoryView, SoftMasks

log = logging.getLogger(__name__)

Function = Callable[..., tuple[Tensor, ...]]


@dataclass(frozen=True)
class TorchCudaSettings:
    """How the networks run. Raises ValueError for a precision that is not known."""

    precision: str = "fp16"  # or "bf16", "fp32"
    compile_mode: str | None = None  # of torch.compile, as in "default" or "max-autotune-no-cudagraphs"
    shapes_kept: int = 8  # of each network: sets of input shapes with buffers and a recording on the GPU
    device: str = "cuda"  # or "cuda:1", or "cpu" for the tests

    def __post_init__(self) -> None:
        if self.precision not in DTYPES:
            raise ValueError(f"precision {self.precision!r} is not one of {', '.join(DTYPES)}")


class TorchCudaNetworks:
    """Satisfies `Networks`. Not thread-safe: all calls share one stream and its buffers."""

    engine = "torch_cuda"

    def __init__(self, segmenter: Segmenter, settings: TorchCudaSettings, queue: Queue | None = None) -> None:
        """`segmenter` is taken over and changed. Raises EngineUnavailable when there is no such GPU."""
        self._queue = queue or open_queue(settings.device)
        self.spec, self.precision = segmenter.config.spec(), settings.precision
        self._dtype = DTYPES[settings.precision]
        _refuse_emulated(self._dtype, self._queue.device)
        self._segmenter = prepared(segmenter, self._dtype, self._queue.device)
        functions: dict[str, Function] = {
            "encode_frame": self._encode_frame,
            "encode_mask": self._encode_mask,
            "segment": self._segment,
        }
        self._networks = {
            name: ShapeCache(settings.shapes_kept, _maker(name, function, self._queue, settings.compile_mode))
            for name, function in functions.items()
        }

    def encode_frame(self, frame_BHW3: npt.NDArray[np.uint8]) -> FrameFeatures:
        """See `Networks.encode_frame`."""
        return FrameFeatures(*self._run("encode_frame", {"frame": frame_BHW3}))

    def encode_mask(self, features: FrameFeatures, soft_BOHW: F32) -> F32:
        """See `Networks.encode_mask`."""
        (value_BOVN,) = self._run("encode_mask", {"context": features.context, "soft_masks": soft_BOHW})
        return value_BOVN

    def segment(self, features: FrameFeatures, memory: MemoryView) -> SoftMasks:
        """See `Networks.segment`."""
        bank = {f"bank_{name}": array for name, array in memory._asdict().items()}
        return SoftMasks(*self._run("segment", {**features._asdict(), **bank}))

    @torch.inference_mode()
    def _run(self, name: str, inputs: Inputs) -> list[F32]:
        """Outputs in arrays of their own. Raises EngineUnavailable when the GPU has too little memory for them."""
        try:
            return self._networks[name].of(inputs).run(inputs)
        except torch.OutOfMemoryError as error:
            self._networks[name].clear()
            shapes = ", ".join(f"{key} {list(array.shape)}" for key, array in inputs.items())
            raise EngineUnavailable(
                f"{name}: the GPU has too little memory for {shapes}; use fewer objects or streams at once, or a "
                "smaller short_side"
            ) from error

    def _encode_frame(self, frame_BHW3: Tensor) -> tuple[Tensor, ...]:
        return tuple(_answer(feature) for feature in self._segmenter.encode_frame(frame_BHW3))

    def _encode_mask(self, context: Tensor, soft_BOHW: Tensor) -> tuple[Tensor, ...]:
        return (_answer(self._segmenter.encode_mask(self._map(context), soft_BOHW.to(self._dtype))),)

    def _segment(
        self, key: Tensor, context: Tensor, skip8: Tensor, skip4: Tensor, *memory: Tensor
    ) -> tuple[Tensor, ...]:
        """Keys, trust and age stay float32: the affinity is computed in it."""
        features = Features(key, self._map(context), self._map(skip8), self._map(skip4))
        bank = MemoryView._fields
        cast = (tensor.to(self._dtype) if bank[i] == "value" else tensor for i, tensor in enumerate(memory))
        return tuple(_answer(masks) for masks in self._segmenter.segment(features, *cast))

    def _map(self, feature: Tensor) -> Tensor:
        return feature.to(dtype=self._dtype, memory_format=torch.channels_last)


class _FixedShapes:
    """One network for one set of input shapes: buffers on both sides, and its recording once there is one."""

    def __init__(self, name: str, function: Function, queue: Queue, inputs: Inputs) -> None:
        self._name, self._function, self._queue = name, function, queue
        with queue.running():
            staged = {key: queue.staging(array.shape, _dtype_of(array)) for key, array in inputs.items()}
            self._inputs = {key: torch.empty_like(tensor, device=queue.device) for key, tensor in staged.items()}
        self._staged = {key: (tensor, tensor.numpy()) for key, tensor in staged.items()}
        self._answers: tuple[Tensor, ...] = ()
        self._recording: Recording | None = None
        self._calls = 0

    def run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> list[F32]:
        with self._queue.running():
            for key, (staged, array) in self._staged.items():
                np.copyto(array, inputs[key])
                self._inputs[key].copy_(staged, non_blocking=True)
            found = self._outputs()
            if not self._answers:
                self._answers = tuple(self._queue.staging(tuple(one.shape), one.dtype) for one in found)
            for answer, output in zip(self._answers, found, strict=True):
                answer.copy_(output, non_blocking=True)
        self._queue.wait()
        return [answer.numpy().copy() for answer in self._answers]

    def _outputs(self) -> tuple[Tensor, ...]:
        if self._calls == 1:
            self._recording = self._recorded()
        self._calls += 1
        if self._recording is None:
            return self._work()
        self._recording.launch()
        return self._recording.outputs

    def _work(self) -> tuple[Tensor, ...]:
        return self._function(*self._inputs.values())

    def _recorded(self) -> Recording | None:
        """None, with a warning, where CUDA cannot record the work: calls then run as the first did."""
        try:
            return self._queue.record(self._work)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            log.warning("%s: runs call by call, since CUDA cannot record it: %s", self._name, error)
            return None


def _maker(name: str, function: Function, queue: Queue, compile_mode: str | None) -> Callable[[Inputs], _FixedShapes]:
    def make(inputs: Inputs) -> _FixedShapes:
        return _FixedShapes(name, function if compile_mode is None else compiled(function, compile_mode), queue, inputs)

    return make


def compiled(function: Function, mode: str) -> Function:
    """`function` compiled for the shapes of its first call, apart from all other compilations of it.

    Without that, torch counts them together and from the ninth set of shapes on runs uncompiled, with a line in its
    log. What cannot be compiled as a whole is an error.
    """
    untyped: Any = torch.compile  # torch's own types do not know isolate_recompiles
    separate: Function = untyped(function, mode=mode, dynamic=False, fullgraph=True, isolate_recompiles=True)
    return separate


def open_networks(artifact: Artifact, threads: int | None) -> TorchCudaNetworks:
    """The engine as `maskstream.engines` opens it, in fp16; `threads` are of CPUs and mean nothing here."""
    return _open(artifact, "torch_cuda", TorchCudaSettings())


def open_bf16(artifact: Artifact, threads: int | None) -> TorchCudaNetworks:
    """The engine in bfloat16: for weights whose activations leave the range of fp16."""
    return _open(artifact, "torch_cuda_bf16", TorchCudaSettings(precision="bf16"))


def open_fp32(artifact: Artifact, threads: int | None) -> TorchCudaNetworks:
    """The engine in float32: what recording and folding gain without any loss of precision."""
    return _open(artifact, "torch_cuda_fp32", TorchCudaSettings(precision="fp32"))


def open_compiled(artifact: Artifact, threads: int | None) -> TorchCudaNetworks:
    """The engine in fp16, compiled: for streams whose number of objects hardly changes."""
    return _open(artifact, "torch_cuda_compiled", TorchCudaSettings(compile_mode="default"))


def open_eager(artifact: Artifact, threads: int | None) -> TorchNetworks:
    """Eager float32 on the GPU: what the others are measured against there."""
    refuse_missing_gpu("cuda")
    _exact_float32()
    networks = TorchNetworks(Checkpoint.load(artifact.checkpoint).segmenter(), "cuda")
    networks.engine = "torch_cuda_eager"
    return networks


def _open(artifact: Artifact, name: str, settings: TorchCudaSettings) -> TorchCudaNetworks:
    queue = open_queue(settings.device)  # before the checkpoint is read: a missing GPU is told at once
    _exact_float32()
    torch.backends.cudnn.benchmark = True  # shapes are fixed, so that trying kernels pays
    networks = TorchCudaNetworks(Checkpoint.load(artifact.checkpoint).segmenter(), settings, queue)
    networks.engine = name
    return networks


def _exact_float32() -> None:
    """No TF32 in this process: it keeps 10 bits where the read-out subtracts large squares."""
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def _refuse_emulated(dtype: torch.dtype, device: torch.device) -> None:
    if (
        dtype == torch.bfloat16
        and device.type == "cuda"
        and not torch.cuda.is_bf16_supported(including_emulation=False)
    ):
        raise EngineUnavailable(
            "this GPU has no bfloat16 units (it takes compute capability 8.0); use torch_cuda (fp16)"
        )


def _answer(tensor: Tensor) -> Tensor:
    return tensor.float().contiguous()


def _dtype_of(array: npt.NDArray[Any]) -> torch.dtype:
    return torch.uint8 if array.dtype == np.uint8 else torch.float32

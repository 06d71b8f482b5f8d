"""The torch engine: the reference that the others are measured against, and a real engine on a machine with torch."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from maskstream.artifact import Artifact
from maskstream.checkpoint import Checkpoint
from maskstream.model.segmenter import Features, Segmenter
from maskstream.networks import F32, FrameFeatures, MemoryView, NetworkSpec, SoftMasks


class TorchNetworks:
    """Satisfies `Networks` with eager torch in float32 on `device`."""

    engine = "torch"
    precision = "fp32"

    def __init__(self, segmenter: Segmenter, device: str = "cpu") -> None:
        self.spec: NetworkSpec = segmenter.config.spec()
        self._segmenter = segmenter.eval().to(device)
        self._device = device

    @torch.inference_mode()
    def encode_frame(self, frame_BHW3: npt.NDArray[np.uint8]) -> FrameFeatures:
        """See `Networks.encode_frame`."""
        writable = np.require(frame_BHW3, requirements="W")  # torch takes no read-only memory
        features = self._segmenter.encode_frame(torch.from_numpy(writable).to(self._device))
        return FrameFeatures(*(_numpy(tensor) for tensor in features))

    @torch.inference_mode()
    def encode_mask(self, features: FrameFeatures, soft_BOHW: F32) -> F32:
        """See `Networks.encode_mask`."""
        return _numpy(self._segmenter.encode_mask(self._tensor(features.context), self._tensor(soft_BOHW)))

    @torch.inference_mode()
    def segment(self, features: FrameFeatures, memory: MemoryView) -> SoftMasks:
        """See `Networks.segment`."""
        tensors = Features(*(self._tensor(array) for array in features))
        masks = self._segmenter.segment(tensors, *(self._tensor(array) for array in memory))
        return SoftMasks(*(_numpy(tensor) for tensor in masks))

    def _tensor(self, array: F32) -> Tensor:
        return torch.from_numpy(array).to(self._device)


def open_networks(artifact: Artifact, threads: int | None) -> TorchNetworks:
    """The engine as `maskstream.engines` opens it: on the CPU, from the artifact's own checkpoint."""
    if threads:
        torch.set_num_threads(threads)
    return TorchNetworks(Checkpoint.load(artifact.checkpoint).segmenter())


def _numpy(tensor: Tensor) -> F32:
    array: F32 = tensor.float().cpu().numpy()
    return array

"""The TensorRT-RTX engine: what `tensorrt_networks` does, on the module `tensorrt_rtx`.

It is an engine of its own because its packages, its GPUs and its engine files are: one name never means the other.
"""

from maskstream.artifact import Artifact
from maskstream.engine_sidecar import RTX
from maskstream.engines.cuda_runtime import open_cuda
from maskstream.engines.tensorrt_library import import_tensorrt
from maskstream.engines.tensorrt_networks import TensorRtNetworks


def open_networks(artifact: Artifact, threads: int | None) -> TensorRtNetworks:
    """The engine as `maskstream.engines` opens it; `threads` are of CPUs and mean nothing here."""
    return TensorRtNetworks(artifact, import_tensorrt(RTX), open_cuda())

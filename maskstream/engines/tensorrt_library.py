"""What builder and engine share of TensorRT: finding the library, its messages, and the machine as an engine sees it.

`tensorrt` 10 and 11 and `tensorrt_rtx` are one API with gaps. The module is a parameter throughout, called `trt`, and
where the three differ the module's own attributes decide, never its name or version.
"""

import importlib
import logging
from collections import deque
from functools import cache
from typing import Any

from maskstream.engine_sidecar import FULL, RTX, Machine
from maskstream.engines.cuda_runtime import Cuda, driver_version
from maskstream.errors import EngineUnavailable

_KEPT = 1000  # messages of a kind

log = logging.getLogger(__name__)


def import_tensorrt(flavour: str) -> Any:
    """The module `tensorrt` or `tensorrt_rtx`. Raises EngineUnavailable when it is not installed or does not load."""
    assert flavour in (FULL, RTX), flavour
    try:
        return importlib.import_module(flavour)
    except (ImportError, OSError) as error:
        packages = "'maskstream[tensorrt]'" if flavour == FULL else "'maskstream[rtx]'"
        raise EngineUnavailable(f"{flavour} cannot be imported ({error}); pip install {packages}") from error


def builds_for_many(trt: Any) -> bool:
    """Whether the library builds for a list of compute capabilities, without a GPU (RTX), or for the GPU at hand."""
    return hasattr(trt, "ComputeCapability")


def running_machine(trt: Any, cuda: Cuda | None) -> Machine:
    """Library and GPU of this process; `cuda` None means there is no GPU. Raises CudaError when the GPU is unwell."""
    if cuda is None:
        return Machine(trt.__name__, trt.__version__)
    device = cuda.device()
    return Machine(trt.__name__, trt.__version__, device.name, device.compute_capability, driver_version())


class Messages:
    """What the library says: errors are kept for the exception that follows, sizes for the record, warnings logged."""

    def __init__(self) -> None:
        self.errors: deque[str] = deque(maxlen=_KEPT)  # of a server that runs for months
        self.notes: deque[str] = deque(maxlen=_KEPT)

    def take(self, severity: str, text: str) -> None:
        """One message; `severity` is the name of the library's own."""
        if severity in ("ERROR", "INTERNAL_ERROR"):
            self.errors.append(text)
            log.debug("%s", text)
        elif severity == "WARNING":
            log.warning("%s", text)
        elif severity == "INFO":
            self.notes.append(text)

    def told(self) -> str:
        """All errors in one line."""
        return "; ".join(" ".join(text.split()) for text in self.errors) or "the library gave no reason"


def library_log(trt: Any, messages: Messages) -> Any:
    """The library's logger, which hands everything to `messages` from now on.

    One for each process: the library registers the first it is given as long as anything made with it lives, warns of
    any other, and may not talk to it.
    """
    logger = _only_log(trt)
    logger.messages = messages
    return logger


@cache
def _only_log(trt: Any) -> Any:
    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)  # what pybind asks for, in place of super()
            self.messages = Messages()

        def log(self, severity: Any, text: str) -> None:
            self.messages.take(severity.name, text)

    return Log()

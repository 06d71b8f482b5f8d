"""int8: fp32 graphs to graphs whose convolutions compute in 8 bits, calibrated on clips and judged by their masks."""

from maskstream.engines import onnxruntime_library  # before anything here imports onnxruntime

__all__ = ["onnxruntime_library"]

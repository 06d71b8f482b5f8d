"""What the engines that run ONNX graphs share: names and shapes of the graphs' inputs, and how many threads to use."""

import os
from typing import Any

from maskstream.networks import F32, FrameFeatures, MemoryView


def encode_mask_inputs(features: FrameFeatures, soft_BOHW: F32) -> dict[str, Any]:
    """Inputs of the `encode_mask` graph by name."""
    return {"context": features.context, "soft_masks": soft_BOHW}


def segment_inputs(features: FrameFeatures, memory: MemoryView) -> dict[str, Any]:
    """Inputs of the `segment` graph by name. The bank's tokens become rows and columns, as all inputs have."""
    height, width = features.key.shape[2:]
    return {
        **features._asdict(),
        "bank_key": memory.key.reshape(*memory.key.shape[:3], height, width),
        "bank_value": memory.value.reshape(*memory.value.shape[:4], height, width),
        "valid": memory.valid,
        "age": memory.age,
    }


def cores() -> int:
    """CPU cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

"""Networks without learning, so that tests of everything around them are instant and exact.

Keys are the colours of the tokens, values are the masks themselves, and `segment` copies each object's newest stored
mask forward. A test can slow the fake down, hold it at a gate, or let it fail.
"""

import threading
import time

import numpy as np
import numpy.typing as npt

from maskstream.networks import F32, FrameFeatures, MemoryView, NetworkSpec, SoftMasks

STRIDE = 16


class FakeNetworks:
    """Satisfies `Networks`. While `gate` is cleared, the next frame waits; `failure` is raised once, if given."""

    engine = "fake"
    precision = "fp32"

    def __init__(self, delay_seconds: float = 0.0) -> None:
        self.spec = NetworkSpec("fake", STRIDE, 4, 3, 1, 480, 4, 5)
        self.delay_seconds = delay_seconds
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)  # released whenever a frame has reached the networks
        self.failure: Exception | None = None

    def encode_frame(self, frame_BHW3: npt.NDArray[np.uint8]) -> FrameFeatures:
        self.entered.release()
        self.gate.wait()
        time.sleep(self.delay_seconds)
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        B, H, W, _ = frame_BHW3.shape
        cells = frame_BHW3.reshape(B, H // STRIDE, STRIDE, W // STRIDE, STRIDE, 3).mean(axis=(2, 4), dtype=np.float32)
        key = cells.transpose(0, 3, 1, 2) + 1.0
        key /= np.linalg.norm(key, axis=1, keepdims=True)
        skips = (np.zeros((B, 1, H // stride, W // stride), np.float32) for stride in (8, 4))
        return FrameFeatures(key, key, *skips)

    def encode_mask(self, features: FrameFeatures, soft_BOHW: F32) -> F32:
        B, O, H, W = soft_BOHW.shape  # noqa: E741
        cells = soft_BOHW.reshape(B, O, H // 4, 4, W // 4, 4).mean(axis=(3, 5))
        return cells.reshape(B, O, 1, -1)

    def segment(self, features: FrameFeatures, memory: MemoryView) -> SoftMasks:
        h, w = features.key.shape[2:]
        age_BOT = np.where(memory.valid > 0, memory.age[:, None], np.inf)
        newest_BO = age_BOT.argmin(axis=2)
        stored_BON = np.take_along_axis(memory.value[:, :, 0], newest_BO[:, :, None, None], axis=2)[:, :, 0]
        seen_BO11 = np.isfinite(age_BOT.min(axis=2))[:, :, None, None]
        soft = stored_BON.reshape(*newest_BO.shape, h, w).repeat(4, axis=2).repeat(4, axis=3) * seen_BO11
        return SoftMasks(soft.astype(np.float32), soft.astype(np.float32))

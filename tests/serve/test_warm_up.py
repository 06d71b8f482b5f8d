"""Warming up: every shape that will be served has run, and the batch is what measures best."""

import time

import numpy as np
import pytest
from fakes import FakeNetworks

from maskstream.networks import FrameFeatures, MemoryView, SoftMasks
from serve.metrics import Identity
from serve.model import Model
from serve.warm_up import OBJECTS, probe, warm_up

SIZE = (64, 96)


class Timed(FakeNetworks):
    """A run takes `fixed` seconds and `each` more for every frame in it."""

    def __init__(self, fixed: float, each: float) -> None:
        super().__init__()
        self.fixed, self.each = fixed, each
        self.seen: set[tuple[int, int]] = set()

    def encode_frame(self, frame_BHW3: np.ndarray) -> FrameFeatures:
        time.sleep(self.fixed + self.each * len(frame_BHW3))
        return super().encode_frame(frame_BHW3)

    def segment(self, features: FrameFeatures, memory: MemoryView) -> SoftMasks:
        self.seen.add(memory.valid.shape[:2])
        return super().segment(features, memory)


def warmed(networks: FakeNetworks, most: int = 8, fixed: int = 0) -> Model:
    model = Model(networks, Identity("", "", "", "", ""))
    for job in warm_up(model, SIZE, 0, most, fixed):
        job()
    return model


def test_frames_that_are_cheaper_together_are_run_together() -> None:
    networks = Timed(fixed=0.05, each=0.0005)
    assert warmed(networks, most=4).max_batch == 4
    assert networks.seen == {(batch, objects) for batch in (1, 2, 4) for objects in OBJECTS}


def test_frames_that_are_not_cheaper_together_are_run_alone() -> None:
    networks = Timed(fixed=0.0, each=0.01)
    assert warmed(networks).max_batch == 1
    assert {(1, objects) for objects in OBJECTS} <= networks.seen


def test_no_more_are_run_together_than_there_can_be_streams() -> None:
    assert warmed(Timed(fixed=0.05, each=0.0), most=3).max_batch == 2


def test_a_batch_that_is_asked_for_is_warm_and_not_questioned() -> None:
    networks = Timed(fixed=0.0, each=0.001)
    assert warmed(networks, fixed=4).max_batch == 4
    assert (4, 1) in networks.seen


def test_a_probe_passes_on_a_sound_engine_and_fails_on_one_that_gives_nothing() -> None:
    model = Model(FakeNetworks(), Identity("", "", "", "", ""))
    probe(model, SIZE, 0)

    class Blind(FakeNetworks):
        def segment(self, features: FrameFeatures, memory: MemoryView) -> SoftMasks:
            return SoftMasks(*(0 * soft for soft in super().segment(features, memory)))

    class Overflowing(FakeNetworks):
        def segment(self, features: FrameFeatures, memory: MemoryView) -> SoftMasks:
            return SoftMasks(*(np.nan * soft for soft in super().segment(features, memory)))

    for networks in (Blind(), Overflowing()):
        with pytest.raises(RuntimeError, match="no masks"):
            probe(Model(networks, Identity("", "", "", "", "")), SIZE, 0)

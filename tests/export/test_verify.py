"""The gate's own arithmetic, and that it sees each kind of damage."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from export.verify import TOLERANCES, ParityError, cases, output_parity, verify
from maskstream.engines import load_networks
from maskstream.networks import F32, FrameFeatures, MemoryView, Networks, SoftMasks

pytestmark = pytest.mark.timeout(600)  # the first test exports the small model


def test_figures_of_one_output() -> None:
    row = output_parity("g", "o", "c", np.array([3, 4], np.float32), np.array([3, 4.5], np.float32))
    assert row.max_abs_error == pytest.approx(0.5)
    assert row.relative_error == pytest.approx(0.125)
    assert row.cosine == pytest.approx((9 + 18) / (5 * np.hypot(3, 4.5)))


@pytest.mark.parametrize("bad", [np.array([np.nan, 1], np.float32), np.ones(3, np.float32)])
def test_what_is_not_finite_or_of_another_shape_is_never_within(bad: F32) -> None:
    row = output_parity("g", "o", "c", np.ones(2, np.float32), bad)
    assert not row.within(TOLERANCES["fp16"])


def test_nothing_equals_nothing() -> None:
    zero = np.zeros(4, np.float32)
    assert output_parity("g", "o", "c", zero, zero).within(TOLERANCES["fp32"])
    assert not output_parity("g", "o", "c", zero, zero + 1).within(TOLERANCES["fp32"])


class Damaged:
    """The reference, with a change to what one graph answers."""

    def __init__(self, networks: Networks, graph: str, change: Callable[[F32], F32]) -> None:
        self.spec, self.engine, self.precision = networks.spec, "damaged", "fp32"
        self._networks, self._graph, self._change = networks, graph, change

    def encode_frame(self, frame_BHW3: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> FrameFeatures:
        features = self._networks.encode_frame(frame_BHW3)
        return features._replace(skip4=self._change(features.skip4)) if self._graph == "encode_frame" else features

    def encode_mask(self, features: FrameFeatures, soft_BOHW: F32) -> F32:
        value = self._networks.encode_mask(features, soft_BOHW)
        return self._change(value) if self._graph == "encode_mask" else value

    def segment(self, features: FrameFeatures, memory: MemoryView) -> SoftMasks:
        masks = self._networks.segment(features, memory)
        return masks._replace(decoded=self._change(masks.decoded)) if self._graph == "segment" else masks


@pytest.mark.parametrize(
    ("graph", "output"), [("encode_frame", "skip4"), ("encode_mask", "value"), ("segment", "decoded")]
)
def test_damage_is_named_by_graph_and_output(small_artifact: Path, graph: str, output: str) -> None:
    reference = load_networks(small_artifact, "torch")
    damaged = Damaged(reference, graph, lambda array: array * np.float32(1.001))
    with pytest.raises(ParityError, match=f"graph {graph}, output {output}, case "):
        verify(reference, damaged, "fp32", lambda: None)


def test_masks_that_differ_along_the_clip_fail_though_each_output_is_close(small_artifact: Path) -> None:
    reference = load_networks(small_artifact, "torch")
    calls = {"count": 0}

    def forget_later(array: F32) -> F32:
        calls["count"] += 1
        return array if calls["count"] <= len(cases(reference.spec)) else np.zeros_like(array)

    with pytest.raises(ParityError, match=r"masks along the clip: IoU with torch is 0\.0000 at frame 1"):
        verify(reference, Damaged(reference, "segment", forget_later), "fp32", lambda: None)


def test_each_case_and_the_clip_are_counted(small_artifact: Path) -> None:
    reference = load_networks(small_artifact, "torch")
    done: list[None] = []
    report = verify(reference, reference, "fp32", lambda: done.append(None))
    assert len(done) == len(cases(reference.spec)) + 1
    assert (report.mask_iou_least, len(report.worst())) == (1.0, 7)

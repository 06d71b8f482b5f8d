""" "fastest" keeps the fastest engine whose masks are right, and says what the others did."""

from dataclasses import replace

import numpy as np
import pytest
from fakes import FakeNetworks

from maskstream.engines.choice import choose_fastest
from maskstream.errors import ArtifactError, EngineUnavailable
from maskstream.networks import FrameFeatures, MemoryView, SoftMasks

SPEC = replace(FakeNetworks().spec, short_side=64)


def networks(name: str, delay_seconds: float = 0.0) -> FakeNetworks:
    made = FakeNetworks(delay_seconds)
    made.engine = name
    made.spec = SPEC
    return made


class Wrong(FakeNetworks):
    """Fast, and answers with nothing or with what is no number."""

    engine = "wrong"
    factor = 0.0

    def segment(self, features: FrameFeatures, memory: MemoryView) -> SoftMasks:
        right = super().segment(features, memory)
        return SoftMasks(right.decoded * np.float32(self.factor), right.coarse * np.float32(self.factor))


def test_the_fastest_runs_and_the_reason_has_all_figures() -> None:
    known = {"slow": networks("slow", 0.05), "fast": networks("fast")}
    choice = choose_fastest(("slow", "fast"), known.__getitem__)
    assert choice.networks is known["fast"]
    assert choice.reason.startswith("fastest: fast fp32 ")
    assert "; slow fp32 " in choice.reason


@pytest.mark.parametrize("factor", [0.0, float("nan")])
def test_an_engine_whose_masks_differ_from_the_verified_ones_is_left_out_however_fast(factor: float) -> None:
    wrong = Wrong()
    wrong.spec, wrong.factor = SPEC, factor
    known = {"verified": networks("verified", 0.05), "wrong": wrong}
    choice = choose_fastest(("verified", "wrong"), known.__getitem__)
    assert choice.networks is known["verified"]
    assert "wrong fp32" in choice.reason
    assert "left out: its masks differ" in choice.reason


def broken(name: str) -> FakeNetworks:
    if name == "broken":
        raise ArtifactError("segment.onnx: cannot be compiled")
    return networks(name)


def test_an_engine_that_does_not_start_is_named_with_its_error() -> None:
    choice = choose_fastest(("broken", "sound"), broken)
    assert choice.networks.engine == "sound"
    assert "broken does not run (segment.onnx: cannot be compiled)" in choice.reason


def test_where_none_runs_all_reasons_are_told() -> None:
    with pytest.raises(EngineUnavailable, match=r"broken does not run \(segment.onnx.*; broken does not run"):
        choose_fastest(("broken", "broken"), broken)


def test_a_single_candidate_is_opened_without_a_race_and_fails_as_itself() -> None:
    only = networks("only")
    choice = choose_fastest(("only",), lambda name: only)
    assert choice.networks is only
    assert choice.reason == "fastest: only fp32, not timed: no other is installed"
    assert not only.entered.acquire(blocking=False), "no frame was run"
    with pytest.raises(ArtifactError):
        choose_fastest(("broken",), broken)

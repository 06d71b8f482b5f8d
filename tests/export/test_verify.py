"""The gate's own arithmetic, that it sees each kind of damage, and the command that runs it again."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeNetworks

from export import __main__ as command
from export import batch
from export.verify import (
    TOLERANCES,
    Case,
    ClipCheck,
    ParityError,
    case_of,
    cases,
    compare,
    compare_with_figures,
    figures,
    output_parity,
    tolerance_of,
    verify,
)
from maskstream.engines import load_networks
from maskstream.model.config import ModelConfig
from maskstream.networks import F32, FrameFeatures, MemoryView, Networks, NetworkSpec, SoftMasks

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


def test_only_the_chosen_cases_are_compared(small_artifact: Path) -> None:
    reference = load_networks(small_artifact, "torch")
    done: list[None] = []
    chosen = (case_of(reference.spec, (96, 128), 3, 2),)
    report = verify(reference, reference, "fp32", lambda: done.append(None), chosen, ClipCheck((96, 128), 3))
    assert len(done) == 2
    assert {row.case for row in report.outputs} == {"96x128, 3 objects, 2 streams"}


def test_a_case_at_a_size_has_the_grid_and_the_objects_asked_for() -> None:
    case = case_of(ModelConfig().spec(), (1080, 1920), 4, 8)
    assert (case.grid, len(case.slots), case.batch) == ((30, 53), 4, 8)


def test_more_streams_than_memory_holds_are_left_out_and_the_name_says_so() -> None:
    case = case_of(ModelConfig().spec(), (480, 854), 16, 8)
    assert (case.batch, case.name) == (2, "480x854, 16 objects, 2 of 8 streams")
    assert case_of(ModelConfig().spec(), (480, 854), 255, 8).batch == 1


def test_a_mixture_of_precisions_is_held_to_the_coarser() -> None:
    assert tolerance_of("fp32") == TOLERANCES["fp32"]
    assert tolerance_of("fp16+fp32") == TOLERANCES["fp16"]
    assert tolerance_of("bf16+fp32") == TOLERANCES["bf16"]
    assert tolerance_of("int8+bf16") == TOLERANCES["int8"]


def test_the_traps_of_the_shipped_networks() -> None:
    spec = ModelConfig().spec()
    crowd = next(case for case in cases(spec) if case.alike)
    assert crowd.grid[0] * crowd.grid[1] * spec.capacity > 20_000
    assert max(len(case.slots) for case in cases(spec)) == 16
    assert [case.grid for case in cases(spec) if case.name == "frame of 479x853"] == [(30, 53)]
    assert any(case.background for case in cases(spec))
    assert ClipCheck().size == (479, 853)


class Softmax(FakeNetworks):
    """Reads by one softmax over all tokens. Weights below `smallest` become zero, as half precision may have it."""

    def __init__(self, smallest: float) -> None:
        super().__init__()
        self.spec = NetworkSpec("softmax", 16, 4, 3, 1, 480, 6, 5)
        self._smallest = smallest

    def segment(self, features: FrameFeatures, memory: MemoryView) -> SoftMasks:
        similarity_TN = np.einsum("k,ktn->tn", features.key[0, :, 0, 0], memory.key[0]) / 0.025
        weight_TN = np.exp(similarity_TN - similarity_TN.max())
        weight_TN /= weight_TN.sum()
        weight_TN[weight_TN < self._smallest] = 0
        read = np.einsum("tn,otn->o", weight_TN, memory.value[0, :, 0])
        soft = np.broadcast_to(read[None, :, None, None], (1, len(read), *features.skip4.shape[2:]))
        return SoftMasks(soft.astype(np.float32), soft.astype(np.float32))


def test_weights_too_small_for_half_precision_are_seen_where_many_tokens_are_alike() -> None:
    reference, flushing = Softmax(0.0), Softmax(float(np.finfo(np.float16).tiny))
    crowd = next(case for case in cases(reference.spec) if case.alike)
    rows = [row for row in compare(reference, flushing, crowd) if row.graph == "segment"]
    assert [row.output for row in rows if row.within(TOLERANCES["fp16"])] == []
    few = Case("few tokens", (4, 6), ((0, 1),))
    assert all(row.within(TOLERANCES["fp32"]) for row in compare(reference, flushing, few))


class PerArea(FakeNetworks):
    """Values divided by the area of their mask: not a number where there is none."""

    def encode_mask(self, features: FrameFeatures, soft_BOHW: F32) -> F32:
        area = soft_BOHW.sum(axis=(2, 3))[:, :, None, None]
        with np.errstate(invalid="ignore"):
            return super().encode_mask(features, soft_BOHW) / area * area


def test_masks_without_an_object_must_not_become_nan() -> None:
    reference = FakeNetworks()
    chosen = [case for case in cases(reference.spec) if not case.alike]
    with pytest.raises(ParityError, match=r"graph encode_mask, output value, case 'no object anywhere': not finite"):
        verify(reference, PerArea(), "fp32", lambda: None, chosen)


def test_without_torch_an_engine_is_held_to_figures_that_torch_left(small_artifact: Path) -> None:
    reference = load_networks(small_artifact, "torch")
    recorded = figures(reference)
    exported = load_networks(small_artifact, "onnxruntime", threads=1)
    rows = compare_with_figures(recorded, exported, "fp32")
    assert [row.output for row in rows] == ["key", "context", "skip8", "skip4", "value", "decoded", "coarse"]
    damaged = Damaged(exported, "encode_mask", lambda array: array * np.float32(1.001))
    with pytest.raises(ParityError, match="graph encode_mask, output value, case 'recorded': relative error"):
        compare_with_figures(recorded, damaged, "fp32")


def test_verify_checks_an_artifact_against_torch(small_artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["verify", str(small_artifact), "--engine", "onnxruntime"]) == 0
    told = capsys.readouterr().out
    assert "onnxruntime fp32  holds" in told
    assert "files whole; compared with torch" in told


def test_verify_without_torch_says_that_it_used_the_manifest(
    copied_artifact: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(batch, "torch_is_installed", lambda: False)
    words = ["verify", str(copied_artifact), "--engine", "onnxruntime"]
    assert command.main(words) == 0
    assert "compared with the figures that torch left in the manifest" in capsys.readouterr().out
    manifest = copied_artifact / "manifest.json"
    content = json.loads(manifest.read_text())
    content["parity"]["torch"]["decoded"][3] += 0.5
    manifest.write_text(json.dumps(content))
    assert command.main(words) == 1
    assert "graph segment, output decoded, case 'recorded': relative error" in capsys.readouterr().out
    del content["parity"]["torch"]
    manifest.write_text(json.dumps(content))
    assert command.main(words) == 1
    assert "torch is not installed and its manifest has no figures of torch's" in capsys.readouterr().out


def test_verify_runs_where_torch_is_not_installed(small_artifact: Path) -> None:
    program = """
import sys
sys.modules["torch"] = None
from export.__main__ import main
sys.exit(main(["verify", sys.argv[1], "--engine", "onnxruntime"]))
"""
    done = subprocess.run([sys.executable, "-c", program, small_artifact], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr
    assert "compared with the figures that torch left in the manifest" in done.stdout

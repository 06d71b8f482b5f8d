"""From float32 files to int8 files by masks alone, on the small model."""

import shutil
from pathlib import Path

import onnx
import pytest

from export.int8.build import Int8Settings, count_int8_steps, quantise_files
from export.int8.calibration import CalibrationSettings
from maskstream.artifact import Artifact

pytestmark = pytest.mark.timeout(600)  # the first test exports the small model

FEW = CalibrationSettings(clips=1, frames=3)


def int8_of(small: Path, folder: Path, settings: Int8Settings, lines: list[str]) -> tuple[dict[str, object], int]:
    artifact = Artifact.load(small)
    files = {name: Path(shutil.copy(file, folder)) for name, file in artifact.graphs.items()}
    done: list[None] = []
    record = quantise_files(files, artifact.spec, [], lambda: done.append(None), lines.append, settings)
    return record, len(done)


def stored_as(file: Path) -> set[int]:
    return {
        weight.data_type
        for weight in onnx.load(file).graph.initializer
        if len(weight.dims) == 4 and ".weight" in weight.name
    }


def test_all_graphs_are_quantised_and_the_record_tells_on_what(small_artifact: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    settings = Int8Settings(mask_iou=0.5, calibration=FEW)
    record, steps = int8_of(small_artifact, tmp_path, settings, lines)
    assert steps == count_int8_steps(settings) == 6
    assert record["float_blocks"] == []
    assert record["calibration"] == {"clips": ["drawn 0"], "frames": 3, "drawn": True, "quantile": 0.9999}
    assert "frame_encoder.stem" in record["blocks"]  # type: ignore[operator]
    assert "frames of your own cameras do better" in lines[0]
    for graph in ("encode_frame", "encode_mask", "segment"):
        assert stored_as(tmp_path / f"{graph}.onnx") == {onnx.TensorProto.INT8}


def test_what_costs_the_masks_most_stays_in_float_until_they_are_kept(small_artifact: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    settings = Int8Settings(mask_iou=1.1, calibration=FEW, ranking_clips=1, ranking_frames=2)  # more than there can be
    record, _ = int8_of(small_artifact, tmp_path, settings, lines)
    assert sorted(record["float_blocks"]) == sorted(record["blocks"])  # type: ignore[call-overload]
    losses = record["losses"]
    assert isinstance(losses, dict)
    ordered = [losses[block] for block in record["float_blocks"]]  # type: ignore[attr-defined]
    assert ordered == sorted(ordered, reverse=True)
    assert record["mask_iou"] == pytest.approx(1.0, abs=1e-3)
    assert stored_as(tmp_path / "encode_frame.onnx") == {onnx.TensorProto.FLOAT}

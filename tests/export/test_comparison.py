"""The table of engines and precisions: its rows, what is kept of them, and the command."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from export import __main__ as command
from export.comparison import Bench, Comparison, Row, as_markdown, cells, print_rows

pytestmark = pytest.mark.timeout(600)  # the first test exports the small model

TORCH = Row("torch", "fp32", "fp32", 8_000_000, {"encode_frame": 2, "encode_mask": 1, "segment": 4, "step": 8.0})
TORCH.mask_iou = {"mean": 1.0, "least": 1.0}
FAST = replace(TORCH, engine="openvino", precision="int8", running="int8", ms={**TORCH.ms, "step": 2.0})


def scored(*values: float) -> dict[str, object]:
    return {"objects": {str(i): {"jf": v, "j": v, "f": v} for i, v in enumerate(values)}}


def test_a_speed_is_a_multiple_of_that_of_torch() -> None:
    assert [row[7] for row in cells([TORCH, FAST], [])] == ["1.00x", "4.00x"]
    assert cells([FAST], [])[0][7] == "-"


def test_scores_are_means_over_objects_once_all_sequences_are_there() -> None:
    row = replace(TORCH, sequences={"a": scored(90.0), "b": scored(30.0, 60.0)})
    assert row.scores(["a", "b"]) == {"jf": 60.0, "j": 60.0, "f": 60.0}
    assert row.scores(["a"]) == {"jf": 90.0, "j": 90.0, "f": 90.0}
    assert row.scores(["a", "c"]) is None


def test_a_row_that_failed_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    failed = Row("openvino", "int8", error="not\ninstalled")
    print_rows([TORCH, failed], [])
    assert "\nopenvino-int8: not" in capsys.readouterr().out
    assert as_markdown([TORCH, failed], []).rstrip().endswith("openvino-int8: not installed")
    assert cells([failed], [])[0][2:] == ("-",) * 12


def test_a_row_is_measured_once_and_again_when_its_key_changes(
    small_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench((96, 128), 2)

    def measured(key: str) -> Row:
        comparison = Comparison({"fp32": small_artifact}, ["onnxruntime"], bench, tmp_path)
        assert [row.name for row in comparison.rows] == ["torch-fp32", "onnxruntime-fp32"]
        comparison.measure(1, [], {"code": key}, lambda: None)
        return comparison.rows[1]

    row = measured("a")
    assert row.running == "fp32"
    assert row.relative_error < 1e-4
    assert row.mask_iou["least"] > 0.995
    assert set(row.ms) == {"encode_frame", "encode_mask", "segment", "step"}
    monkeypatch.setattr("export.comparison.stage_ms", lambda networks, bench: dict.fromkeys(row.ms, 1.0))
    assert measured("a") == row
    assert measured("b").ms["step"] == 1.0


def test_the_command_writes_both_reports(
    small_artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["compare", str(small_artifact), "--out", str(tmp_path), "--engine", "onnxruntime", "--size", "96x128"]
    assert command.main([*words, "--frames", "2"]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert [(row["engine"], row["precision"]) for row in report["rows"]] == [("torch", "fp32"), ("onnxruntime", "fp32")]
    assert report["versions"]["onnxruntime"]
    page = (tmp_path / "report.md").read_text()
    assert "| onnxruntime | fp32 |" in page
    assert "onnxruntime" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--engine", "tensorflow"], "'tensorflow' is unknown"),
        (["--precision", "int7"], "'int7' is unknown"),
        (["--size", "480"], "is not HEIGHTxWIDTH"),
    ],
)
def test_a_slip_on_the_command_line_is_told(
    flags: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command.main(["compare", "any.pt", "--out", str(tmp_path / "out"), *flags])
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_artifacts_that_cannot_be_compared_are_refused(
    small_artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["compare", str(small_artifact), str(small_artifact), "--out", str(tmp_path)]) == 1
    assert "one artifact of each precision" in capsys.readouterr().err

"""Checking a batch anywhere: what was altered, exchanged or never finished is named."""

import json
from pathlib import Path

import pytest
from batches import CPU, SIZED

from export import __main__ as command
from export.batch import claims
from export.batch_report import FAILED, BatchReport, Result

pytestmark = pytest.mark.timeout(600)  # the first test exports the small model


def test_verify_names_the_file_that_was_altered(copied_batch: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = copied_batch / "onnx-fp32/artifact/encode_mask.onnx"
    file.write_bytes(file.read_bytes() + b"\0")
    assert command.main(["verify", str(copied_batch)]) == 1
    assert f"{file}: its SHA-256 is not the manifest's" in capsys.readouterr().out


def test_verify_takes_each_build_with_the_engine_it_was_made_for(
    finished_batch: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert {claim.name: claim.engine for claim in claims(finished_batch)} == {
        "onnx-fp32": "auto",
        CPU.name: "onnxruntime",
        SIZED.name: "torch",
    }
    assert {claim.engine for claim in claims(finished_batch, "openvino")} == {"openvino"}
    assert command.main(["verify", str(finished_batch), "--engine", "onnxruntime"]) == 0
    assert capsys.readouterr().out.count("holds") == 3


def test_verify_names_what_was_not_finished(copied_batch: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = json.loads((copied_batch / "report.json").read_text())
    report["builds"][0]["status"] = report["builds"][1]["status"] = FAILED
    (copied_batch / "report.json").write_text(json.dumps(report))
    assert command.main(["verify", str(copied_batch)]) == 0
    assert f"not finished, so not checked: onnx-fp32, {CPU.name}" in capsys.readouterr().out


def test_an_artifact_put_in_the_place_of_another_is_seen(copied_batch: Path) -> None:
    report = json.loads((copied_batch / "report.json").read_text())
    report["builds"][1]["artifact_version"] = "0123456789ab"
    (copied_batch / "report.json").write_text(json.dumps(report))
    held = claims(copied_batch)[1].check(lambda: None)
    assert "not the artifact that the report is about" in held.error


@pytest.mark.parametrize("what", ["nothing", "pending"])
def test_verify_of_nothing_fails(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if what == "pending":
        about = {"model": "m", "checkpoint": {"file": "c.pt", "sha256": "00"}}
        BatchReport(tmp_path, about, [Result("a", {"precision": "fp32"})]).write()
    assert command.main(["verify", str(tmp_path)]) == 1
    assert "nothing to check" in capsys.readouterr().err

"""The command: learns from a folder, resumes, and says what is wrong with what it was given."""

import json
from pathlib import Path

import pytest

from maskstream.checkpoint import Checkpoint
from train.__main__ import main


def test_tiny_learns_from_a_folder_and_resumes(
    video_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--recipe", "tiny", "--data", str(video_folder), "--out", str(tmp_path / "run"), "--threads", "1"]
    assert main([*common, "--set", "mask_stage.steps=2"]) == 0
    said = capsys.readouterr().out
    assert "2 clips, 32 frames" in said
    assert "maskstream-export" in said
    origin = Checkpoint.load(tmp_path / "run" / "checkpoint.pt").provenance
    assert origin["recipe"] == "tiny"
    assert origin["labels_used"] == "none"
    assert json.loads((tmp_path / "run" / "config.json").read_text())["changed"] == ["mask_stage.steps=2"]
    assert main([*common, "--resume", "--set", "mask_stage.steps=2"]) == 0, "a finished run resumes to its end"


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--data", "nowhere"], "nowhere: no such file or folder"),
        (["--resume"], "holds no run to resume"),
        (["--set", "speed=9"], "no setting 'speed'"),
        (["--resume-from", "nowhere.pt"], "nowhere.pt: no such checkpoint"),
    ],
)
def test_wrong_input_is_one_clear_line(
    video_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], extra: list[str], message: str
) -> None:
    given = ["--recipe", "tiny", "--data", str(video_folder), "--out", str(tmp_path / "run")]
    assert main([*given, *extra]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said


def test_a_second_run_does_not_overwrite_the_first(
    video_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "state.pt").touch()
    assert main(["--recipe", "tiny", "--data", str(video_folder), "--out", str(tmp_path)]) == 2
    assert "already holds a run" in capsys.readouterr().err

"""The command: learns from a folder, resumes, and says what is wrong with what it was given."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from moving_square import moving_square

from maskstream.checkpoint import Checkpoint
from maskstream.model.segmenter import Segmenter
from maskstream.pictures import write_id_map, write_jpeg
from train.__main__ import main
from train.recipes import tiny


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


def test_a_run_starts_from_the_weights_of_another_and_remembers_it(video_folder: Path, tmp_path: Path) -> None:
    common = ["--recipe", "tiny", "--data", str(video_folder), "--threads", "1", "--set", "mask_stage.steps=1"]
    assert main([*common, "--out", str(tmp_path / "first"), "--licence", "ours"]) == 0
    weights = str(tmp_path / "first" / "checkpoint.pt")
    assert main([*common, "--out", str(tmp_path / "second"), "--resume-from", weights]) == 0
    origin = Checkpoint.load(tmp_path / "second" / "checkpoint.pt").provenance
    assert origin["parent"]["licence"] == "ours"
    assert main([*common, "--out", str(tmp_path / "second"), "--resume"]) == 0
    resumed = Checkpoint.load(tmp_path / "second" / "checkpoint.pt").provenance
    assert (resumed["resumed_from"], resumed["parent"]) == (weights, origin["parent"]), "a resumed run keeps its past"


def test_held_out_masks_are_scored_after_each_stage(video_folder: Path, tmp_path: Path) -> None:
    for index, frame in enumerate(moving_square(frames=4)):
        truth = np.zeros(frame.shape[:2], np.uint8)
        truth[30:66, 5 + 4 * index : 41 + 4 * index] = 1
        write_jpeg(tmp_path / "set" / "JPEGImages" / "480p" / "square" / f"{index:05d}.jpg", frame)
        write_id_map(tmp_path / "set" / "Annotations" / "480p" / "square" / f"{index:05d}.png", truth)
    given = ["--recipe", "tiny", "--data", str(video_folder), "--out", str(tmp_path / "run"), "--threads", "1"]
    assert main([*given, "--held-out", str(tmp_path / "set"), "--set", "mask_stage.steps=1"]) == 0
    gates = Checkpoint.load(tmp_path / "run" / "checkpoint.pt").provenance["gates"]
    assert [gate["stage"] for gate in gates] == [0, 1]
    assert all(0 < gate["copied"] < 100 and gate["decoded"] >= 0 for gate in gates)


def test_weights_of_another_size_are_refused(
    video_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = replace(tiny().model, name="other", key_channels=8)
    Checkpoint(Segmenter(other).state_dict(), other).save(tmp_path / "other.pt")
    given = ["--recipe", "tiny", "--data", str(video_folder), "--out", str(tmp_path / "run")]
    assert main([*given, "--resume-from", str(tmp_path / "other.pt")]) == 2
    assert "weights of 'other' do not fit the networks of 'tiny'" in capsys.readouterr().err


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

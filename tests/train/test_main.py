"""The command: learns from a folder, resumes, and says what is wrong with what it was given."""

import json
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from moving_square import moving_square

from maskstream.checkpoint import Checkpoint
from maskstream.model.segmenter import Segmenter
from maskstream.pictures import write_id_map, write_jpeg
from train import __main__ as program
from train.__main__ import main
from train.journal import Journal
from train.recipes import tiny


def test_tiny_learns_from_a_folder_and_resumes(
    video_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.mp4").write_text("these are not frames")
    data = ["--data", str(video_folder), str(tmp_path / "notes.mp4")]
    common = ["--recipe", "tiny", *data, "--out", str(tmp_path / "run"), "--threads", "1"]
    assert main([*common, "--set", "mask_stage.steps=2"]) == 0
    out, err = capsys.readouterr()
    assert "2 clips, 32 frames; 1 videos skipped" in out
    assert "maskstream-export" in out
    assert "masks1          ce " in out, "how each loss began and ended"
    assert "notes.mp4: not a readable video" in err
    assert "notes.mp4: not a readable video" in (tmp_path / "run" / "skipped.txt").read_text()
    origin = Checkpoint.load(tmp_path / "run" / "checkpoint.pt").provenance
    assert origin["recipe"] == "tiny"
    assert origin["labels_used"] == "none"
    assert json.loads((tmp_path / "run" / "config.json").read_text())["changed"] == ["mask_stage.steps=2"]
    (line,) = (tmp_path / "run" / "run.md").read_text().splitlines()
    assert "`maskstream-train --recipe tiny --data " in line
    assert "2 clips, 32 frames; done after " in line
    assert main([*common, "--resume", "--set", "mask_stage.steps=2"]) == 0, "a finished run resumes to its end"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_says_how_to_go_on(
    video_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: int,
    status: int,
) -> None:
    class Signalled(Journal):
        def scalars(self, values: dict[str, float], step: int) -> None:
            if step == 2:
                os.kill(os.getpid(), number)

    given = ["--recipe", "tiny", "--data", str(video_folder), "--out", str(tmp_path), "--set", "rounds=0"]
    with monkeypatch.context() as signalled:
        signalled.setattr(program, "Journal", Signalled)
        assert main(given) == status
    assert "the state is saved. Go on with the same command and --resume" in capsys.readouterr().err
    assert "(correspondence, step 2 of 4)" in (tmp_path / "run.md").read_text()
    assert main([*given, "--resume"]) == 0


def test_a_stop_while_decoding_ends_the_decoders_at_once(
    video_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    marker = tmp_path / "begun"
    stalling = f"import pathlib, time; input(); pathlib.Path({str(marker)!r}).touch(); time.sleep(3600)"
    monkeypatch.setattr("train.decoder.PROGRAM", stalling)

    def terminate_when_begun() -> None:
        while not marker.exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=terminate_when_begun).start()
    assert main(["--recipe", "tiny", "--data", str(video_folder), "--out", str(tmp_path / "run")]) == 143
    assert "stopped before learning began" in capsys.readouterr().err


def test_many_skipped_videos_are_few_lines_in_the_terminal_and_all_in_the_file(
    video_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for index in range(25):
        (tmp_path / f"{index:02d}.mp4").touch()
    given = ["--recipe", "tiny", "--data", str(video_folder), str(tmp_path), "--out", str(tmp_path / "run")]
    assert main([*given, "--set", "rounds=0", "--set", "correspondence_stage.steps=1"]) == 0
    out, err = capsys.readouterr()
    assert "25 videos skipped" in out
    assert err.count("the file is empty") == 20
    assert f"... and 5 more, see {tmp_path / 'run' / 'skipped.txt'}" in err
    assert len((tmp_path / "run" / "skipped.txt").read_text().splitlines()) == 25


def test_a_full_disk_at_the_end_is_an_error_exit_with_the_line_for_the_log(
    video_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full_disk(record: object, path: Path) -> None:
        raise OSError(28, "No space left on device")

    given = ["--recipe", "tiny", "--data", str(video_folder), "--out", str(tmp_path)]
    monkeypatch.setattr("torch.save", full_disk)
    assert main([*given, "--set", "rounds=0", "--set", "correspondence_stage.steps=1"]) == 1
    said = capsys.readouterr().err
    assert f"free space in {tmp_path} and continue with --resume" in said
    assert "Traceback" not in said


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
        (["--set", "masks_correspondence_weight=1"], "add --set masks.encoder_rate=0.1"),
        (["--set", "clip_frames_max=4"], "at least 32 are needed"),
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

"""`maskstream evaluate` from the command line, with networks that copy the last mask: its JSON keys and its masks."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeNetworks
from youtube_layout import add_frames, add_video, squares

from maskstream import cli
from maskstream.commands import evaluate
from maskstream.moving_shapes import render
from maskstream.pictures import read_id_map, read_picture, write_id_map, write_jpeg
from maskstream.video import VideoWriter

FRAMES = 5


@pytest.fixture(autouse=True)
def fake_networks(monkeypatch: pytest.MonkeyPatch) -> FakeNetworks:
    networks = FakeNetworks()
    monkeypatch.setattr(evaluate, "networks_from", lambda arguments: networks)
    return networks


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Two sequences: `film` as a video with three objects, `photos` as JPEGs with one."""
    clip = render(FRAMES, (128, 192))
    with VideoWriter(tmp_path / "JPEGImages/480p/film.mp4") as video:
        for frame in clip.frames:
            video.write(frame)
    for index, (frame, id_map) in enumerate(zip(clip.frames, clip.id_maps, strict=True)):
        write_jpeg(tmp_path / f"JPEGImages/480p/photos/{index:05d}.jpg", frame)
        write_id_map(tmp_path / f"Annotations/480p/film/{index:05d}.png", id_map)
        write_id_map(tmp_path / f"Annotations/480p/photos/{index:05d}.png", (id_map == 2).astype(np.uint8))
    return tmp_path


def test_report_has_the_documented_keys(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evaluate", str(dataset), "--json", str(dataset / "scores.json")]) == 0
    report = json.loads((dataset / "scores.json").read_text())
    assert set(report["mean"]) == set(report["coarse"]) == {"jf", "j", "f"}
    assert set(report["sequences"]) == {"film", "photos"}
    film = report["sequences"]["film"]
    assert {"jf", "j", "f", "objects"} <= set(film)
    assert set(film["objects"]) == {"1", "2", "3"}
    assert {"jf", "j", "f", "j_recall", "j_decay"} <= set(film["objects"]["1"])
    objects = [one["jf"] for sequence in report["sequences"].values() for one in sequence["objects"].values()]
    assert report["mean"]["jf"] == pytest.approx(np.mean(objects), abs=0.02)  # over objects, not over sequences
    assert 0 < report["mean"]["jf"] <= 100
    assert report["fps"] > 0
    assert report["frames"] == 2 * FRAMES
    assert {"versions", "hardware", "git_revision", "engine"} <= set(report)
    assert "copy" not in report
    assert "mean over objects" in capsys.readouterr().out


def test_masks_are_written_as_the_davis_toolkit_reads_them(dataset: Path) -> None:
    assert cli.main(["evaluate", str(dataset), "--out", str(dataset / "out")]) == 0
    for name in ("film", "photos"):
        masks = sorted((dataset / "out" / name).iterdir())
        assert [path.name for path in masks] == [f"{index:05d}.png" for index in range(FRAMES)]
    first = read_id_map(dataset / "Annotations/480p/film/00000.png")
    np.testing.assert_array_equal(read_id_map(dataset / "out/film/00000.png"), first)


def test_each_sequence_gets_a_contact_sheet(dataset: Path) -> None:
    assert cli.main(["evaluate", str(dataset), "--sequences", "photos", "--out", str(dataset / "out")]) == 0
    assert [path.name for path in (dataset / "out/contact_sheets").iterdir()] == ["photos.jpg"]
    assert read_picture(dataset / "out/contact_sheets/photos.jpg").shape[1] == 1600


def test_sequences_can_be_chosen_and_the_floor_added(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", str(dataset), "--sequences", "photos", "--baseline", "copy"]
    assert cli.main([*words, "--json", str(dataset / "scores.json")]) == 0
    report = json.loads((dataset / "scores.json").read_text())
    assert set(report["sequences"]) == {"photos"}
    # networks that copy do as well as copying, but for the grid they work on
    assert report["copy"]["jf"] == pytest.approx(report["mean"]["jf"], abs=10)
    assert "copy of the first mask" in capsys.readouterr().out


def test_ctrl_c_reports_the_sequences_that_were_finished(
    dataset: Path, fake_networks: FakeNetworks, capsys: pytest.CaptureFixture[str]
) -> None:
    encode_frame, calls = fake_networks.encode_frame, []

    def interrupted(frame):
        calls.append(frame)
        if len(calls) > FRAMES:
            raise KeyboardInterrupt
        return encode_frame(frame)

    fake_networks.encode_frame = interrupted
    assert cli.main(["evaluate", str(dataset), "--json", str(dataset / "scores.json")]) == 130
    assert set(json.loads((dataset / "scores.json").read_text())["sequences"]) == {"film"}
    assert "1 of 2 sequences were finished" in capsys.readouterr().out


def test_damaged_dataset_is_one_clear_line(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (dataset / "Annotations/480p/film/00004.png").unlink()
    assert cli.main(["evaluate", str(dataset)]) == 2
    assert "film.mp4 has 5 frames, but" in capsys.readouterr().err
    assert cli.main(["evaluate", str(dataset / "nowhere")]) == 2
    assert "expected the DAVIS layout" in capsys.readouterr().err


def test_davis_2016_has_one_object_and_its_statistics(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", str(dataset), "--protocol", "davis2016", "--sequences", "film", "--json"]
    assert cli.main([*words, str(dataset / "scores.json"), "--out", str(dataset / "out"), "--baseline", "copy"]) == 0
    report = json.loads((dataset / "scores.json").read_text())
    film = report["sequences"]["film"]
    assert report["protocol"] == "davis2016"
    assert list(film["objects"]) == ["1"]
    assert set(report["statistics"]) == {"j", "f"}
    assert report["statistics"]["j"] == {
        "mean": film["objects"]["1"]["j"],
        "recall": film["objects"]["1"]["j_recall"],
        "decay": film["objects"]["1"]["j_decay"],
    }
    assert set(np.unique(read_id_map(dataset / "out/film/00003.png"))) == {0, 1}
    printed = capsys.readouterr().out
    assert "J mean" in printed
    assert "mean over sequences" in printed
    assert "copy of the first mask" in printed


@pytest.fixture
def youtube(tmp_path: Path) -> Path:
    """`valid` with a video whose masks only hand out, and every frame of it; `train` with one that can be scored."""
    add_video(tmp_path / "valid", "late", [0, 5, 10], {2: [0, 5, 10], 7: [5, 10]}, {0: squares(2), 5: squares(7)})
    add_frames(tmp_path / "all_frames/valid_all_frames/JPEGImages/late", range(13))
    add_video(tmp_path / "train", "whole", [0, 5, 10], {2: [0, 5, 10]}, {i: squares(2) for i in (0, 5, 10)})
    return tmp_path


def test_youtube_vos_is_recognised_and_leaves_a_zip(youtube: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = youtube / "out"
    assert cli.main(["evaluate", str(youtube), "--out", str(out), "--json", str(out / "scores.json")]) == 0
    with zipfile.ZipFile(out / "submission.zip") as archive:
        assert archive.namelist() == [f"Annotations/late/{name}.png" for name in ("00000", "00005", "00010")]
    assert sorted(path.name for path in (out / "Annotations/late").iterdir()) == ["00000.png", "00005.png", "00010.png"]
    np.testing.assert_array_equal(read_id_map(out / "Annotations/late/00010.png"), squares(2, 7))
    assert (out / "contact_sheets/late.jpg").is_file()
    report = json.loads((out / "scores.json").read_text())
    assert report["protocol"] == "youtube-vos"
    assert report["mean"] == {"jf": None, "j": None, "f": None}
    assert report["statistics"] is None
    assert report["sequences"]["late"]["objects"] == {}
    assert (report["frames"], report["masks_written"], report["videos"], report["scored_videos"]) == (11, 3, 1, 0)
    printed = capsys.readouterr().out
    assert "valid_all_frames" in printed
    assert "3 masks of 1 videos" in printed
    assert "no scores" in printed


def test_youtube_vos_with_all_masks_is_scored(youtube: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evaluate", str(youtube / "train"), "--json", str(youtube / "scores.json")]) == 0
    report = json.loads((youtube / "scores.json").read_text())
    assert report["mean"]["jf"] > 99
    assert list(report["sequences"]["whole"]["objects"]) == ["2"]
    assert (report["videos"], report["scored_videos"]) == (1, 1)
    assert "masks_written" not in report
    printed = capsys.readouterr().out
    assert "mean over objects" in printed
    assert "unseen" in printed
    assert not (youtube / "Annotations").exists()


def test_zip_of_some_videos_says_that_the_server_takes_all(youtube: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_video(youtube / "valid", "other", [0, 5], {1: [0, 5]}, {0: squares(1)})
    assert cli.main(["evaluate", str(youtube), "--sequences", "other", "--out", str(youtube / "out")]) == 0
    assert "2 masks of 1 videos; the server takes all 2" in capsys.readouterr().out


def test_stopped_youtube_vos_run_leaves_no_zip(
    youtube: Path, fake_networks: FakeNetworks, capsys: pytest.CaptureFixture[str]
) -> None:
    add_video(youtube / "valid", "other", [0, 5], {1: [0, 5]}, {0: squares(1)})
    encode_frame, calls = fake_networks.encode_frame, []

    def interrupted(frame):
        calls.append(frame)
        if len(calls) > 11:
            raise KeyboardInterrupt
        return encode_frame(frame)

    fake_networks.encode_frame = interrupted
    assert cli.main(["evaluate", str(youtube), "--out", str(youtube / "out")]) == 130
    assert (youtube / "out/Annotations/late/00010.png").is_file()
    assert not (youtube / "out/submission.zip").exists()
    assert "no submission.zip" in capsys.readouterr().out


def test_damaged_youtube_vos_split_is_one_clear_line(youtube: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (youtube / "valid/meta.json").write_text("{")
    assert cli.main(["evaluate", str(youtube)]) == 2
    assert "valid/meta.json: cannot be read" in capsys.readouterr().err
    assert cli.main(["evaluate", str(youtube / "nowhere"), "--protocol", "youtube-vos"]) == 2
    assert "expected the YouTube-VOS layout" in capsys.readouterr().err


def test_a_protocol_can_be_insisted_on(youtube: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evaluate", str(youtube), "--protocol", "davis2017"]) == 2
    assert "expected the DAVIS layout" in capsys.readouterr().err


def test_plot_shows_each_sequence(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", str(dataset), "--plot", str(dataset / "quality.svg"), "--quiet", "--json", "-"]
    assert cli.main(words) == 0
    printed = capsys.readouterr()
    drawn = (dataset / "quality.svg").read_text()
    for name, scores in json.loads(printed.out)["sequences"].items():
        assert f"<!-- {name} -->" in drawn
        assert f"<!-- {scores['jf']:.1f} -->" in drawn
    assert printed.err == ""

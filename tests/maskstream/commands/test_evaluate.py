"""`maskstream evaluate` from the command line, with networks that copy the last mask: its JSON keys and its masks."""

import json
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeNetworks

from maskstream import cli
from maskstream.commands import evaluate
from maskstream.moving_shapes import render
from maskstream.pictures import read_id_map, write_id_map, write_jpeg
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

"""`maskstream track` from the command line, with networks that copy the last mask: files, JSON, errors, Ctrl-C."""

import json
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeNetworks

from maskstream import cli
from maskstream.commands import track
from maskstream.moving_shapes import RenderedClip, render
from maskstream.pictures import read_id_map, write_id_map
from maskstream.video import VideoWriter, open_source

SIZE = (128, 192)
FRAMES = 6


@pytest.fixture(autouse=True)
def fake_networks(monkeypatch: pytest.MonkeyPatch) -> FakeNetworks:
    networks = FakeNetworks()
    monkeypatch.setattr(track, "networks_from", lambda arguments: networks)
    return networks


@pytest.fixture(scope="module")
def clip() -> RenderedClip:
    return render(FRAMES, SIZE)


@pytest.fixture
def folder(clip: RenderedClip, tmp_path: Path) -> Path:
    """clip.mp4, prompt.png and truth/ of a small clip."""
    with VideoWriter(tmp_path / "clip.mp4", 12.0) as video:
        for frame in clip.frames:
            video.write(frame)
    for index, id_map in enumerate(clip.id_maps):
        write_id_map(tmp_path / "truth" / f"{index:05d}.png", id_map)
    write_id_map(tmp_path / "prompt.png", clip.id_maps[0])
    return tmp_path


def run(folder: Path, *more: str, prompt: str = "prompt.png", source: str = "clip.mp4") -> int:
    words = prompt if "," in prompt else str(folder / prompt)
    return cli.main(["track", str(folder / source), "--prompt", words, "--out", str(folder / "out"), *more])


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "out/objects.jsonl").read_text().splitlines()]


def test_everything_is_written(folder: Path, clip: RenderedClip, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "--json", str(folder / "report.json")) == 0
    masks = sorted((folder / "out/masks").iterdir())
    assert [path.name for path in masks] == [f"{index:05d}.png" for index in range(FRAMES)]
    np.testing.assert_array_equal(read_id_map(masks[0]), clip.id_maps[0])
    with open_source(folder / "out/overlay.mp4") as overlay:
        assert (overlay.size, overlay.frames_per_second) == (SIZE, 12.0)
        assert len(list(overlay)) == FRAMES
    assert [line["frame"] for line in lines(folder)] == list(range(FRAMES))
    assert lines(folder)[3]["pts_seconds"] == 0.25
    assert [seen["id"] for seen in lines(folder)[0]["objects"]] == [1, 2, 3]
    assert (folder / "out/sheet.jpg").stat().st_size > 1000
    report = json.loads((folder / "report.json").read_text())
    assert report["scores"] is None
    assert (report["frames"], report["interrupted"]) == (FRAMES, False)
    assert report["fps"] > 0
    assert {"resize", "encode_frame", "segment", "encode_mask", "finish", "total"} == set(report["stages"])
    assert set(report["stages"]["total"]) == {"p50_ms", "p95_ms", "p99_ms"}
    assert all(Path(place).exists() for place in report["outputs"].values())
    assert {"versions", "hardware", "git_revision"} <= set(report)
    assert "p99 ms" in capsys.readouterr().out


def test_truth_gives_scores(folder: Path) -> None:
    assert run(folder, "--truth", str(folder / "truth"), "--json", str(folder / "report.json")) == 0
    scores = json.loads((folder / "report.json").read_text())["scores"]
    assert 30 < scores["jf"] < 100
    assert set(scores["objects"]) == {"1", "2", "3"}


def test_boxes_are_numbered_in_their_order(folder: Path) -> None:
    assert run(folder, "--prompt", "60,30,30,30", prompt="10,10,30,30") == 0
    assert [seen["id"] for seen in lines(folder)[0]["objects"]] == [1, 2]


def test_folder_of_pictures_is_a_source(folder: Path) -> None:
    """Id maps are pictures too, when read as frames."""
    assert run(folder, source="truth") == 0
    assert len(lines(folder)) == FRAMES


def test_ctrl_c_leaves_what_was_done(folder: Path, fake_networks: FakeNetworks) -> None:
    encode_frame, calls = fake_networks.encode_frame, []

    def interrupted(frame):
        calls.append(frame)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return encode_frame(frame)

    fake_networks.encode_frame = interrupted
    assert run(folder, "--json", str(folder / "report.json")) == 130
    with open_source(folder / "out/overlay.mp4") as overlay:
        assert len(list(overlay)) == 3
    assert len(lines(folder)) == len(list((folder / "out/masks").iterdir())) == 3
    report = json.loads((folder / "report.json").read_text())
    assert (report["frames"], report["interrupted"]) == (3, True)


@pytest.mark.parametrize(
    ("source", "prompt", "message"),
    [
        ("missing.mp4", "prompt.png", "missing.mp4: no such file"),
        ("empty.mp4", "prompt.png", "empty.mp4: the file is empty"),
        ("text.mp4", "prompt.png", "text.mp4: not a readable video"),
        ("clip.mp4", "small.png", "small.png is 20x10, the video is 192x128"),
        ("clip.mp4", "background.png", "background.png marks no object"),
        ("clip.mp4", "colours.png", "colours.png: a mask file holds object ids, this one holds RGB colours"),
        ("clip.mp4", "nowhere.png", "nowhere.png: cannot be read"),
        ("clip.mp4", "192,0,10,10", "lies outside the 192x128 frame"),
        ("clip.mp4", "5,5,0,10", "has no area"),
    ],
)
def test_bad_input_is_one_clear_line(
    folder: Path, source: str, prompt: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("a film in words\n" * 50)
    write_id_map(folder / "small.png", np.ones((10, 20), dtype=np.uint8))
    write_id_map(folder / "background.png", np.zeros(SIZE, dtype=np.uint8))
    (folder / "colours.png").write_bytes(_rgb_png())
    assert run(folder, source=source, prompt=prompt) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.splitlines()[-1].startswith("maskstream: ")
    assert "Traceback" not in printed


def test_truth_of_another_length_or_size_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "truth/00005.png").unlink()
    assert run(folder, "--truth", str(folder / "truth")) == 2
    assert "--truth holds 5 masks" in capsys.readouterr().err
    write_id_map(folder / "truth/00002.png", np.zeros((9, 9), dtype=np.uint8))
    assert run(folder, "--truth", str(folder / "truth")) == 2
    assert "00002.png is 9x9, the video is 192x128" in capsys.readouterr().err


def test_frame_size_that_changes_mid_stream_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_id_map(folder / "truth/00003.png", np.zeros((40, 50), dtype=np.uint8))
    assert run(folder, source="truth") == 2
    assert "this stream is 192x128, the frame is 50x40" in capsys.readouterr().err
    assert len(lines(folder)) == 3


def _rgb_png() -> bytes:
    import cv2

    return cv2.imencode(".png", np.zeros((*SIZE, 3), dtype=np.uint8))[1].tobytes()

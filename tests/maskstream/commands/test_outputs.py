"""What following leaves: the sinks asked for, whole files at Ctrl-C and on a full disk, a video no crash can spoil."""

import errno
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from maskstream.commands.outputs import DEFAULT_SINKS, SINKS, FollowedFrame, FollowOutputs, OutputError, parse_sinks
from maskstream.sinks.overlays import OverlayVideo
from maskstream.tracker import ObjectState
from maskstream.video import open_source

SIZE = (48, 64)


def followed(index: int, pts_seconds: float | None = None) -> FollowedFrame:
    id_map = np.zeros(SIZE, np.uint8)
    id_map[8:24, index % 32 : index % 32 + 16] = 2
    noise = np.random.default_rng(index).integers(0, 255, (*SIZE, 3), dtype=np.uint8)
    seen = (ObjectState(2, 0.75, 0.9, 256, (index % 32, 8, 16, 16), False),)
    return FollowedFrame(index, index / 10 if pts_seconds is None else pts_seconds, noise, id_map, seen, {"total": 0.1})


def test_every_sink_by_its_name(tmp_path: Path) -> None:
    with FollowOutputs(tmp_path / "out", 10.0, SINKS, video="dog") as outputs:
        for index in range(3):
            outputs.add(followed(index))
    places = outputs.report()["outputs"]
    assert set(places) == {"masks", "overlay", "objects", "sheet", "coco", "davis", "youtube-vos"}
    assert all(Path(place).exists() for place in places.values())
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("masks", "overlay.mp4", "objects.jsonl", "sheet.jpg", "coco.json", "davis", "youtube-vos"),
    }
    assert (tmp_path / "out/davis/Annotations/480p/dog/00002.png").exists()
    assert (tmp_path / "out/youtube-vos/Annotations/dog/00002.png").exists()


def test_only_what_was_asked_for_is_written(tmp_path: Path) -> None:
    with FollowOutputs(tmp_path, 10.0, ("coco",)) as outputs:
        outputs.add(followed(0))
    assert [path.name for path in tmp_path.iterdir()] == ["coco.json"]


def test_default_is_what_it_always_was(tmp_path: Path) -> None:
    with FollowOutputs(tmp_path, 10.0) as outputs:
        outputs.add(followed(0))
    assert list(outputs.report()["outputs"]) == ["masks", "overlay", "objects", "sheet"]
    assert SINKS[:4] == DEFAULT_SINKS


def test_sinks_by_words() -> None:
    assert parse_sinks("coco, masks,coco") == ("coco", "masks")
    for wrong in ("png", "", "masks,gif"):
        with pytest.raises(Exception, match=r"unknown sink .*; known: masks,overlay"):
            parse_sinks(wrong)
    with pytest.raises(ValueError, match="unknown sink 'gif'; known: masks, overlay"):
        FollowOutputs(Path(), 10.0, ("gif",))


def test_interrupted_run_leaves_whole_files(tmp_path: Path) -> None:
    def interrupted() -> None:
        with FollowOutputs(tmp_path, 10.0, SINKS) as outputs:
            outputs.add(followed(0))
            outputs.add(followed(1))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(json.loads((tmp_path / "coco.json").read_text())["annotations"]) == 2
    with open_source(tmp_path / "overlay.mp4") as video:
        assert len(list(video)) == 2


def test_video_of_a_killed_writer_plays(tmp_path: Path) -> None:
    sink = OverlayVideo(tmp_path / "overlay.mp4", 10.0)
    for index in range(120):
        one = followed(index)
        sink.add(one, lambda one=one: one.frame)
    shutil.copy(tmp_path / "overlay.mp4", tmp_path / "killed.mp4")
    with open_source(tmp_path / "killed.mp4") as video:
        assert len(list(video)) >= 40
    sink.close()
    with open_source(tmp_path / "overlay.mp4") as video:
        assert video.num_frames == 120


def test_video_with_frames_left_out_plays_at_its_own_pace(tmp_path: Path) -> None:
    with FollowOutputs(tmp_path, 10.0, ("overlay",)) as outputs:
        for pts_seconds in (100.0, 100.1, 100.5, 102.0):
            outputs.add(followed(0, pts_seconds))
    with open_source(tmp_path / "overlay.mp4") as video:
        assert [pts for _, pts in video] == pytest.approx([0.0, 0.1, 0.5, 2.0])


def test_times_that_stand_still_are_no_error(tmp_path: Path) -> None:
    with FollowOutputs(tmp_path, 10.0, ("overlay",)) as outputs:
        for pts_seconds in (5.0, 5.0, 4.0, 5.3):
            outputs.add(followed(0, pts_seconds))
    with open_source(tmp_path / "overlay.mp4") as video:
        assert [pts for _, pts in video] == pytest.approx([0.0, 0.1, 0.2, 0.3])


def test_line_of_a_live_frame_has_its_age(tmp_path: Path) -> None:
    with FollowOutputs(tmp_path, 10.0, ("jsonl",)) as outputs:
        outputs.add(followed(0))
        outputs.add(replace(followed(1), age_seconds=0.25, dropped=3))
    first, second = (json.loads(line) for line in (tmp_path / "objects.jsonl").read_text().splitlines())
    assert "age_seconds" not in first
    assert (second["age_seconds"], second["dropped"]) == (0.25, 3)
    assert second["objects"] == [
        {"id": 2, "score": 0.75, "visible": 0.9, "area": 256, "box": [1, 8, 16, 16], "lost": False}
    ]


class FullDisk:
    """A sink whose disk is full from the second frame on."""

    outputs: dict[str, str] = {}  # noqa: RUF012 - never changed

    def __init__(self) -> None:
        self.frames, self.closed = 0, False

    def add(self, one: FollowedFrame, draw: object) -> None:
        self.frames += 1
        if self.frames == 2:
            raise OSError(errno.ENOSPC, "No space left on device", "some/file.png")

    def close(self) -> None:
        self.closed = True
        raise OSError(errno.ENOSPC, "No space left on device")


def test_full_disk_is_said_and_what_was_done_is_kept(tmp_path: Path) -> None:
    full = FullDisk()

    def fill() -> None:
        with FollowOutputs(tmp_path, 10.0, SINKS, more=[full]) as outputs:
            outputs.add(followed(0))
            outputs.add(followed(1))

    with pytest.raises(OutputError, match=r"^some/file\.png: the disk is full; what was written so far is kept"):
        fill()
    assert full.closed
    assert len(json.loads((tmp_path / "coco.json").read_text())["images"]) == 2
    with open_source(tmp_path / "overlay.mp4") as video:
        assert len(list(video)) == 2


def test_disk_that_is_full_at_the_end_is_said(tmp_path: Path) -> None:
    full = FullDisk()
    outputs = FollowOutputs(tmp_path, 10.0, ("masks",), more=[full])
    outputs.add(followed(0))
    with pytest.raises(OutputError, match="the disk is full"):
        outputs.close()


def test_video_on_a_full_disk_says_so(tmp_path: Path) -> None:
    (tmp_path / "overlay.mp4").symlink_to("/dev/full")
    outputs = FollowOutputs(tmp_path, 10.0, ("overlay",))

    def fill() -> None:
        for index in range(200):
            outputs.add(followed(index))
        outputs.close()

    with pytest.raises(OutputError, match="the disk is full"):
        fill()


def test_sinks_that_were_open_are_closed_when_another_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "davis").write_text("a file")
    with pytest.raises(OutputError, match=r"davis.*: cannot be written"):
        FollowOutputs(tmp_path, 10.0, ("coco", "davis"))
    assert json.loads((tmp_path / "coco.json").read_text())["images"] == []


def test_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputError, match=r"out.*: cannot be written"):
        FollowOutputs(tmp_path / "out", 10.0)


READER_GONE = """
import numpy as np, pathlib, sys
from maskstream.commands.outputs import FollowedFrame, FollowOutputs, OutputError
from maskstream.report import STDOUT
from maskstream.sinks.json_lines import JsonLines
sys.stdin.readline()
frame, id_map = np.zeros((8, 8, 3), np.uint8), np.ones((8, 8), np.uint8)
try:
    with FollowOutputs(pathlib.Path(sys.argv[1]), 1.0, ("coco",), more=[JsonLines("lines", STDOUT)]) as outputs:
        outputs.add(FollowedFrame(0, 0.0, frame, id_map, (), {}))
except OutputError as error:
    sys.exit(str(error))
"""


def test_reader_of_standard_output_that_goes_away_is_one_line(tmp_path: Path) -> None:
    pipe = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", READER_GONE, str(tmp_path)], **pipe) as writer:
        writer.stdout.close()
        writer.stdin.write("go\n")
        writer.stdin.close()
        printed = writer.stderr.read()
    assert printed == "standard output was closed by its reader; what goes to files was kept\n"
    assert len(json.loads((tmp_path / "coco.json").read_text())["annotations"]) == 1

"""Videos in, frames out; what cannot be learnt from is named and left out."""

from pathlib import Path

import numpy as np
import pytest

from maskstream.errors import VideoError
from maskstream.video import VideoWriter
from train.clips import decode, find_videos, load_clips


def test_clips_are_decoded_once_and_shrunk(video_folder: Path, tmp_path: Path) -> None:
    clips, skipped = load_clips([video_folder], tmp_path, short_side=64)
    assert skipped == []
    assert [clip.frames.shape for clip in clips] == [(16, 64, 85, 3)] * 2
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    load_clips([video_folder], tmp_path, short_side=64)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == stamps


def test_a_file_that_is_no_video_is_skipped_by_name(video_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.mp4").write_text("these are not frames")
    (tmp_path / "empty.mp4").touch()
    clips, skipped = load_clips([video_folder, tmp_path / "notes.mp4", tmp_path / "empty.mp4"], tmp_path / "cache", 64)
    assert len(clips) == 2
    assert sorted(line.split(":")[0].rsplit("/", 1)[-1] for line in skipped) == ["empty.mp4", "notes.mp4"]


def test_a_video_of_a_few_frames_is_too_short(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "short.mp4") as writer:
        for _ in range(3):
            writer.write(np.zeros((96, 96, 3), np.uint8))
    with pytest.raises(VideoError, match=r"short\.mp4: 3 frames; at least 8"):
        decode(tmp_path / "short.mp4", 64)


def test_nothing_left_to_learn_from_is_an_error_that_lists_why(tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_text("no")
    with pytest.raises(VideoError, match=r"bad\.mp4"):
        load_clips([tmp_path], tmp_path / "cache", 64)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="nowhere: no such file or folder"):
        find_videos([tmp_path / "nowhere"])

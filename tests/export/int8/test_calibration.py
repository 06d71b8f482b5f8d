"""What is calibrated on: clips spread over the footage, something to follow in each, clear words when there is none."""

from pathlib import Path

import numpy as np
import pytest

from export.int8.calibration import CalibrationError, CalibrationSettings, calibration_clips, find_videos
from maskstream.moving_shapes import render
from maskstream.pictures import write_jpeg
from maskstream.video import VideoWriter


def video(file: Path, frames: int = 9) -> Path:
    with VideoWriter(file) as writer:
        for frame in render(frames, (64, 96), num_objects=1).frames:
            writer.write(frame)
    return file


def test_clips_are_spread_over_the_videos_and_frames_over_time(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        video(tmp_path / "in" / f"{name}.mp4")
    clips = calibration_clips([tmp_path], CalibrationSettings(clips=2, frames=4, every=2))
    assert [clip.name for clip in clips] == ["a", "c"]
    assert [len(clip.frames) for clip in clips] == [4, 4]
    assert not np.array_equal(clips[0].frames[0], clips[0].frames[1])


def test_two_regions_side_by_side_are_followed(tmp_path: Path) -> None:
    (clip,) = calibration_clips([video(tmp_path / "a.mp4")], CalibrationSettings(clips=3, frames=3))
    first, second = clip.prompts
    assert (first.object_id, second.object_id) == (1, 2)
    assert first.mask.shape == second.mask.shape == (64, 96)
    assert first.mask.any()
    assert second.mask.any()
    assert not (first.mask & second.mask).any()
    assert np.nonzero(first.mask)[1].max() < np.nonzero(second.mask)[1].min() + 1


def test_a_folder_of_pictures_is_a_video(tmp_path: Path) -> None:
    for index in range(3):
        write_jpeg(tmp_path / "pictures" / f"{index}.jpg", np.full((32, 48, 3), 40 * index, np.uint8))
    assert find_videos([tmp_path]) == [tmp_path / "pictures"]


def test_drawn_clips_stand_in_with_their_exact_masks() -> None:
    clips = calibration_clips([], CalibrationSettings(clips=2, frames=2, every=1))
    assert [clip.name for clip in clips] == ["drawn 0", "drawn 1"]
    assert all(len(clip.prompts) == 2 for clip in clips)
    assert not np.array_equal(clips[0].frames[0], clips[1].frames[0])


def test_what_is_no_footage_is_named(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"nowhere: no such file or folder; --calibration takes"):
        calibration_clips([tmp_path / "nowhere"])
    with pytest.raises(CalibrationError, match=r"no video in .*looked for files ending in \.mp4"):
        calibration_clips([tmp_path])
    with pytest.raises(CalibrationError, match=r"short\.mp4: no video of at least 3 frames"):
        calibration_clips([video(tmp_path / "short.mp4", frames=2)])

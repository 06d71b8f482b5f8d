"""Videos in, frames out; what cannot be learnt from is named and left out."""

from pathlib import Path

import numpy as np
import pytest
from moving_square import moving_square

from maskstream.errors import VideoError
from maskstream.pictures import write_id_map, write_jpeg
from train.clips import decode_all, find_sources, open_clips
from train.decoding import DecodeSettings

SETTINGS = DecodeSettings(short_side=64)


def names(paths: list[Path], root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in paths]


def test_clips_are_decoded_once_and_shrunk(video_folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "run" / "decoded"
    footage = decode_all([video_folder], cache, SETTINGS)
    assert footage.skipped == footage.notes == ()
    clips = open_clips(footage.files)
    assert [(clip.name, clip.frames.shape) for clip in clips] == [
        ("clip0", (16, 64, 85, 3)),
        ("clip1", (16, 64, 85, 3)),
    ]
    stamps = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    assert decode_all([video_folder], cache, SETTINGS) == footage
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == stamps


def test_other_settings_and_a_changed_file_are_decoded_anew(video_folder: Path, tmp_path: Path) -> None:
    video, cache = tmp_path / "it.mp4", tmp_path / "run" / "decoded"
    video.write_bytes((video_folder / "clip0.mp4").read_bytes())
    first = decode_all([video], cache, SETTINGS).files
    assert decode_all([video], cache, DecodeSettings(short_side=72)).files != first
    video.write_bytes((video_folder / "clip1.mp4").read_bytes())
    second = decode_all([video], cache, SETTINGS).files
    assert not np.array_equal(open_clips(first)[0].frames, open_clips(second)[0].frames)


def test_a_damaged_cache_file_is_decoded_anew(video_folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "run" / "decoded"
    footage = decode_all([video_folder], cache, SETTINGS)
    footage.files[0][1].write_bytes(b"")
    assert open_clips(decode_all([video_folder], cache, SETTINGS).files)[0].frames.shape == (16, 64, 85, 3)


def test_files_that_are_no_videos_are_skipped_by_name(video_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.mp4").write_text("these are not frames")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "gone.mp4").symlink_to(tmp_path / "nowhere")
    footage = decode_all([video_folder, tmp_path], tmp_path / "run" / "decoded", SETTINGS)
    assert len(footage.files) == 2
    assert [line.split(":")[0].rsplit("/", 1)[-1] for line in footage.skipped] == [
        "empty.mp4",
        "gone.mp4",
        "notes.mp4",
    ]


def test_a_long_video_gives_several_clips(tmp_path: Path) -> None:
    for index, frame in enumerate(moving_square(frames=40)):
        write_jpeg(tmp_path / "long" / f"{index:05d}.jpg", frame)
    footage = decode_all([tmp_path], tmp_path / "run" / "decoded", DecodeSettings(64, frames_max=32))
    clips = open_clips(footage.files)
    assert [(clip.name, len(clip.frames)) for clip in clips] == [("long#0", 8), ("long#1", 8), ("long#2", 8)]


def test_folders_of_pictures_are_clips_unless_they_hold_videos(tmp_path: Path, video_folder: Path) -> None:
    frames = moving_square(frames=8)
    for folder in ("a", "with_video", "few", ".hidden", "run/pictures"):
        for index, frame in enumerate(frames[: 3 if folder == "few" else 8]):
            write_jpeg(tmp_path / folder / f"{index}.jpg", frame)
    (tmp_path / "with_video" / "b.MP4").write_bytes((video_folder / "clip0.mp4").read_bytes())
    assert names(find_sources([tmp_path], leave_out=tmp_path / "run"), tmp_path) == ["a", "with_video/b.MP4"]
    assert find_sources([tmp_path / "a", tmp_path / "a"]) == [tmp_path / "a"], "named twice, taken once"


def test_masks_are_never_learnt_from(tmp_path: Path) -> None:
    for index, frame in enumerate(moving_square(frames=8)):
        write_jpeg(tmp_path / "JPEGImages" / "480p" / "square" / f"{index:05d}.jpg", frame)
        write_id_map(tmp_path / "Annotations" / "480p" / "square" / f"{index:05d}.png", frame[..., 0] // 100)
    footage = decode_all([tmp_path], tmp_path / "run" / "decoded", SETTINGS)
    assert len(footage.files) == 1
    assert len(footage.skipped) == 1
    assert "Annotations/480p/square: pictures with a palette are masks" in footage.skipped[0]


def test_links_in_a_circle_are_followed_once(tmp_path: Path, video_folder: Path) -> None:
    (tmp_path / "videos").symlink_to(video_folder)
    (tmp_path / "again").symlink_to(tmp_path)
    assert len(find_sources([tmp_path])) == 2


def test_nothing_left_to_learn_from_is_an_error_that_lists_why(tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_text("no")
    with pytest.raises(VideoError, match=r"none of the videos can be learnt from:\n.*bad\.mp4: not a readable video"):
        decode_all([tmp_path], tmp_path / "run" / "decoded", SETTINGS)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="nowhere: no such file or folder"):
        find_sources([tmp_path / "nowhere"])
    with pytest.raises(VideoError, match=r"no video in .*; looked for files ending in \.mp4"):
        find_sources([tmp_path])

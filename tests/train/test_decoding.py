"""Videos and folders of pictures become .npy files; what is wrong with one is said by name."""

import errno
import os
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from moving_square import moving_square

from maskstream.errors import VideoError
from maskstream.pictures import write_jpeg
from maskstream.video import VideoWriter
from train import decoding
from train.decoding import DecodeSettings, decode


def write_video(path: Path, frames: np.ndarray) -> Path:
    with VideoWriter(path) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def decoded(source: Path, folder: Path, **settings: int) -> tuple[np.ndarray, str]:
    note = decode(source, folder / "out.npy", DecodeSettings(**settings), lambda frames: None)
    assert not list(folder.glob("*.partial"))
    return np.load(folder / "out.npy"), note


def numbered(count: int) -> np.ndarray:
    """Frame i is grey of brightness i."""
    return np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, 64, 64, 3))


def write_pictures(folder: Path, frames: np.ndarray) -> Path:
    for index, frame in enumerate(frames):
        write_jpeg(folder / f"{index}.jpg", frame, quality=100)
    return folder


def test_frames_come_in_order_and_at_their_size(tmp_path: Path) -> None:
    frames, note = decoded(write_pictures(tmp_path / "pictures", numbered(12)), tmp_path)
    assert frames.shape == (12, 64, 64, 3)
    assert frames[:, 0, 0, 0].tolist() == list(range(12)), "10.jpg follows 9.jpg"
    assert note == ""
    shrunk, _ = decoded(write_video(tmp_path / "wide.mp4", moving_square(size=(96, 128))), tmp_path, short_side=72)
    assert shrunk.shape == (16, 72, 96, 3)


@pytest.mark.parametrize(
    ("count", "kept"),
    [
        (32, [range(32)]),  # as many as are wanted: one clip
        (33, [range(8), range(16, 24)]),  # one more: every second run of eight
        (65, [range(8), range(32, 40)]),  # every fourth; the last run, of a single frame, is dropped
        (80, [range(8), range(32, 40), range(64, 72)]),
    ],
)
def test_a_long_video_is_kept_as_evenly_spread_runs_of_consecutive_frames(
    tmp_path: Path, count: int, kept: list[range]
) -> None:
    frames, _ = decoded(write_pictures(tmp_path / "long", numbered(count)), tmp_path, frames_max=32)
    runs = frames if frames.ndim == 5 else frames[None]
    assert [list(run[:, 0, 0, 0]) for run in runs] == [list(run) for run in kept]


def test_an_unreadable_picture_and_one_of_another_size_are_left_out(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "pictures", numbered(12))
    (folder / "3.jpg").write_text("no picture")
    write_jpeg(folder / "5.jpg", np.zeros((64, 80, 3), np.uint8))
    frames, note = decoded(folder, tmp_path)
    assert frames[:, 0, 0, 0].tolist() == [0, 1, 2, 4, 6, 7, 8, 9, 10, 11]
    assert "2 frames that are unreadable or of another size" in note


def test_of_a_truncated_video_the_frames_before_the_break_are_used(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 96, 96, 3), np.uint8)
    path = write_video(tmp_path / "cut.mkv", noise)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    frames, _ = decoded(path, tmp_path)
    assert 8 <= len(frames) < 60


def short(path: Path) -> None:
    write_video(path, moving_square(frames=3))


def small(path: Path) -> None:
    write_video(path, np.zeros((12, 40, 400, 3), np.uint8))


def sound(path: Path) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 8000, "NONE", ""))
        file.writeframes(bytes(16000))


def random_bytes(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(4096))


def beheaded(path: Path) -> None:
    write_video(path, moving_square())
    path.write_bytes(path.read_bytes()[200:])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (short, "3 frames; at least 8 are needed"),
        (small, "400x40; sides of 64 are needed"),
        (sound, "no video stream"),
        (random_bytes, "not a readable video"),
        (beheaded, "not a readable video"),
        (lambda path: path.write_text("these are not frames"), "not a readable video"),
        (Path.touch, "the file is empty"),
    ],
)
def test_what_cannot_be_learnt_from_is_named_with_the_reason(
    tmp_path: Path, make: Callable[[Path], Any], reason: str
) -> None:
    make(tmp_path / "it.mp4")
    with pytest.raises(VideoError, match=rf"it\.mp4: {reason}"):
        decoded(tmp_path / "it.mp4", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["it.mp4"], "nothing half done is left"


def test_a_full_disk_is_not_the_videos_fault(
    video_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: object, frame: object) -> bool:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(decoding._FrameFile, "add", full)
    with pytest.raises(OSError, match="No space left"):
        decoded(video_folder / "clip0.mp4", tmp_path)
    assert list(tmp_path.iterdir()) == []

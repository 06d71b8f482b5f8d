"""Every kind of source, a round trip through the writer, and what is said of files that are no video."""

import struct
from pathlib import Path

import av
import numpy as np
import pytest

from maskstream.errors import VideoError
from maskstream.pictures import write_jpeg
from maskstream.video import VideoWriter, list_pictures, open_source


def plain_frames(count: int, size: tuple[int, int] = (48, 64)) -> list[np.ndarray]:
    """Even colours, whose red grows from frame to frame."""
    frames = [np.full((*size, 3), (20, 120, 60), dtype=np.uint8) for _ in range(count)]
    for index, frame in enumerate(frames):
        frame[..., 0] += 20 * index
    return frames


def write_video(path: Path, frames: list[np.ndarray], rate: float = 25.0) -> Path:
    with VideoWriter(path, rate) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def test_a_written_video_reads_back(tmp_path: Path) -> None:
    frames = plain_frames(8)
    with open_source(write_video(tmp_path / "new" / "clip.mp4", frames)) as source:
        assert (source.size, source.frames_per_second, source.num_frames, source.live) == ((48, 64), 25.0, 8, False)
        read = list(source)
    assert [pts for _, pts in read] == pytest.approx([index / 25 for index in range(8)])
    for (found, _), expected in zip(read, frames, strict=True):
        assert np.abs(found.astype(int) - expected).max() < 12  # red is red, and the frames are in order


def test_odd_sides_are_made_even(tmp_path: Path) -> None:
    with open_source(write_video(tmp_path / "odd.mp4", plain_frames(2, (47, 63)))) as source:
        assert source.size == (48, 64)


def test_writer_refuses_a_frame_of_another_size(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "clip.mp4") as writer:
        writer.write(plain_frames(1)[0])
        with pytest.raises(ValueError, match="64x48; a frame of 32x16 does not fit"):
            writer.write(plain_frames(1, (16, 32))[0])


def test_writer_stopped_by_an_error_leaves_a_playable_file(tmp_path: Path) -> None:
    def interrupted() -> None:
        with VideoWriter(tmp_path / "clip.mp4") as writer:
            for frame in plain_frames(5):
                writer.write(frame)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with open_source(tmp_path / "clip.mp4") as source:
        assert len(list(source)) == 5


def test_writer_without_frames_leaves_no_file(tmp_path: Path) -> None:
    VideoWriter(tmp_path / "none.mp4").close()
    assert not (tmp_path / "none.mp4").exists()


def test_folder_of_pictures_is_read_in_order_of_numbers(tmp_path: Path) -> None:
    for index, frame in enumerate(plain_frames(11)):
        write_jpeg(tmp_path / f"{index}.jpg", frame)
    (tmp_path / "notes.txt").write_text("not a picture")
    with open_source(tmp_path) as source:
        assert source.num_frames == 11
        reds = [int(frame[0, 0, 0]) for frame, _ in source]
    assert reds == sorted(reds)
    assert len(set(reds)) == 11


def test_names_that_mix_words_and_numbers_can_be_sorted(tmp_path: Path) -> None:
    for name in ("10.png", "9.png", "a2.png", "a10.png", "cover.png"):
        (tmp_path / name).touch()
    assert [path.name for path in list_pictures(tmp_path)] == ["9.png", "10.png", "a2.png", "a10.png", "cover.png"]


def test_video_held_upright_is_turned(tmp_path: Path) -> None:
    """A telephone writes the picture as its chip lies, and the quarter turn in the track header."""
    frame = np.zeros((48, 64, 3), dtype=np.uint8)
    frame[:, :16] = 255  # a white band on the left
    path = write_video(tmp_path / "clip.mp4", [frame] * 3)
    data = bytearray(path.read_bytes())
    matrix = data.rindex(b"tkhd") + 44  # of the finished file: earlier ones are what a killed writer leaves
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 48 << 16, 0, 1 << 30)
    path.write_bytes(data)
    with open_source(path) as source:
        assert source.size == (64, 48)
        upright = next(iter(source))[0]
    assert upright[:12].min() > 200  # x goes down: what was left is on top
    assert upright[20:].max() < 60


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.mp4", None, "missing.mp4: no such file; expected a video file"),
        ("empty.mp4", b"", "empty.mp4: the file is empty; expected a video file"),
        ("text.mp4", b"this is no video\n" * 40, "text.mp4: not a readable video"),
        ("text.txt", b"this is no video\n" * 40, "text.txt: "),
        ("noise.mp4", bytes(range(256)) * 40, "noise.mp4: not a readable video"),
    ],
)
def test_what_is_no_video_is_named(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(VideoError, match=message):
        open_source(tmp_path / name)


def test_truncated_video_is_refused(tmp_path: Path) -> None:
    data = write_video(tmp_path / "clip.mp4", plain_frames(9)).read_bytes()
    (tmp_path / "clip.mp4").write_bytes(data[: len(data) // 3])
    with pytest.raises(VideoError, match=r"clip.mp4: "):
        open_source(tmp_path / "clip.mp4")


def test_sound_without_picture_is_refused(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), dtype=np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(VideoError, match="no video stream in it"):
        open_source(tmp_path / "sound.wav")


def test_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="no picture in this folder"):
        open_source(tmp_path)


def test_camera_that_is_not_there_is_named() -> None:
    with pytest.raises(VideoError, match="camera 97"):
        open_source("97")


def test_address_that_does_not_answer_is_named() -> None:
    with pytest.raises(VideoError, match=r"http://127.0.0.1:9/none.mp4: not a readable video"):
        open_source("http://127.0.0.1:9/none.mp4")

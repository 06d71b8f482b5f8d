"""The decoder lives in a process of its own: a video that kills or stalls it costs that video alone."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from maskstream.errors import VideoError
from train import decoder as decoder_module
from train.clips import decode_all
from train.decoder import Decoder, Limits
from train.decoding import DecodeSettings

# The child decodes as ever, but does to itself what the name of a file says.
PROGRAM = """
import os, signal, time
from train import decoder
decode = decoder.decode
served = []
def misbehave(source, *rest):
    served.append(source)
    if "segfault" in source.name:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "abort" in source.name:
        os.abort()
    if "stall" in source.name:
        time.sleep(3600)
    if "raise" in source.name:
        raise KeyError("a bug of ours")
    if "hungry" in source.name:
        bytearray(2**34)
    if "worn" in source.name and len(served) > 1:
        os.abort()
    return decode(source, *rest)
decoder.decode = misbehave
decoder.serve()
"""
SETTINGS = DecodeSettings(short_side=64)


@pytest.fixture
def decoder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Decoder]:
    monkeypatch.setattr(decoder_module, "PROGRAM", PROGRAM)
    with Decoder(Limits(silent_seconds=60, memory_bytes=8 * 2**30)) as made:
        yield made


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("segfault", r"crashed the decoder \(signal 11\)"),
        ("abort", r"crashed the decoder \(signal 6\)"),
        ("raise", r"crashed the decoder \(exit status 1: KeyError: 'a bug of ours'\)"),
        ("hungry", "needs more memory"),
    ],
)
def test_a_crash_costs_one_video_and_the_next_one_is_decoded(
    video_folder: Path, tmp_path: Path, decoder: Decoder, name: str, reason: str
) -> None:
    with pytest.raises(VideoError, match=rf"{name}\.mp4: .*{reason}"):
        decoder.decode(tmp_path / f"{name}.mp4", tmp_path / "bad.npy", SETTINGS)
    assert decoder.decode(video_folder / "clip0.mp4", tmp_path / "good.npy", SETTINGS) == ""
    assert np.load(tmp_path / "good.npy").shape == (16, 64, 85, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["good.npy"]


def test_a_decoder_that_falls_silent_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder_module, "PROGRAM", PROGRAM)
    silence = pytest.raises(VideoError, match=r"stall\.mp4: the decoder was silent for 0\.2 s")
    with Decoder(Limits(silent_seconds=0.2)) as impatient, silence:
        impatient.decode(tmp_path / "stall.mp4", tmp_path / "out.npy", SETTINGS)


def test_a_video_is_not_blamed_for_what_an_earlier_one_did_to_the_process(
    video_folder: Path, tmp_path: Path, decoder: Decoder
) -> None:
    worn = tmp_path / "worn.mp4"
    worn.symlink_to(video_folder / "clip1.mp4")
    decoder.decode(video_folder / "clip0.mp4", tmp_path / "first.npy", SETTINGS)
    assert decoder.decode(worn, tmp_path / "second.npy", SETTINGS) == ""


def test_crashes_among_many_videos_are_skipped_by_name(
    video_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder_module, "PROGRAM", PROGRAM)
    for name in ("abort", "segfault"):
        (tmp_path / f"{name}.mp4").write_bytes(b"anything")
    footage = decode_all([tmp_path, video_folder], tmp_path / "run" / "decoded", SETTINGS)
    assert [name for name, _ in footage.files] == ["clip0", "clip1"]
    assert [line.rpartition("/")[2] for line in footage.skipped] == [
        "abort.mp4: crashed the decoder (signal 6)",
        "segfault.mp4: crashed the decoder (signal 11)",
    ]


def test_no_process_is_left(decoder: Decoder, video_folder: Path, tmp_path: Path) -> None:
    decoder.decode(video_folder / "clip0.mp4", tmp_path / "out.npy", SETTINGS)
    assert decoder._child is not None
    number = decoder._child.pid
    decoder.close()
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)

"""Following by a server: the same files as in this process, and clear words when the server cannot."""

import json
from pathlib import Path

import numpy as np
import pytest
from served import SIZE, Running, picture, square

from maskstream import cli
from maskstream.commands.remote import follow_remotely
from maskstream.errors import MaskstreamError
from maskstream.pictures import read_id_map, write_id_map
from maskstream.tracker import Prompt
from maskstream.video import VideoWriter


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with VideoWriter(tmp_path / "clip.mp4") as video:
        for shade in range(8):
            video.write(picture(colour=(200, 100, 20 * shade)))
    write_id_map(tmp_path / "prompt.png", 7 * square(16, 32))
    return tmp_path


def test_track_by_a_server(running: Running, folder: Path) -> None:
    words = ["track", str(folder / "clip.mp4"), "--prompt", str(folder / "prompt.png"), "--out", str(folder / "out")]
    assert cli.main([*words, "--server", running.server.listen, "--json", str(folder / "report.json")]) == 0
    report = json.loads((folder / "report.json").read_text())
    assert report["frames"] == 8
    assert {"queue", "decode", "encode_frame", "segment", "encode", "total"} <= set(report["stages"])
    last = read_id_map(folder / "out/masks/00007.png")
    assert (last == 7 * square(16, 32)).mean() > 0.99


def test_every_frame_comes_back_with_its_own_picture(running: Running) -> None:
    frames = [(picture(colour=(20 * index, 0, 0)), index / 10) for index in range(10)]
    prompts_for_sizes = []

    def prompts_for(frame: np.ndarray) -> list[Prompt]:
        prompts_for_sizes.append(frame.shape)
        return [Prompt(3, square(0, 0))]

    followed = list(follow_remotely(running.server.listen, frames, prompts_for, live=False))
    assert [one.index for one in followed] == list(range(10))
    assert [one.pts_seconds for one in followed] == [pts for _, pts in frames]
    for one, (frame, _) in zip(followed, frames, strict=True):
        assert one.frame is frame
    assert prompts_for_sizes == [(*SIZE, 3)]


def test_live_frames_that_come_too_fast_are_left_out(start) -> None:
    from fakes import FakeNetworks

    slow = start(FakeNetworks(delay_seconds=0.05))
    frames = [(picture(), index / 10) for index in range(40)]
    prompts = [Prompt(3, square(0, 0))]
    followed = list(follow_remotely(slow.server.listen, frames, lambda frame: prompts, live=True))
    indices = [one.index for one in followed]
    assert indices[0] == 0  # the prompt's frame is never dropped
    assert indices == sorted(indices)
    assert 1 <= len(indices) < 40


def test_prompt_that_the_server_refuses_ends_the_command(running: Running) -> None:
    empty = [Prompt(3, np.zeros(SIZE, np.uint8))]
    answers = follow_remotely(running.server.listen, [(picture(), 0.0)] * 3, lambda frame: empty, live=False)
    with pytest.raises(MaskstreamError, match="empty"):
        list(answers)


def test_server_that_is_not_there_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["track", str(folder / "clip.mp4"), "--prompt", str(folder / "prompt.png"), "--out", str(folder / "out")]
    assert cli.main([*words, "--server", "127.0.0.1:9"]) == 2
    printed = capsys.readouterr().err
    assert "127.0.0.1:9" in printed
    assert "Traceback" not in printed

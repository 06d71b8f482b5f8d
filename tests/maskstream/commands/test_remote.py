"""Following by a server: the same files as in this process, and clear words when the server cannot."""

import itertools
import json
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from cameras import Camera
from fakes import FakeNetworks
from served import SIZE, Running, picture, square

from maskstream import cli
from maskstream.commands.remote import follow_remotely
from maskstream.errors import MaskstreamError
from maskstream.live_source import LiveSettings
from maskstream.pictures import read_id_map, write_id_map
from maskstream.tracker import Prompt
from maskstream.video import VideoWriter, open_source


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
    slow = start(FakeNetworks(delay_seconds=0.05))
    frames = [(picture(), index / 10) for index in range(40)]
    prompts = [Prompt(3, square(0, 0))]
    followed = list(follow_remotely(slow.server.listen, frames, lambda frame: prompts, live=True))
    indices = [one.index for one in followed]
    assert indices[0] == 0  # the prompt's frame is never dropped
    assert indices == sorted(indices)
    assert 1 <= len(indices) < 40


def test_prompts_of_later_frames_are_made_from_their_frames(running: Running) -> None:
    frames = [(picture(colour=(20 * index, 0, 0)), index / 10) for index in range(6)]
    seen: dict[int, int] = {}

    def prompts_for(number: int):
        def make(frame: np.ndarray) -> list[Prompt]:
            seen[number] = int(frame[0, 0, 0])
            return [Prompt(number, square(0, 16 * number))]

        return make

    plan = {2: prompts_for(2), 4: prompts_for(4)}
    followed = list(follow_remotely(running.server.listen, frames, plan, live=False))
    assert [[one.object_id for one in frame.objects] for frame in followed] == [[], [], [2], [2], [2, 4], [2, 4]]
    assert seen == {2: 40, 4: 80}
    assert not followed[1].id_map.any()


def test_camera_by_a_server_has_age_and_drops(start) -> None:
    slow = start(FakeNetworks(delay_seconds=0.1))
    camera = Camera((64, 96))
    try:
        with open_source(camera.url(), LiveSettings()) as source:
            answers = follow_remotely(slow.server.listen, source, lambda frame: [Prompt(3, square(0, 0))], live=True)
            followed = list(itertools.islice(answers, 6))
            answers.close()
    finally:
        camera.stop()
    assert all(one.age_seconds is not None and 0.1 <= one.age_seconds < 5 for one in followed)
    assert sum(one.dropped for one in followed) >= 5
    assert all(one.frame.shape == (64, 96, 3) for one in followed)


def test_camera_that_is_given_up_ends_the_command_and_leaves_whole_files(
    running: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    camera = Camera((64, 96))
    lines = tmp_path / "out/objects.jsonl"

    def pull_the_plug() -> None:
        while not lines.exists() or len(lines.read_text().splitlines()) < 4:
            time.sleep(0.01)
        camera.stop()

    threading.Thread(target=pull_the_plug, daemon=True).start()
    words = ["track", camera.url(), "--prompt", "8,8,48,32", "--server", running.server.listen]
    words += ["--out", str(tmp_path / "out"), "--reconnect-seconds", "0.2", "--sinks", "jsonl,coco"]
    assert cli.main(words) == 2
    assert "127.0.0.1" in (printed := capsys.readouterr().err)
    assert "is the camera on, is it reachable?" in printed
    images = json.loads((tmp_path / "out/coco.json").read_text())["images"]
    assert len(images) == len(lines.read_text().splitlines()) >= 4


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

"""The unit of work with fake networks: outputs, and that whatever goes wrong is an answer."""

import errno
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeNetworks
from tiny_archive import FRAMES, write_video

from maskstream.archive.following import Follower
from maskstream.archive.jobs import DISK_FULL, DONE, FAILED, Beat, Job, Outcome, PromptSource, Words, WorkSettings
from maskstream.commands.outputs import FollowOutputs
from maskstream.errors import MaskstreamError, NoObjects
from maskstream.pictures import read_id_map
from maskstream.prompt_kinds import AutoPrompt
from maskstream.tracker import Tracker

SINKS_TRIED = ("masks", "davis")
NAME = "deep/caf\udce9 a"  # as a file's name of bytes that are no text


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_video(tmp_path, "a")
    return tmp_path


def follow(root: Path, prompt: PromptSource | None = None, networks: FakeNetworks | None = None) -> Outcome:
    prompt = prompt or PromptSource(file=root / "prompts/a.png", folder=root / "prompts")
    job = Job(NAME, root / "videos/a.mp4", prompt, root / "scratch/0")
    beats: list[Beat] = []
    outcome = Follower(networks or FakeNetworks(), SINKS_TRIED).follow(job, beats.append)
    assert beats == [Beat(NAME, count, FRAMES) for count in range(1, outcome.frames + 1)]
    return outcome


def test_a_video_is_followed_into_its_scratch_folder(root: Path) -> None:
    outcome = follow(root)
    assert (outcome.state, outcome.frames, outcome.reason, outcome.error) == (DONE, FRAMES, "", "")
    assert sorted(path.name for path in (root / "scratch/0").iterdir()) == ["davis", "masks"]
    assert len(list((root / "scratch/0/davis/Annotations/480p/deep-caf-a").iterdir())) == FRAMES
    masks = sorted((root / "scratch/0/masks").iterdir())
    assert [mask.name for mask in masks] == [f"{index:05d}.png" for index in range(FRAMES)]
    np.testing.assert_array_equal(read_id_map(masks[0]), read_id_map(root / "prompts/a.png"))


def test_an_empty_file_a_missing_file_and_a_bad_prompt_are_answers(root: Path) -> None:
    (root / "prompts/a.png").write_bytes(b"no png")
    assert (follow(root).state, follow(root).reason) == (FAILED, "MASK_UNREADABLE")
    (root / "videos/a.mp4").write_bytes(b"")
    assert follow(root).reason == "VIDEO_UNREADABLE"
    (root / "videos/a.mp4").unlink()
    assert "no such file" in follow(root).error


def test_a_box_outside_the_frame_is_an_answer(root: Path) -> None:
    outcome = follow(root, PromptSource(words=(Words(1, "500,500,20,20"),)))
    assert (outcome.state, outcome.reason) == (FAILED, "INVALID_PROMPT")
    assert "500,500,20,20" in outcome.error


def test_an_error_nobody_thought_of_is_an_answer_and_the_next_video_is_followed(root: Path) -> None:
    networks = FakeNetworks()
    networks.failure = ZeroDivisionError("in a kernel")
    outcome = follow(root, networks=networks)
    assert (outcome.state, outcome.reason, outcome.error) == (
        FAILED,
        "UNEXPECTED",
        "ZeroDivisionError: in a kernel",
    )
    assert follow(root, networks=networks).state == DONE


def test_a_full_disk_is_told_apart_however_deep_it_lies(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: FollowOutputs, *arguments: object) -> None:
        try:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise MaskstreamError("cannot write") from error

    monkeypatch.setattr(FollowOutputs, "add", full)
    assert follow(root).reason == DISK_FULL


def test_where_nothing_is_found_ahead_the_tracker_says_so(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def step(self: Tracker, frame: object, prompts: Sequence[object]) -> None:
        asked.extend(prompts)
        raise NoObjects("nothing stands out on this frame")

    monkeypatch.setattr(Tracker, "step", step)
    monkeypatch.setattr("maskstream.commands.follow.auto_prompts", lambda *_: [])
    outcome = follow(root, PromptSource(auto=3))
    assert asked == [AutoPrompt(3)]
    assert (outcome.state, outcome.reason, outcome.frames) == (FAILED, "NO_OBJECTS", 0)


def test_a_place_that_is_not_fit_refuses_before_it_loads_anything(tmp_path: Path) -> None:
    settings = WorkSettings(tmp_path / "none", "auto", 1, (), tmp_path, "0.0.0-other")
    with pytest.raises(MaskstreamError, match=r"the command 0\.0\.0-other; install the same"):
        Follower.load(settings)


def test_a_place_that_does_not_see_the_outputs_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maskstream.archive.following.version", lambda name: "1")
    with pytest.raises(MaskstreamError, match=r"does not see .*share"):
        Follower.load(WorkSettings(tmp_path, "auto", 1, (), tmp_path / "gone", "1"))

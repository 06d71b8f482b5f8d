"""Following in this process: things that are to be found by themselves are looked for in the frames to come as well."""

import numpy as np
from fakes import FakeNetworks

from maskstream.commands import follow
from maskstream.commands.follow import LOOK_AHEAD_FRAMES, follow_locally
from maskstream.prompt_kinds import AutoPrompt, Prompt

SIZE = (96, 128)
FRAMES = 14


def frames(taken: list[int]):
    """A red disc on a grey ground; notes which frames were asked for."""
    rows, columns = np.indices(SIZE)
    for index in range(FRAMES):
        taken.append(index)
        picture = np.full((*SIZE, 3), 110, np.uint8)
        picture[(columns - 60) ** 2 + (rows - 48) ** 2 <= 24**2] = (230, 30, 30)
        yield picture, index / 10


def test_a_recording_is_looked_at_some_frames_ahead_and_every_frame_is_answered_once(monkeypatch) -> None:
    looked_at: list[int] = []
    monkeypatch.setattr(follow, "auto_prompts", lambda _, chosen, most: looked_at.append(len(chosen)) or disc(most))
    taken: list[int] = []
    answers = follow_locally(FakeNetworks(), frames(taken), lambda _: [AutoPrompt(1)])
    first = next(answers)
    assert len(taken) == LOOK_AHEAD_FRAMES
    assert looked_at == [LOOK_AHEAD_FRAMES]
    assert [state.object_id for state in first.objects] == [1]
    rest = list(answers)
    assert [answer.index for answer in (first, *rest)] == list(range(FRAMES))
    assert [answer.pts_seconds for answer in (first, *rest)] == [index / 10 for index in range(FRAMES)]


def disc(most: int) -> list[Prompt]:
    assert most == 1
    return [Prompt(1, next(frames([]))[0][..., 0] > 200)]


def test_a_prompt_that_is_given_needs_no_look_ahead() -> None:
    taken: list[int] = []
    answers = follow_locally(FakeNetworks(), frames(taken), lambda _: [*disc(1), AutoPrompt(1)])
    next(answers)
    assert taken == [0]
    assert len(list(answers)) == FRAMES - 1


def test_no_frame_is_no_answer() -> None:
    assert list(follow_locally(FakeNetworks(), iter(()), lambda _: [AutoPrompt(1)])) == []

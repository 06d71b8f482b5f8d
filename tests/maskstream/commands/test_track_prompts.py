"""The words of --prompt and the number of --auto, frame by frame."""

from pathlib import Path

import numpy as np
import pytest

from maskstream.commands.track_prompts import prompt_plan
from maskstream.errors import MaskFileError
from maskstream.pictures import write_id_map
from maskstream.prompt_kinds import AutoPrompt, BoxPrompt, PointPrompt, Prompt

FRAME = np.zeros((48, 64, 3), np.uint8)


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    id_map = np.zeros((48, 64), np.uint8)
    id_map[:10, :10], id_map[20:30, :10] = 2, 7
    write_id_map(tmp_path / "mask.png", id_map)
    return tmp_path / "mask.png"


def ids(words: list[str], auto: int = 0) -> dict[int, list[int]]:
    return {index: [prompt.object_id for prompt in make(FRAME)] for index, make in prompt_plan(words, auto).items()}


def test_words_without_a_frame_are_for_the_first() -> None:
    assert ids(["1,2,30,40", "5,5,20,20"]) == {0: [1, 2]}
    assert ids(["0:1,2,30,40"]) == {0: [1]}


def test_objects_are_numbered_in_the_order_of_their_words_over_all_frames(mask: Path) -> None:
    assert ids(["120:1,2,30,40", "5,5,20,20", "120:@30,30;-1,1"]) == {120: [1, 3], 0: [2]}
    assert ids([f"40:{mask}", "1,2,30,40"]) == {40: [2, 7], 0: [2]}


def test_kinds_of_words(mask: Path) -> None:
    points, box, *_ = prompt_plan(["@5,6;7,8;-40,30", "1,2,30,40"])[0](FRAME)
    assert points == PointPrompt(1, ((5, 6), (7, 8)), ((40, 30),))
    assert box == BoxPrompt(2, (1, 2, 30, 40))
    masks = prompt_plan([str(mask)])[0](FRAME)
    assert all(isinstance(prompt, Prompt) for prompt in masks)


def test_later_words_win_where_they_name_the_same_object(mask: Path) -> None:
    (first, second) = prompt_plan(["1,2,30,40", "5,5,20,20", str(mask)])[0](FRAME)[:2]
    assert (first.object_id, second.object_id) == (1, 2)
    assert isinstance(second, Prompt)
    assert second.mask[:10, :10].all()


def test_auto_is_asked_for_last_on_the_first_frame() -> None:
    plan = prompt_plan(["9:1,2,30,40", "5,5,20,20"], 3)
    assert plan[0](FRAME)[-1] == AutoPrompt(3)
    assert len(plan[0](FRAME)) == 2
    assert len(plan[9](FRAME)) == 1
    assert prompt_plan([], 4)[0](FRAME) == [AutoPrompt(4)]


def test_a_file_that_is_named_like_nothing_else_is_a_file() -> None:
    with pytest.raises(MaskFileError, match=r"x:mask\.png: cannot be read"):
        prompt_plan(["x:mask.png"])[0](FRAME)

"""Contact sheets: which frames are on them, what their captions say, and that the truth can be told from the answer."""

import numpy as np
import pytest

from maskstream import contact_sheet
from maskstream.contact_sheet import SequenceSheet, caption
from maskstream.steps import Step
from maskstream.tracker import Prompt

SIZE = (60, 80)


def step(name: str, truth: np.ndarray | None = None, prompted: tuple[int, ...] = ()) -> Step:
    mask = np.ones(SIZE, dtype=bool)
    return Step(name, np.full((*SIZE, 3), 40, np.uint8), tuple(Prompt(i, mask) for i in prompted), truth)


@pytest.mark.parametrize(
    ("num_frames", "expected"),
    [(1, [0]), (3, [0, 1, 2]), (8, list(range(8))), (15, list(range(0, 15, 2))), (71, list(range(0, 71, 10)))],
)
def test_frames_are_spread_evenly_first_and_last_among_them(
    monkeypatch: pytest.MonkeyPatch, num_frames: int, expected: list[int]
) -> None:
    drawn: list[int] = []
    monkeypatch.setattr(contact_sheet, "_draw", lambda step, id_map, j: drawn.append(int(step.name)))
    sheet = SequenceSheet(num_frames)
    for index in range(num_frames):
        sheet.add(step(str(index)), np.zeros(SIZE, np.uint8), None)
    assert drawn == expected


def test_caption_has_frame_and_score() -> None:
    assert caption(step("00010"), 0.8324) == "00010  J 83.2"
    assert caption(step("00010"), 0.0) == "00010  J 0.0"
    assert caption(step("00010"), None) == "00010"
    assert caption(step("00000", prompted=(1, 7)), None) == "00000  given: 1, 7"
    assert caption(step("00010", prompted=(7,)), 0.5) == "00010  J 50.0  given: 7"


def test_sheet_is_a_grid_of_four_columns() -> None:
    sheet = SequenceSheet(5)
    for index in range(5):
        sheet.add(step(str(index)), np.zeros(SIZE, np.uint8), None)
    picture = sheet.picture()
    assert picture.shape[1] == 1600
    assert 2 * 300 < picture.shape[0] < 2 * 340  # two rows of 395x296 pictures under their captions
    assert picture[-20:, -20:].min() == 255  # the last places are empty


def test_truth_is_a_white_line_and_the_answer_a_colour() -> None:
    answer, truth = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
    answer[10:30, 10:30], truth[35:55, 45:70] = 1, 1
    pictures = {}
    for name, known in (("with", truth), ("without", None)):
        sheet = SequenceSheet(1)
        sheet.add(step(name, known), answer, None)
        pictures[name] = sheet.picture()
    scale = 400 / SIZE[1]
    below = pictures["with"].shape[0] - round(SIZE[0] * scale)  # where the frame begins, under the caption
    edge = (below + round(45 * scale), round(45 * scale))  # on the left side of the truth
    assert pictures["with"][edge[0], edge[1] - 2 : edge[1] + 3].min(axis=1).max() > 150
    assert pictures["without"][edge[0], edge[1] - 2 : edge[1] + 3].max() < 80
    inside = pictures["with"][below + round(25 * scale), round(25 * scale)].astype(int)
    assert np.ptp(inside) > 40  # tinted, on a grey frame

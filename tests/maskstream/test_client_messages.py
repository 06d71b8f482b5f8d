"""Prompts become messages; numbers that the wire has no room for are refused with a reason and not with a traceback."""

import numpy as np
import pytest

from maskstream.client_messages import prompts_message
from maskstream.errors import InvalidPrompt
from maskstream.prompt_kinds import AutoPrompt, BoxPrompt, PointPrompt, Prompt
from maskstream.v1 import maskstream_pb2 as pb


def test_each_kind_has_its_message():
    prompts = [
        Prompt(1, np.eye(4, dtype=np.uint8)),
        BoxPrompt(2, (-3, 4, 10, 10)),
        PointPrompt(3, ((5, 6),), ((7, 8), (9, 0))),
        AutoPrompt(4),
    ]
    message = prompts_message(prompts)
    mask, box, points = message.objects
    assert [prompt.object_id for prompt in message.objects] == [1, 2, 3]
    assert mask.mask.width == 4
    assert box.box == pb.BoundingBox(x=0, y=4, width=7, height=10)
    assert points.points == pb.Points(on=[pb.Point(x=5, y=6)], off=[pb.Point(x=7, y=8), pb.Point(x=9, y=0)])
    assert message.auto.max_objects == 4


def test_nothing_is_to_be_found_unless_it_is_said():
    assert not prompts_message([BoxPrompt(2, (3, 4, 10, 10))]).HasField("auto")


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (PointPrompt(1, ((-1, 3),)), "a side of a point is -1"),
        (PointPrompt(1, ((2, 2**32),)), "a side of a point is 4294967296"),
        (PointPrompt(1, ()), "object 1 has no point on it"),
        (AutoPrompt(-2), "a number of objects to find is -2"),
    ],
)
def test_numbers_without_a_place_are_refused(prompt, message):
    with pytest.raises(InvalidPrompt, match=message):
        prompts_message([prompt])

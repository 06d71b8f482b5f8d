"""Prompts other than masks through a server: the same as in process, or nothing at all and a reason."""

import numpy as np
import pytest
from fakes import FakeNetworks
from served import assert_shows, id_map_of, picture, png, prompt, square

from maskstream.client import AutoPrompt, BoxPrompt, MaskStreamClient, PointPrompt, Prompt
from maskstream.client_messages import prompts_message
from maskstream.tracker import Tracker
from maskstream.v1 import maskstream_pb2 as pb
from serve.config import Limits

SIZE = (240, 320)
A = square(16, 16)


@pytest.fixture
def frame() -> np.ndarray:
    """Two discs on noise."""
    rows, columns = np.indices(SIZE)
    shown = np.random.default_rng(2).integers(90, 120, (*SIZE, 3), dtype=np.uint8)
    for x, y, radius, colour in ((90, 120, 45, (230, 30, 30)), (230, 120, 40, (30, 30, 230))):
        shown[(columns - x) ** 2 + (rows - y) ** 2 <= radius**2] = colour
    return shown


PROMPTS = [
    [BoxPrompt(1, (40, 70, 100, 100))],
    [PointPrompt(3, ((90, 120), (100, 130)), ((230, 120),))],
    [AutoPrompt(2)],
    [PointPrompt(9, ((230, 120),)), AutoPrompt(1)],
]


@pytest.mark.parametrize("prompts", PROMPTS, ids=["box", "points", "auto", "points and auto"])
def test_what_is_prompted_over_the_wire_is_what_is_prompted_in_process(running, frame, prompts):
    expected = Tracker(FakeNetworks()).step(frame, prompts)
    with MaskStreamClient(running.server.listen) as client, client.open(image="raw") as stream:
        (answer,) = stream.propagate([frame], {0: prompts})
    assert [state.object_id for state in answer.objects] == [state.object_id for state in expected.objects]
    np.testing.assert_array_equal(answer.id_map, expected.id_map)
    assert answer.id_map.any()


@pytest.mark.parametrize("prompts", PROMPTS, ids=["box", "points", "auto", "points and auto"])
def test_prompts_before_a_frame_are_prompts_on_it(running, frame, prompts):
    expected = Tracker(FakeNetworks()).step(frame, prompts)
    stream = running.stream()
    stream.send(set_objects=prompts_message(prompts))
    stream.receive("ack")
    stream.frame(image={"png": png(frame)})
    np.testing.assert_array_equal(id_map_of(stream.receive("result")), expected.id_map)
    stream.frame(image={"png": png(frame)})
    assert len(stream.receive("result").objects) == len(expected.objects), "and only once"


BAD = {
    "outside": pb.SetObjects(objects=[pb.ObjectPrompt(object_id=2, points=pb.Points(on=[pb.Point(x=96, y=0)]))]),
    "no point on it": pb.SetObjects(objects=[pb.ObjectPrompt(object_id=2, points=pb.Points(off=[pb.Point()]))]),
    "65 points": pb.SetObjects(objects=[pb.ObjectPrompt(object_id=2, points=pb.Points(on=[pb.Point()] * 65))]),
    "max_objects is 0": pb.SetObjects(auto=pb.AutoPrompt()),
    "max_objects is 33": pb.SetObjects(auto=pb.AutoPrompt(max_objects=33)),
}


@pytest.mark.parametrize("message", BAD)
def test_a_prompt_that_cannot_be_leaves_the_stream_as_it_was(running, message):
    stream = running.stream()
    stream.frame(prompts=[prompt(1, A)])
    before = id_map_of(stream.receive("result"))
    stream.send(frame=pb.Frame(png=png(picture()), prompts=BAD[message]))
    error = stream.receive("error")
    assert error.reason == "INVALID_PROMPT"
    assert message in error.message
    stream.frame()
    np.testing.assert_array_equal(id_map_of(stream.receive("result")), before)


def test_nothing_that_stands_out_is_no_object(running):
    stream = running.stream()
    stream.send(frame=pb.Frame(png=png(picture()), prompts=pb.SetObjects(auto=pb.AutoPrompt(max_objects=3))))
    assert stream.receive("error").reason == "NO_OBJECTS"
    stream.frame(prompts=[prompt(1, A)])
    assert_shows(stream.receive("result"), {1: A})


def test_what_is_to_be_found_counts_as_so_many_prompts(start):
    stream = start(limits=Limits(max_prompts_per_second=1)).stream()
    stream.send(set_objects=pb.SetObjects(auto=pb.AutoPrompt(max_objects=3)))
    stream.receive("ack")
    stream.send(set_objects=pb.SetObjects(auto=pb.AutoPrompt(max_objects=3)))
    assert stream.receive("error").reason == "PROMPT_RATE"


def test_waiting_to_find_names_no_object_and_a_reset_forgets_it(running):
    stream = running.stream()
    stream.send(set_objects=pb.SetObjects(auto=pb.AutoPrompt(max_objects=3)))
    stream.receive("ack")
    stream.send(remove_objects=pb.RemoveObjects(object_ids=[0]))
    error = stream.receive("error")
    assert (error.reason, "known ids: none" in error.message) == ("INVALID_PROMPT", True)
    stream.send(reset=pb.Reset())
    stream.receive("ack")
    stream.frame()
    assert stream.receive("error").reason == "NO_OBJECTS", "nothing was to be found any more"


def test_a_frame_on_which_things_are_to_be_found_is_never_dropped(start, frame):
    networks = FakeNetworks()
    running = start(networks)
    stream = running.stream(delivery=pb.DELIVERY_POLICY_LATEST, max_in_flight=8)
    stream.frame(image={"png": png(frame)}, prompts=[prompt(1, square(16, 16, size=SIZE))])
    stream.receive("result")
    networks.gate.clear()
    stream.frame(image={"png": png(frame)})
    asked = stream.send(frame=pb.Frame(png=png(frame), prompts=pb.SetObjects(auto=pb.AutoPrompt(max_objects=1))))
    for _ in range(3):
        stream.frame(image={"png": png(frame)})
    networks.gate.set()
    stream.half_close()
    answered = [answer.result.seq for answer in stream.rest() if answer.HasField("result")]
    assert asked in answered


def test_masks_go_the_way_they_always_went(running):
    stream = running.stream()
    stream.frame(prompts=[prompt(1, A)])
    expected = Tracker(FakeNetworks()).step(picture(), [Prompt(1, A)])
    np.testing.assert_array_equal(id_map_of(stream.receive("result")), expected.id_map)

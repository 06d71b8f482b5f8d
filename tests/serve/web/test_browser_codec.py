"""The page's messages against protobuf made by hand."""

import json

import numpy as np
import pytest
from fake_browser import packed, unpacked

from maskstream import wire
from maskstream.v1 import maskstream_pb2 as pb
from serve.__main__ import build_parser
from serve.config import load_config
from serve.web.browser_codec import MOST_JSON_BYTES, UnreadableMessage, encode, parse_open, parse_request


def test_open_is_read_whole():
    said = {
        "type": "open", "token": "secret", "delivery": "latest", "max_in_flight": 3, "max_frame_age": 0.5,
        "session_id": "cam",
    }  # fmt: skip
    token, request = parse_open(json.dumps(said))
    assert token == "secret"
    opening = request.open
    assert (opening.session_id, opening.delivery, opening.max_in_flight) == ("cam", pb.DELIVERY_POLICY_LATEST, 3)
    assert wire.seconds_of(opening.max_frame_age) == 0.5
    assert opening.output.per_object_stats
    assert opening.output.timings
    assert "secret" not in str(request)


def test_what_is_absent_from_open_is_the_default():
    token, request = parse_open('{"type": "open"}')
    assert token is None
    assert request.open.delivery == pb.DELIVERY_POLICY_LOSSLESS
    assert not request.open.HasField("max_frame_age")


def test_a_frame_is_its_picture_and_its_times():
    header = {"type": "frame", "seq": 7, "image": "jpeg", "pts": 1.25, "capture_time": 1763856000.123456}
    request = parse_request(packed(header, b"picture"))
    frame = request.frame
    assert (request.seq, frame.jpeg) == (7, b"picture")
    assert (frame.pts.seconds, frame.pts.nanos) == (1, 250_000_000)
    assert frame.capture_time.seconds == 1763856000
    assert abs(frame.capture_time.nanos - 123_456_000) < 1000
    assert not frame.HasField("prompts")
    bare = parse_request(packed({**header, "image": "png", "pts": None, "capture_time": None}, b"x")).frame
    assert bare.png == b"x"
    assert not bare.HasField("pts")
    assert not bare.HasField("capture_time")


def test_prompts_of_each_kind():
    runs = {"width": 3, "height": 2, "lengths": [2, 1, 3], "values": [0, 1, 0]}
    prompts = [
        {"id": 1, "box": [5, 6, 7, 8]},
        {"id": 2, "on": [[1, 2], [3, 4]], "off": [[9, 9]]},
        {"id": 3, "mask": runs},
        {"id": 4},
    ]
    said = {"type": "set_objects", "seq": 8, "objects": prompts, "auto": 2}
    box, points, mask, nothing = parse_request(json.dumps(said)).set_objects.objects
    assert (box.object_id, box.box) == (1, pb.BoundingBox(x=5, y=6, width=7, height=8))
    assert [(point.x, point.y) for point in points.points.on] == [(1, 2), (3, 4)]
    assert [(point.x, point.y) for point in points.points.off] == [(9, 9)]
    np.testing.assert_array_equal(wire.mask_from_proto(mask.mask, 9, 9), [[0, 0, 1], [0, 0, 0]])
    assert nothing.WhichOneof("prompt") is None  # the service says what is wrong
    assert parse_request(json.dumps(said)).set_objects.auto.max_objects == 2


def test_a_frame_can_ask_for_things_to_be_found():
    request = parse_request(packed({"type": "frame", "seq": 1, "image": "png", "auto": 3, "prompts": []}, b"x"))
    assert request.frame.prompts.auto.max_objects == 3


@pytest.mark.parametrize(("said", "drain"), [({}, True), ({"drain": True}, True), ({"drain": False}, False)])
def test_close_drains_unless_told(said, drain):
    request = parse_request(json.dumps({"type": "close", "seq": 1, **said}))
    assert request.WhichOneof("kind") == "close"
    assert request.close.drain is drain


@pytest.mark.parametrize(
    "fields",
    [
        {"seq": True},
        {"seq": 2**32},
        {"seq": 1, "objects": 5},
        {"seq": 1, "objects": [5]},
        {"seq": 1, "objects": [{"id": "1", "box": [0, 0, 1, 1]}]},
        {"seq": 1, "objects": [{"id": 1, "box": [-1, 0, 1, 1]}]},
        {"seq": 1, "objects": [{"id": 1, "on": [[1]]}]},
        {"seq": 1, "objects": [{"id": 1, "mask": 7}]},
        {"seq": 1, "objects": [{"id": 1, "mask": {"width": 1, "height": 1, "values": [1], "lengths": [-1]}}]},
        {"seq": 1, "objects": [], "auto": "all"},
    ],
)
def test_what_has_no_place_in_a_request_is_refused(fields):
    with pytest.raises(UnreadableMessage):
        parse_request(json.dumps({"type": "set_objects", **fields}))


@pytest.mark.parametrize("number", ["1e400", "NaN", "-Infinity", '"1"', "true", "1e300"])
def test_a_time_is_a_number(number):
    with pytest.raises(UnreadableMessage, match="max_frame_age"):
        parse_open(f'{{"type": "open", "max_frame_age": {number}}}')
    text = f'{{"type": "frame", "seq": 1, "image": "png", "pts": {number}}}'.encode()
    with pytest.raises(UnreadableMessage, match="pts"):
        parse_request(len(text).to_bytes(4, "little") + text)


def test_json_has_a_bound():
    with pytest.raises(UnreadableMessage, match="bytes of JSON"):
        parse_request("x" * (MOST_JSON_BYTES + 1))


def test_a_result_can_be_read_without_copying_numbers_bit_by_bit():
    label_map = pb.Mask(width=5, height=1, label_runs=pb.LabelRuns(values=b"\0\xff\0", lengths=[1, 3, 1]))
    lost = pb.ObjectStat(object_id=3, visible=0.25, lost=True)
    header, id_map = unpacked(
        encode(pb.PropagateResponse(result=pb.FrameResult(seq=9, label_map=label_map, objects=[lost])))
    )
    np.testing.assert_array_equal(id_map, [[0, 255, 255, 255, 0]])
    assert (header["seq"], header["pts"], header["runs"]) == (9, None, 3)
    assert header["objects"] == [{"id": 3, "score": 0.0, "area": 0, "box": None, "visible": 0.25, "lost": True}]
    assert set(header["timings"].values()) == {0.0}
    assert "batch_size" not in header["timings"]


def test_the_page_can_be_switched_off_by_flag_and_file(tmp_path):
    assert load_config(None, {}).web is True
    flags = vars(build_parser().parse_args(["--no-web"]))
    assert load_config(None, {"web": flags["web"]}).web is False
    assert vars(build_parser().parse_args([]))["web"] is None
    file = tmp_path / "serve.toml"
    file.write_text("web = false\n")
    assert load_config(file, {}).web is False

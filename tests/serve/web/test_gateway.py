"""The page's WebSocket: the same service as by gRPC."""

import json
import socket
import time

import numpy as np
import pytest
from fake_browser import closed_after, mask_prompt
from fakes import FakeNetworks
from served import SIZE, TIMEOUT, eventually, id_map_of, jpeg, picture, png, prompt, square

from serve.config import AuthSettings, Limits
from serve.tokens import new_token

CAT, DOG = square(16, 16), square(32, 64)


@pytest.fixture
def camera(tmp_path):
    """A file of tokens, and the one token in it."""
    token, line = new_token("camera")
    file = tmp_path / "tokens.toml"
    file.write_text(line)
    file.chmod(0o600)
    return AuthSettings(file), token


def test_a_stream_is_the_same_as_by_grpc(start, browse):
    running = start(web=True)
    wire = running.stream()
    browser = browse(running)
    opened = browser.open(session_id="cam", max_in_flight=3)
    assert (opened["type"], opened["session_id"], opened["model"], opened["max_in_flight"]) == (
        "opened", "cam", wire.opened.model, 3,
    )  # fmt: skip
    assert opened["limits"]["max_message_bytes"] == wire.opened.limits.max_message_bytes
    browser.frame(prompts=[mask_prompt(1, CAT)], pts=1.25)
    wire.frame(prompts=[prompt(1, CAT)])
    header, id_map = browser.result()
    theirs = wire.receive("result")
    np.testing.assert_array_equal(id_map, id_map_of(theirs))
    assert (header["seq"], header["pts"], header["memory_frames"], header["batch_size"]) == (1, 1.25, 1, 1)
    (stat,) = header["objects"]
    assert stat["box"] == [16, 16, 16, 16]
    assert (stat["id"], stat["area"], stat["lost"]) == (1, theirs.objects[0].area, False)
    assert 0 < header["timings"]["encode_frame"] < header["timings"]["total"]


def test_objects_come_and_go_and_the_end_is_counted(start, browse):
    browser = browse(start(web=True))
    browser.open()
    browser.frame(jpeg(picture()), image="jpeg", prompts=[mask_prompt(1, CAT)])
    assert set(np.unique(browser.result().id_map)) == {0, 1}
    assert browser.request("set_objects", objects=[mask_prompt(2, DOG)]) == browser.hear()["seq"]
    browser.frame()
    assert [stat["id"] for stat in browser.result().header["objects"]] == [1, 2]
    browser.request("remove_objects", ids=[1])
    assert browser.hear() == {"type": "ack", "seq": 4}
    browser.frame()
    assert set(np.unique(browser.result().id_map)) == {0, 2}
    browser.request("reset")
    assert browser.hear()["type"] == "ack"
    lost = browser.frame()
    error = browser.hear()
    assert (error["type"], error["seq"], error["reason"]) == ("frame_error", lost, "NO_OBJECTS")
    browser.request("close", drain=True)
    heard, code = closed_after(browser)
    assert heard == [{"type": "closed", "answered": 3, "dropped": 0, "refused": 1}]
    assert code == 1000


def test_a_box_and_clicks_are_prompts(start, browse):
    browser = browse(start(web=True))
    browser.open()
    frame = picture()
    frame[16:32, 16:32] = 20
    for number, shown in enumerate(({"box": [12, 12, 24, 24]}, {"on": [[24, 24]], "off": [[60, 50]]}), start=1):
        browser.frame(png(frame), prompts=[{"id": number, **shown}])
        objects = {stat["id"] for stat in browser.result().header["objects"]}
        assert number in objects


def test_a_wrong_request_ends_nothing(start, browse):
    browser = browse(start(web=True))
    browser.open()
    browser.frame(prompts=[{"id": 999, "box": [0, 0, 5, 5]}])
    assert browser.hear()["reason"] == "INVALID_PROMPT"
    browser.frame(b"no picture", prompts=[mask_prompt(1, CAT)])
    assert browser.hear()["type"] == "frame_error"
    browser.frame(prompts=[mask_prompt(1, CAT)])
    assert browser.result().header["seq"] == 3


@pytest.mark.parametrize(
    ("token", "reason"), [(None, "TOKEN_REQUIRED"), ("wrong", "TOKEN_INVALID"), ("line\nbreak", "TOKEN_INVALID")]
)
def test_without_a_good_token_there_is_no_stream(start, browse, camera, token, reason, caplog):
    running = start(web=True, auth=camera[0])
    browser = browse(running)
    browser.say(type="open", token=token, delivery="lossless")
    ((ended,), _) = closed_after(browser)
    assert (ended["type"], ended["code"], ended["reason"]) == ("ended", "UNAUTHENTICATED", reason)
    assert token is None or token not in caplog.text


def test_a_good_token_opens_and_names_the_client(start, browse, camera, caplog):
    running = start(web=True, auth=camera[0], limits=Limits(max_streams_per_client=1))
    token = camera[1]
    assert browse(running).open(token=token)["type"] == "opened"
    ended = browse(running).open(token=token)
    assert (ended["code"], ended["reason"]) == ("RESOURCE_EXHAUSTED", "CLIENT_STREAM_LIMIT")
    assert "token:camera" in ended["message"]
    assert token not in caplog.text


def test_a_full_server_says_when_to_come_back(start, browse):
    running = start(web=True, max_streams=1)
    first = browse(running)
    first.open()
    ended = browse(running).open()
    assert (ended["type"], ended["code"], ended["reason"]) == ("ended", "UNAVAILABLE", "SERVER_FULL")
    assert 0 < ended["retry_seconds"] < 2
    first.socket.close()
    eventually(lambda: browse(running).open()["type"] == "opened")


def test_quotas_count_browsers_by_address_and_not_the_gateway(start, browse):
    running = start(web=True, limits=Limits(max_streams_per_client=1))
    here, there = (("127.0.0.1", 0), ("127.0.0.2", 0))
    first = browse(running, source_address=here)
    assert first.open()["type"] == "opened"
    assert browse(running, source_address=here).open()["reason"] == "CLIENT_STREAM_LIMIT"
    assert browse(running, source_address=there).open()["type"] == "opened"


def test_a_browser_that_goes_away_frees_its_place_at_once(start, browse):
    networks = FakeNetworks()
    running = start(networks, web=True, max_streams=1)
    browser = browse(running)
    browser.open()
    networks.gate.clear()
    browser.frame(prompts=[mask_prompt(1, CAT)])
    networks.entered.acquire(timeout=TIMEOUT)
    browser.socket.socket.shutdown(socket.SHUT_RDWR)
    eventually(lambda: not running.server._service.streams)
    networks.gate.set()
    eventually(lambda: running.sample("streams_active") == 0)
    eventually(lambda: running.sample("memory_bank_bytes") == 0)


def test_latest_drops_what_is_superseded_and_says_so(start, browse):
    networks = FakeNetworks()
    running = start(networks, web=True)
    browser = browse(running)
    browser.open(delivery="latest")
    browser.frame(prompts=[mask_prompt(1, CAT)])
    browser.result()
    while networks.entered.acquire(blocking=False):
        pass
    networks.gate.clear()
    running_frame = browser.frame()
    networks.entered.acquire(timeout=TIMEOUT)
    sent = [browser.frame() for _ in range(20)]
    dropped = []
    while len(dropped) < 15:
        message = browser.hear()
        assert (message["type"], message["reason"]) == ("dropped", "SUPERSEDED")
        dropped += message["seqs"]
    networks.gate.set()
    seqs = []
    while not seqs or seqs[-1] != sent[-1]:
        message = browser.socket.recv(TIMEOUT)
        if isinstance(message, bytes):
            seqs.append(json.loads(message[4 : 4 + int.from_bytes(message[:4], "little")])["seq"])
        else:
            dropped += json.loads(message)["seqs"]
    assert seqs[0] == running_frame
    assert sorted(seqs[1:] + dropped) == sent


def test_a_drain_is_told_and_closes_in_time(start, browse):
    running = start(web=True, grace_seconds=1.0)
    browser = browse(running)
    browser.open()
    browser.frame(prompts=[mask_prompt(1, CAT)])
    browser.result()
    drained = running.start_drain()
    assert browser.hear() == {"type": "draining", "seconds": 1.0}
    heard, code = closed_after(browser)
    assert [each["type"] for each in heard] == ["closed", "ended"]
    assert (heard[1]["code"], heard[1]["reason"]) == ("UNAVAILABLE", "DRAINING")
    assert code == 1000
    began = time.monotonic()
    drained.result(TIMEOUT)
    assert time.monotonic() - began < 2.0


def test_a_stop_says_that_another_try_may_help(start, browse):
    running = start(web=True)
    browser = browse(running)
    browser.open()
    running.running = False
    running.run(running.server.stop())
    heard, _ = closed_after(browser)
    assert all(each["code"] == "UNAVAILABLE" for each in heard)


def test_a_stream_that_says_nothing_is_ended(start, browse):
    running = start(web=True, limits=Limits(idle_timeout_seconds=0.8))
    browser = browse(running)
    browser.open()
    heard, _ = closed_after(browser)
    assert [(each["code"], each["reason"]) for each in heard] == [("ABORTED", "IDLE_TIMEOUT")]


def test_shapes_survive_the_wire(start, browse):
    """Values up to 255, and a number of runs that is no multiple of four."""
    browser = browse(start(web=True))
    browser.open()
    browser.frame(prompts=[mask_prompt(255, CAT), mask_prompt(7, DOG)])
    header, id_map = browser.result()
    assert header["runs"] % 4
    assert id_map.shape == SIZE
    for object_id, mask in ((255, CAT), (7, DOG)):
        assert np.count_nonzero((id_map == object_id) != (mask != 0)) <= 4

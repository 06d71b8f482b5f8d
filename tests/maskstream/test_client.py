"""The client against a real server with fake networks: what it sends, what comes back, how it survives a break."""

import socket
import threading
import time

import numpy as np
import pytest
from fakes import FakeNetworks
from served import TIMEOUT, picture, square

from maskstream.client import STAGES, BoxPrompt, MaskStreamClient, Prompt
from maskstream.errors import InvalidFrame, ServerFull, ServerUnavailable, StreamError
from serve.config import Limits

A, B = square(16, 16), square(32, 64)


@pytest.fixture
def client(running):
    with MaskStreamClient(running.server.listen) as client:
        yield client


def shows(answer, objects):
    """Whether the id map holds exactly these regions, but for the corners that bilinear resizing rounds off."""
    if set(np.unique(answer.id_map)) - {0} != set(objects):
        return False
    return all(np.count_nonzero((answer.id_map == i) != (mask != 0)) <= 4 for i, mask in objects.items())


@pytest.mark.parametrize("image", ["jpeg", "png", "raw"])
def test_propagate_answers_every_frame_in_order(client, image):
    with client.open(image=image) as stream:
        answers = list(stream.propagate([picture()] * 12, {0: [Prompt(1, A)], 5: [Prompt(2, B != 0)]}))
        counts = stream.close()
    assert [answer.index for answer in answers] == list(range(12))
    assert all(shows(answer, {1: A}) for answer in answers[:5])
    assert all(shows(answer, {1: A, 2: B}) for answer in answers[5:])
    assert (counts.frames_in, counts.answered, counts.dropped, counts.refused) == (12, 12, 0, 0)


def test_an_answer_tells_times_objects_and_pts(client):
    with client.open() as stream:
        (answer,) = stream.propagate([(picture(), 1.25)], {0: [Prompt(4, A)]})
    assert answer.pts == 1.25
    assert tuple(answer.timings) == STAGES
    assert answer.timings["total"] >= answer.timings["decode"] > 0
    assert [(state.object_id, state.lost) for state in answer.objects] == [(4, False)]
    assert answer.error is None
    assert answer.dropped is None


def test_png_and_raw_carry_rgb_and_not_bgr(running, client, monkeypatch):
    seen = []
    encode_frame = running.networks.encode_frame
    monkeypatch.setattr(
        running.networks, "encode_frame", lambda frame: (seen.append(frame.copy()), encode_frame(frame))[1]
    )
    frame = picture(colour=(255, 128, 0))
    for image in ("png", "raw"):
        with client.open(image=image) as stream:
            list(stream.propagate([frame], {0: [Prompt(1, A)]}))
    for arrived in seen:
        assert (arrived[0] == frame[0, 0]).all()
    assert len(seen) == 2


def test_a_box_prompts_what_is_inside(client):
    frame = picture(colour=(10, 10, 10))
    frame[16:48, 32:64] = (250, 200, 20)
    with client.open(image="png") as stream:
        (answer,) = stream.propagate([frame], {0: [BoxPrompt(1, (28, 12, 40, 40))]})
    truth = frame[:, :, 0] == 250
    inside = answer.id_map == 1
    assert (inside & truth).sum() / (inside | truth).sum() > 0.7


def test_send_and_answers_from_one_thread(client):
    with client.open(max_in_flight=2) as stream:
        indices = [stream.send(picture(), [Prompt(1, A)], pts=0.5)] + [stream.send(picture()) for _ in range(5)]
        stream.set_objects([Prompt(9, B)])
        indices.append(stream.send(picture()))
        stream.remove([1])
        indices.append(stream.send(picture(), capture_time=time.time()))
        counts = stream.close()
        answers = list(stream.answers())
    assert [answer.index for answer in answers] == indices
    assert shows(answers[5], {1: A})
    assert shows(answers[6], {1: A, 9: B})
    assert shows(answers[7], {9: B})
    assert counts.answered == len(indices)


def test_a_refused_frame_is_an_answer_with_an_error_and_the_stream_goes_on(client):
    frames = [picture(), picture(), picture((32, 32)), picture()]
    with client.open() as stream:
        answers = list(stream.propagate(frames, {1: [Prompt(1, A)]}))
    assert [answer.error.reason if answer.error else None for answer in answers] == [
        "NO_OBJECTS", None, "SIZE_CHANGED", None
    ]  # fmt: skip
    assert "give a mask, a box or points" in str(answers[0].error)
    assert answers[0].id_map is None
    assert shows(answers[3], {1: A})


def test_a_refused_control_is_told(client):
    with client.open() as stream:
        stream.remove([77])
        stream.close()
        (answer,) = stream.answers()
    assert (answer.index, answer.error.reason) == (None, "INVALID_PROMPT")
    assert "77" in str(answer.error)


def test_an_error_of_the_frame_source_reaches_the_caller(client):
    def camera():
        yield picture()
        raise OSError("the camera was unplugged")

    with client.open() as stream, pytest.raises(OSError, match="unplugged"):
        list(stream.propagate(camera(), {0: [Prompt(1, A)]}))


def test_live_frames_are_answered_or_reported_as_dropped(start):
    networks = FakeNetworks(delay_seconds=0.02)
    running = start(networks)
    with MaskStreamClient(running.server.listen) as client, client.open(delivery="latest") as stream:
        answers = list(stream.propagate((picture() for _ in range(60)), {0: [Prompt(1, A)], 30: [Prompt(2, B)]}))
    assert sorted(answer.index for answer in answers) == list(range(60))
    masks = [answer.index for answer in answers if answer.id_map is not None]
    assert {0, 30, 59} <= set(masks)
    assert masks == sorted(masks)
    assert any(answer.dropped == "SUPERSEDED" for answer in answers)


def test_an_answer_does_not_wait_for_the_next_frame_of_a_slow_camera(client):
    answered = threading.Event()

    def camera():
        yield picture()
        assert answered.wait(TIMEOUT), "the answer to the first frame came only after the second"
        yield picture()

    with client.open(delivery="latest") as stream:
        answers = stream.propagate(camera(), {0: [Prompt(1, A)]})
        next(answers)
        answered.set()
        assert len(list(answers)) == 1


def test_a_full_server_is_an_error_of_its_own(start):
    running = start(max_streams=1)
    with MaskStreamClient(running.server.listen) as client, client.open() as stream:
        with pytest.raises(ServerFull, match="try another server") as caught:
            client.open()
        assert caught.value.reason == "SERVER_FULL"
        assert len(list(stream.propagate([picture()], {0: [Prompt(1, A)]}))) == 1


def test_an_unknown_model_is_told(client):
    with pytest.raises(StreamError, match="the model is `fake`") as caught:
        client.open(model="other")
    assert caught.value.reason == "MODEL_NOT_FOUND"


def test_no_server_is_told():
    with MaskStreamClient(f"127.0.0.1:{_free_port()}") as client:
        with pytest.raises(ServerUnavailable):
            client.open()
        with pytest.raises(ServerUnavailable):
            client.info()


def test_info_names_the_model_and_the_limits(client):
    info = client.info()
    assert (info.model, info.engine, info.max_streams, info.max_objects) == ("fake", "fake", 8, 32)
    assert info.max_size == (2304, 4096)


def test_what_is_no_frame_is_refused_before_it_is_sent(client):
    with client.open() as stream, pytest.raises(InvalidFrame, match="uint8"):
        stream.send(picture().astype(np.float32))


def test_a_frame_larger_than_the_servers_limit_is_refused_before_it_is_sent(start):
    running = start(limits=Limits(max_message_mib=1))
    with MaskStreamClient(running.server.listen) as client, client.open(image="raw") as stream:
        with pytest.raises(InvalidFrame, match="shrink it"):
            stream.send(picture((720, 1280)))
        assert len(list(stream.propagate([picture()], {0: [Prompt(1, A)]}))) == 1


def test_propagate_resumes_on_a_new_server_with_the_last_masks(start):
    port = _free_port()
    first = start(listen=f"127.0.0.1:{port}")
    frames = [picture()] * 30
    with MaskStreamClient(first.server.listen) as client, client.open() as stream:
        answers = stream.propagate(frames, {0: [Prompt(1, A), Prompt(2, B)]})
        got = [next(answers) for _ in range(10)]
        first.run(first.server.stop())
        first.running = False
        start(listen=f"127.0.0.1:{port}")
        got += answers
    assert [answer.index for answer in got] == list(range(30))
    assert all(shows(answer, {1: A, 2: B}) for answer in got)


def test_propagate_moves_away_from_a_server_that_drains(start):
    port = _free_port()
    first = start(listen=f"127.0.0.1:{port}")
    with MaskStreamClient(first.server.listen) as client, client.open(output_size=(32, 48), resumes=20) as stream:
        answers = stream.propagate([picture()] * 30, {0: [Prompt(1, A)]})
        got = [next(answers) for _ in range(5)]
        drained = first.start_drain()
        successor = threading.Thread(target=lambda: (drained.result(TIMEOUT), start(listen=f"127.0.0.1:{port}")))
        successor.start()
        got += answers
        successor.join(TIMEOUT)
    assert [answer.index for answer in got] == list(range(30))
    assert shows(got[-1], {1: square(8, 8, 8, size=(32, 48))})
    assert first.sample("streams_total", end_reason="closed") == 1


def test_propagate_gives_up_when_no_server_comes_back(start):
    running = start()
    with MaskStreamClient(running.server.listen) as client, client.open(resumes=1) as stream:
        answers = stream.propagate([picture()] * 30, {0: [Prompt(1, A)]})
        next(answers)
        running.run(running.server.stop())
        running.running = False
        with pytest.raises(ServerUnavailable):
            list(answers)


def test_an_engine_failure_is_raised_and_not_retried(start):
    networks = FakeNetworks()
    running = start(networks)
    networks.failure = RuntimeError("broken")
    with MaskStreamClient(running.server.listen) as client, client.open() as stream:
        with pytest.raises(StreamError) as caught:
            list(stream.propagate([picture()] * 3, {0: [Prompt(1, A)]}))
        assert caught.value.reason == "ENGINE_FAILED"
        assert stream.close(TIMEOUT) is None
        with pytest.raises(StreamError, match="ended"):
            stream.send(picture())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]

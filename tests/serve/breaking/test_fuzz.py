"""Twenty thousand inputs that no client should send: none ends the process, none disturbs a stream beside it.

Most go straight into the parser and the decoders, where only the two kinds of error that the wire can carry may come
out; a thousand go over the wire, beside a healthy stream that checks each of its own answers.
"""

import contextlib
import logging
import random
import socket
import threading
import time

import grpc
import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hostile import THOROUGH, back_to, books, damaged, healthy_open, healthy_requests, raw_stub, settled, shaken
from served import TIMEOUT, assert_shows, prompt, square

from maskstream.errors import MaskstreamError
from maskstream.prompt_kinds import check_prompt
from maskstream.prompts import look_at_colours
from maskstream.tracker import Segmentation
from maskstream.v1 import maskstream_pb2 as pb
from serve import answer_codec, request_codec
from serve.config import Limits
from serve.messages import Answered, Delivery, FrameRequest, MaskPrompt, SetObjectsRequest

DIRECT = 400_000 if THOROUGH else 20_000
STREAMS = 2_000 if THOROUGH else 60
PATIENCE_SECONDS = 3600 if THOROUGH else 180
CONNECTIONS = 1_000 if THOROUGH else 60
REQUESTS_A_STREAM = 20
LIMITS = Limits(max_width=256, max_height=256)
A = square(16, 16)
NOTHING_SEEN = Segmentation(0, np.zeros((4, 4), np.uint8), (), 0, {}, np.zeros((0, 1, 1), np.float32))
PLAIN = request_codec.parse_open(pb.Open(), LIMITS)


def use_up(message):
    """All that the server does with a request before the engine. What cannot be done may only be a MaskstreamError."""
    request = request_codec.parse_request(message, LIMITS, Delivery.LATEST)
    frame = None
    if isinstance(request, FrameRequest):
        with contextlib.suppress(MaskstreamError):
            frame = request.decode()
            assert frame.shape[0] <= LIMITS.max_height
            assert frame.shape[1] <= LIMITS.max_width
        answer_codec.encode_result(Answered(request, NOTHING_SEEN, {}), PLAIN, 0)
    if isinstance(request, FrameRequest | SetObjectsRequest):
        for encoded in request.encoded_prompts:
            with contextlib.suppress(MaskstreamError):
                if isinstance(encoded, MaskPrompt):
                    encoded.decode()
                elif frame is not None:
                    check_prompt(encoded, frame.shape[:2])
                    look_at_colours(encoded, frame)


def requests_to_damage():
    """Healthy ones of every kind, those with clicks and those that ask for things to be found among them."""
    clicks = pb.Points(on=[pb.Point(x=5, y=6), pb.Point(x=40, y=30)], off=[pb.Point(x=1, y=31)])
    prompts = pb.SetObjects(
        objects=[
            pb.ObjectPrompt(object_id=5, points=clicks),
            pb.ObjectPrompt(object_id=6, box=pb.BoundingBox(x=8, y=8, width=16, height=16)),
        ],
        auto=pb.AutoPrompt(max_objects=3),
    )
    raw = pb.RawImage(format=pb.PIXEL_FORMAT_RGB8, width=48, height=32, data=bytes(range(256)) * 18)
    with_prompts = pb.PropagateRequest(frame=pb.Frame(raw=raw, prompts=prompts))
    return [*healthy_requests(), with_prompts, with_prompts, pb.PropagateRequest(set_objects=prompts)]


def open_it(message):
    with contextlib.suppress(MaskstreamError):
        opened = request_codec.parse_open(message, LIMITS)
        assert (opened.idle_timeout_seconds or 1.0) > 0


@pytest.mark.slow
@pytest.mark.timeout(PATIENCE_SECONDS)
def test_parser_and_decoders_raise_nothing_but_their_own_errors():
    dice = random.Random(5)
    requests = requests_to_damage()
    for turn in range(DIRECT):
        source = dice.choice(requests)
        if turn % 10 == 0:
            open_it(damaged(healthy_open(), dice))
            continue
        if turn % 3:
            message = damaged(source, dice)
        else:
            try:
                message = pb.PropagateRequest.FromString(shaken(source.SerializeToString(), dice))
            except DecodeError:
                continue
        try:
            use_up(message)
        except Exception as error:
            error.add_note(f"turn {turn}: {str(message)[:2000]}")
            raise


def test_an_answer_can_be_made_of_every_mask_encoding_and_of_none():
    assert set(request_codec.supported_encodings()) <= set(pb.MaskEncoding.values())
    assert answer_codec.limits_to_proto(LIMITS).max_width == 256


class Healthy:
    """A stream that goes on frame by frame on a thread of its own, and knows what each answer must be."""

    def __init__(self, running):
        self._stream = running.stream()
        self._over = threading.Event()
        self.answered, self.slowest = 0, 0.0
        self.failure = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        try:
            while not self._over.is_set():
                since = time.perf_counter()
                self._stream.frame(prompts=[] if self.answered else [prompt(1, A)])
                assert_shows(self._stream.receive("result"), {1: A})
                self.slowest = max(self.slowest, time.perf_counter() - since)
                self.answered += 1
                time.sleep(0.005)
            self._stream.half_close()
            assert self._stream.receive("closed").frames_answered == self.answered
        except BaseException as error:  # noqa: BLE001 - it is the test's
            self.failure = error

    def stop(self):
        self._over.set()
        self._thread.join(TIMEOUT)
        if self.failure is not None:
            raise self.failure


@contextlib.contextmanager
def beside_a_healthy_stream(running):
    stream = Healthy(running)
    try:
        yield stream
    finally:
        stream.stop()


def attack(stub, dice, requests):
    """One stream: open, then damaged requests, sent as bytes. How it ended."""
    sent = [pb.PropagateRequest(seq=1, open=pb.Open(max_in_flight=8)).SerializeToString()]
    if dice.random() < 0.2:
        sent = [pb.PropagateRequest(seq=1, open=damaged(healthy_open(), dice)).SerializeToString()]
    shake = 0.1 if dice.random() < 0.3 else 0.0  # bytes that are no message end a stream
    for seq in range(2, 2 + REQUESTS_A_STREAM):
        message = damaged(dice.choice(requests), dice)
        if dice.random() < 0.9:
            message.seq = seq
        data = message.SerializeToString()
        sent.append(shaken(data, dice) if dice.random() < shake else data)
    answers = 0
    try:
        for _ in stub(iter(sent), timeout=10):
            answers += 1
    except grpc.RpcError as error:
        return error.code(), answers
    return grpc.StatusCode.OK, answers


def no_traceback(caplog):
    """Bad input is an everyday thing: nothing of it may look like a fault of the server in its log."""
    loud = [r for r in caplog.records if r.levelno > logging.WARNING or r.exc_info]
    assert not loud, [(r.name, r.getMessage(), r.exc_info) for r in loud[:3]]


@pytest.mark.slow
@pytest.mark.timeout(PATIENCE_SECONDS)
def test_a_thousand_damaged_requests_over_the_wire(start, caplog):
    running = start(max_streams=4, limits=Limits(idle_timeout_seconds=5.0))
    before = settled(running)
    dice, stub, requests = random.Random(7), raw_stub(running.channel), requests_to_damage()
    with beside_a_healthy_stream(running) as healthy:
        ends = [attack(stub, dice, requests) for _ in range(STREAMS)]
    assert healthy.answered > 20
    back_to(before, running)
    codes = {code for code, _ in ends}
    assert grpc.StatusCode.OK in codes, "no attack got through to its end: they tried little"
    assert not codes & {grpc.StatusCode.UNKNOWN, grpc.StatusCode.DEADLINE_EXCEEDED}, codes
    assert sum(answers for _, answers in ends) > STREAMS * REQUESTS_A_STREAM / 3
    no_traceback(caplog)


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"


def garbage(dice):
    """Bytes on a connection: no HTTP, broken HTTP/2, frames that lie about their length."""
    noise = dice.randbytes(dice.randint(1, 4000))
    length, kind = dice.randrange(2**24).to_bytes(3, "big"), dice.randrange(256).to_bytes(1, "big")
    frame = length + kind + dice.randbytes(5) + noise
    headers = b"\x00\x40\x00\x01\x04\x00\x00\x00\x01" + noise  # 16 KiB of headers, claimed
    tiny = b"".join(dice.randbytes(1) * 3 + bytes((dice.randrange(10), 0)) + bytes(4) for _ in range(50))
    return dice.choice(
        (
            noise,
            b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
            b"\x16\x03\x01\x02\x00" + noise,  # a TLS hello to a plain port
            PREFACE[: dice.randint(1, 23)],
            PREFACE + noise,
            PREFACE + SETTINGS + frame,
            PREFACE + SETTINGS + headers,
            PREFACE + SETTINGS + tiny,
            PREFACE + SETTINGS * 2000,  # each asks for an acknowledgement
        )
    )


@pytest.mark.slow
@pytest.mark.timeout(PATIENCE_SECONDS)
def test_garbage_on_the_port_disturbs_nobody(start, caplog):
    running = start()
    before = settled(running)
    dice = random.Random(11)
    address = ("127.0.0.1", running.server.port)
    with beside_a_healthy_stream(running) as healthy:
        for _ in range(CONNECTIONS):
            with contextlib.suppress(OSError), socket.create_connection(address, timeout=5) as connection:
                connection.sendall(garbage(dice))
                time.sleep(0.005)
                if dice.random() < 0.5:  # the others are gone before the server has read a byte
                    connection.settimeout(0.05)
                    connection.recv(4096)
    assert healthy.answered > 5
    assert healthy.slowest < 2.0
    back_to(before, running)
    no_traceback(caplog)


def test_a_message_that_is_no_protobuf_ends_its_stream_with_a_clear_status(running, caplog):
    before = settled(running)
    opened = pb.PropagateRequest(seq=1, open=pb.Open()).SerializeToString()
    for sent in ([b"\xff" * 40], [opened, b"\x0a\xff\xff\xff\xff\x0f"]):
        with pytest.raises(grpc.RpcError) as caught:
            list(raw_stub(running.channel)(iter(sent), timeout=10))
        assert caught.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL)
        back_to(before, running)
    no_traceback(caplog)
    assert books(running) == before

"""The wall clock jumps by hours, forwards and back, or a camera's clock is wrong by decades: nothing but the ages of
frames may notice, and no age is negative."""

import time

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from served import prompt, square

from maskstream.v1 import maskstream_pb2 as pb
from serve.config import Limits

HOUR = 3600.0
IDLE_SECONDS = 2.0


@pytest.mark.parametrize("jump_seconds", [5 * HOUR, -5 * HOUR])
@pytest.mark.parametrize("delivery", [pb.DELIVERY_POLICY_LOSSLESS, pb.DELIVERY_POLICY_LATEST])
def test_a_jump_of_the_clock_ends_no_stream_and_drops_no_frame(start, monkeypatch, delivery, jump_seconds):
    running = start(limits=Limits(idle_timeout_seconds=IDLE_SECONDS))
    real = time.time
    stream = running.stream(delivery=delivery, max_frame_age=Duration(seconds=1))
    offset = 0.0
    monkeypatch.setattr(time, "time", lambda: real() + offset)
    for turn in range(16):
        captured = Timestamp()
        captured.FromNanoseconds(int(real() * 1e9))  # the camera's clock does not jump
        offset += jump_seconds if turn in (4, 8) else 0.0
        stream.frame(prompts=[] if turn else [prompt(1, square(16, 16))], capture_time=captured)
        assert stream.receive("result").seq == stream.seq
        time.sleep(0.02)
    counted = running.sample("frame_age_seconds_count")
    assert 4 <= counted <= 16, "ages that cannot be may be left out, the others may not"
    assert 0 <= running.sample("frame_age_seconds_sum") < counted
    assert running.sample("frame_seconds_sum", policy="lossless" if delivery == 1 else "latest") < 10
    stream.half_close()
    assert stream.receive("closed").frames_answered == 16


def test_the_idle_timeout_runs_on_no_wall_clock(start, monkeypatch):
    running = start(limits=Limits(idle_timeout_seconds=IDLE_SECONDS))
    real = time.time
    stream = running.stream()
    monkeypatch.setattr(time, "time", lambda: real() + 100 * HOUR)
    time.sleep(IDLE_SECONDS / 2)
    stream.frame(prompts=[prompt(1, square(16, 16))])
    assert stream.receive("result")


@pytest.mark.parametrize(
    "captured",
    [
        Timestamp(seconds=253_402_300_799, nanos=999_999_999),  # the end of the year 9999
        Timestamp(seconds=-62_135_596_800),  # the year 1
        Timestamp(seconds=2**62, nanos=2**30),  # what no clock says
        Timestamp(seconds=-(2**63), nanos=-5),
        Timestamp(),
    ],
)
def test_a_camera_whose_clock_is_wrong_gets_its_answers(running, captured):
    stream = running.stream()
    for _ in range(2):
        stream.frame(prompts=[prompt(1, square(16, 16))], capture_time=captured)
        assert stream.receive("result").seq == stream.seq
    assert 0 <= running.sample("frame_age_seconds_sum") < HOUR


@pytest.mark.parametrize("pts", [Duration(seconds=2**63 - 1, nanos=2**31 - 1), Duration(seconds=-5, nanos=7)])
def test_a_presentation_time_comes_back_untouched_whatever_it_is(running, pts):
    stream = running.stream()
    stream.frame(prompts=[prompt(1, square(16, 16))], pts=pts)
    assert stream.receive("result").pts == pts

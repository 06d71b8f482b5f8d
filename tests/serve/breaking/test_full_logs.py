"""A log that cannot be written: the disk is full, or it is a pipe that nobody reads. The streams go on."""

import contextlib
import fcntl
import os
import time
from pathlib import Path

import grpc
import pytest
from process_server import process_server
from served import WireStream, jpeg, picture, prompt, square

from maskstream.v1 import maskstream_pb2 as pb
from maskstream.v1 import maskstream_pb2_grpc as pb_grpc

MOST_SECONDS = 1.0  # for an answer, on a busy machine
LONG_ID = "x" * 120  # of a session; it goes into the log
STREAMS = 40


@contextlib.contextmanager
def full_disk():
    with Path("/dev/full").open("wb") as full:
        yield full


@contextlib.contextmanager
def unread_pipe():
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)  # full after a few lines
    with os.fdopen(writing, "wb") as pipe:
        yield pipe
    os.close(reading)


@pytest.mark.slow
@pytest.mark.parametrize("stderr", [full_disk, unread_pipe])
def test_streams_go_on_when_the_log_cannot_be_written(tmp_path, stderr):
    with (
        stderr() as sink,
        process_server(tmp_path, "--log-level", "DEBUG", "--short-side", "64", stderr=sink) as server,
    ):
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(server.listen, options) as channel:
            stub = pb_grpc.MaskStreamServiceStub(channel)
            beside = WireStream(stub)
            slowest = 0.0
            for number in range(STREAMS):  # each end is a line: together they are more than the pipe holds
                since = time.perf_counter()
                noisy = WireStream(stub, session_id=f"{LONG_ID}{number}")
                # libpng and libjpeg have words of their own for what they are sent, past any logger
                noisy.frame(image={"png": b"\x89PNG\r\n\x1a\n" + bytes(4) + b"IHDR" + bytes(1000)})
                noisy.receive("error")
                noisy.frame(image={"jpeg": spoilt_jpeg()}, prompts=[prompt(1, square(16, 16))])
                noisy.receive()
                noisy.half_close()
                noisy.receive("closed")
                beside.frame(prompts=[] if number else [prompt(1, square(16, 16))])
                beside.receive("result")
                slowest = max(slowest, time.perf_counter() - since)
            assert slowest < MOST_SECONDS
            assert stub.GetServerInfo(pb.GetServerInfoRequest(), timeout=MOST_SECONDS).active_streams >= 1
            assert server.metric("streams_total", end_reason="closed") >= STREAMS - 1
        assert server.process.poll() is None


def spoilt_jpeg():
    """Whole by its markers, and noise between them: the decoder complains on standard error."""
    data = bytearray(jpeg(picture((256, 256))))
    start = data.index(b"\xff\xda") + 14
    data[start : start + 40] = bytes(range(1, 41))
    return bytes(data)

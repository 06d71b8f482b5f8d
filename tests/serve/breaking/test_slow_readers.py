"""Clients that send thirty frames a second and read one answer a second: their own trouble, and nobody else's."""

import threading
import time

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from hostile import THOROUGH, one_colour
from process_server import MIB, process_server
from served import WireStream, prompt, square

from maskstream.v1 import maskstream_pb2 as pb
from maskstream.v1 import maskstream_pb2_grpc as pb_grpc

SECONDS = 60.0 if THOROUGH else 3.0
FRAMES_A_SECOND = 30
SIZE = (64, 96)
LARGE_ANSWERS = pb.OutputOptions(encoding=pb.MASK_ENCODING_RAW, width=1280, height=720)  # 0.9 MB each
# What the transport takes in before it pushes back, 4 to 6 MiB a direction and stream, and the answers in the outbox.
MOST_BYTES = 3 * 24 * MIB
MOST_SECONDS_BESIDE = 0.5  # for nine of ten answers of another stream, on a busy machine


class SlowReader:
    """Sends on a clock; reads one answer a second while `SECONDS` last, then everything."""

    def __init__(self, stub, **options):
        self.stream = WireStream(stub, output=LARGE_ANSWERS, **options)
        self.sent = [self.stream.frame(image=one_colour((9, 90, 9)), prompts=[prompt(1, square(16, 16))])]
        self.answers = []
        self._threads = [threading.Thread(target=run) for run in (self._send, self._read)]
        self._until = time.monotonic() + SECONDS
        for thread in self._threads:
            thread.start()

    def _send(self):
        while time.monotonic() < self._until:
            time.sleep(1 / FRAMES_A_SECOND)
            self.sent.append(self.stream.frame(image=one_colour((9, 90, 9))))
        self.stream.half_close()

    def _read(self):
        while time.monotonic() < self._until:
            self.answers.append(self.stream.receive())
            time.sleep(1)
        self.answers += self.stream.rest()

    def finish(self):
        for thread in self._threads:
            thread.join()

    def told(self):
        """(seqs answered with a result, seqs reported as dropped)."""
        answered = [answer.result.seq for answer in self.answers if answer.HasField("result")]
        return answered, [seq for answer in self.answers for seq in answer.dropped.seqs]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_slow_readers_cost_bounded_memory_and_disturb_nobody(tmp_path):
    with process_server(tmp_path, "--log-level", "WARNING", "--short-side", "64") as server:
        channels = [grpc.insecure_channel(server.listen, [("grpc.use_local_subchannel_pool", 1)]) for _ in range(4)]
        stubs = [pb_grpc.MaskStreamServiceStub(channel) for channel in channels]
        beside = WireStream(stubs[3])
        beside.frame(image=one_colour((9, 9, 90)), prompts=[prompt(1, square(16, 16))])
        beside.receive("result")
        before = server.rss_bytes
        server.forget_peak()
        lossless = SlowReader(stubs[0], delivery=pb.DELIVERY_POLICY_LOSSLESS, max_in_flight=8)
        latest = SlowReader(stubs[1], delivery=pb.DELIVERY_POLICY_LATEST, max_in_flight=8)
        waited = []
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            since = time.perf_counter()
            beside.frame(image=one_colour((9, 9, 90)))
            beside.receive("result")
            waited.append(time.perf_counter() - since)
            time.sleep(0.02)
        grown = server.peak_bytes - before
        lossless.finish()
        latest.finish()
        for channel in channels:
            channel.close()
    print(f"grown {grown / MIB:.1f} MiB, beside {max(waited):.3f} s at most, {len(latest.told()[1])} dropped")
    assert grown < MOST_BYTES
    assert sorted(waited)[int(0.9 * len(waited))] < MOST_SECONDS_BESIDE
    assert lossless.told() == (lossless.sent, [])
    answered, dropped = latest.told()
    assert sorted(answered + dropped) == latest.sent
    assert answered == sorted(answered)
    assert dropped, "nothing had to be dropped: the reader was not slow"


@pytest.mark.parametrize("delivery", [pb.DELIVERY_POLICY_LOSSLESS, pb.DELIVERY_POLICY_LATEST])
def test_without_credit_no_result_is_sent_and_frames_wait_or_are_dropped_as_the_mode_says(running, delivery):
    stream = running.stream(delivery=delivery, max_in_flight=8, initial_credit=2)
    sent = [stream.frame(prompts=[prompt(1, square(16, 16))])]
    sent += [stream.frame() for _ in range(7)]
    results, dropped = [], []
    while len(results) < 2:
        take(stream.receive(), results, dropped)
    time.sleep(0.2)
    assert running.sample("frames_total", outcome="answered") == 2
    stream.send(credit=pb.Credit(results=100))
    stream.half_close()
    for answer in stream.rest():
        take(answer, results, dropped)
    assert sorted(results + dropped) == sent
    assert results == sorted(results)
    assert bool(dropped) == (delivery == pb.DELIVERY_POLICY_LATEST)


def take(answer, results, dropped):
    if answer.HasField("result"):
        results.append(answer.result.seq)
    dropped += answer.dropped.seqs


def test_a_client_that_never_grants_credit_is_ended_and_not_kept(running):
    stream = running.stream(initial_credit=1, idle_timeout=Duration(nanos=400_000_000))
    for _ in range(3):
        stream.frame(prompts=[prompt(1, square(16, 16))])
    stream.receive("result")
    with pytest.raises(grpc.RpcError) as caught:
        stream.receive()
    assert caught.value.code() is grpc.StatusCode.ABORTED
    assert "Credit" in caught.value.details()

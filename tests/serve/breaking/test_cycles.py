"""Thousands of streams that are opened and thrown away, and a crowd that comes and goes: nothing piles up.

Measured on a server process, after a collection of garbage. grpc.aio itself keeps about a tenth of a KiB of each
cancelled call; the bounds leave room for that and for what the allocator does not give back, and for nothing else.
"""

import random
import threading
import time

import grpc
import numpy as np
import pytest
from hostile import THOROUGH, one_colour
from process_server import MIB, process_server
from served import WireStream, eventually, prompt, square

from maskstream.v1 import maskstream_pb2 as pb
from maskstream.v1 import maskstream_pb2_grpc as pb_grpc

A = square(16, 16)
CYCLES = 5000 if THOROUGH else 1000
FRAME_CYCLES = 500 if THOROUGH else 150
SOAK_SECONDS = 1200 if THOROUGH else 12
BYTES_A_CYCLE = 1024  # ten times what grpc.aio is known to keep
SLACK_BYTES = 8 * MIB  # heap that is fragmented and not given back: the same whether a thousand cycles or a million


def connected(server):
    channel = grpc.insecure_channel(server.listen, [("grpc.use_local_subchannel_pool", 1)])
    return channel, pb_grpc.MaskStreamServiceStub(channel)


def counted(server):
    """What must be the same before and after, and the memory."""
    eventually(lambda: server.metric("streams_active") == 0 and server.metric("memory_bank_bytes") == 0)
    time.sleep(0.2)
    facts = server.ask()
    return {**facts, "os threads": server.threads, "descriptors": server.descriptors, "rss": server.rss_bytes}


def open_and_cancel(stub, turn):
    """By turns: cancelled before Open is sent, before Opened has come, and after."""
    stream = WireStream(stub, opened=turn % 3 == 2)
    if turn % 3 == 1:
        stream.send(open=pb.Open())
    stream.rpc.cancel()
    stream.half_close()  # ends the thread that feeds requests


def frame_and_cancel(stub, turn):
    """By turns: cancelled with an answer on its way, and after it came."""
    stream = WireStream(stub)
    stream.frame(image=one_colour((turn % 200 + 20, 40, 90)), prompts=[prompt(1, A)])
    if turn % 2:
        stream.receive("result")
    stream.rpc.cancel()
    stream.half_close()


def no_more_than(before, after, cycles):
    grown = after["rss"] - before["rss"]
    print(f"{cycles} cycles: {grown / 1024:.0f} KiB, {grown / cycles:.0f} bytes each; {before} -> {after}")
    for name in ("tasks", "threads", "descriptors"):
        assert after[name] <= before[name], name
    assert after["os threads"] <= before["os threads"] + 4, "gRPC's own pool may differ by a few"
    assert after["objects"] - before["objects"] < cycles / 10, "objects of Python are left behind"
    assert grown < SLACK_BYTES + cycles * BYTES_A_CYCLE


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("cycle", "cycles"), [(open_and_cancel, CYCLES), (frame_and_cancel, FRAME_CYCLES)])
def test_streams_that_are_thrown_away_leave_nothing(tmp_path, cycle, cycles):
    with process_server(tmp_path, "--log-level", "WARNING", "--max-streams", "64") as server:
        channel, stub = connected(server)
        with channel:
            for turn in range(cycles // 4):
                cycle(stub, turn)
            before = counted(server)
            for turn in range(cycles):
                cycle(stub, turn)
            after = counted(server)
            no_more_than(before, after, cycles)
            last = WireStream(stub)
            last.frame(prompts=[prompt(1, A)])
            assert last.receive("result")
            last.half_close()
            assert last.receive("closed")
        log = (tmp_path / "server.log").read_text()
    assert "Traceback" not in log, log[-2000:]


class Crowd:
    """Clients that open a stream, use it for a while, and leave by one of many doors, again and again."""

    def __init__(self, stub, clients):
        self._stub, self._over = stub, threading.Event()
        self.frames, self.problems = 0, []
        self._threads = [threading.Thread(target=self._visit, args=(seed,)) for seed in range(clients)]
        for thread in self._threads:
            thread.start()

    def _visit(self, seed):
        dice = random.Random(seed)
        while not self._over.is_set():
            try:
                self._one_stream(dice)
            except Exception as error:  # noqa: BLE001 - it is the test's
                self.problems.append(error)
                return

    def _one_stream(self, dice):
        delivery = dice.choice((pb.DELIVERY_POLICY_LOSSLESS, pb.DELIVERY_POLICY_LATEST))
        size = dice.choice(((64, 96), (96, 128), (240, 432)))
        stream = WireStream(self._stub, delivery=delivery)
        image = one_colour((dice.randrange(10, 250), 80, 30), size)
        for turn in range(dice.randrange(1, 60)):
            ids = range(1, dice.randrange(2, 6)) if turn % 20 == 0 else ()
            seq = stream.frame(image=image, prompts=[prompt(i, square(16 * (i - 1), 16, size=size)) for i in ids])
            if stream.receive("result").seq != seq:
                raise AssertionError("an answer of another frame")
            self.frames += 1
        if dice.random() < 0.5:
            stream.half_close()
            stream.receive("closed")
        else:
            stream.rpc.cancel()
            stream.half_close()

    def leave(self):
        self._over.set()
        for thread in self._threads:
            thread.join()


@pytest.mark.slow
@pytest.mark.timeout(SOAK_SECONDS + 120)
def test_memory_stays_flat_while_streams_come_and_go(tmp_path):
    with process_server(tmp_path, "--log-level", "WARNING", "--max-streams", "16", "--short-side", "64") as server:
        channel, stub = connected(server)
        with channel:
            crowd = Crowd(stub, 5)
            samples, until = [], time.monotonic() + SOAK_SECONDS
            while time.monotonic() < until:
                time.sleep(SOAK_SECONDS / 140)
                samples.append((time.monotonic(), server.rss_bytes))
            crowd.leave()
            after = counted(server)
        assert crowd.problems == []
    warm = np.array(samples[len(samples) // 3 :])
    slope = np.polyfit(warm[:, 0], warm[:, 1], 1)[0] * (warm[-1, 0] - warm[0, 0])  # over what was watched
    print(f"{crowd.frames} frames, RSS {warm[0, 1] / MIB:.1f} -> {warm[-1, 1] / MIB:.1f} MiB, trend {slope / MIB:.2f}")
    assert crowd.frames > 20 * SOAK_SECONDS
    assert slope < (4 * MIB if SOAK_SECONDS < 60 else MIB * SOAK_SECONDS / 3600 + 2 * MIB)
    assert after["tasks"] < 20

"""A client that goes away, in every way and at every stage of a frame: what it held is free again.

Between this client and the server is a relay of ours: it cuts the connection without a word, as a dead machine does, or
stops passing bytes on, as a stalled one does. Two tests do the same to real client processes with real signals.
"""

import contextlib
import gc
import signal
import socket
import subprocess
import sys
import threading
import time

import grpc
import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from hostile import ColourNetworks, back_to, settled
from served import TIMEOUT, WireStream, eventually, png, prompt, square

from maskstream.v1 import maskstream_pb2 as pb
from maskstream.v1 import maskstream_pb2_grpc as pb_grpc
from serve import answer_codec, request_codec
from serve.config import Limits

A = square(16, 16)
STALL_SECONDS = 0.4  # idle timeout that the streams ask for
NOISE = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)


class Relay:
    """Passes bytes between a client and the server until it is told not to."""

    def __init__(self, port):
        self._port, self._pairs = port, []
        self._flowing = threading.Event()
        self._flowing.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._port))
                self._pairs += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _pass_on(self, source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._flowing.wait()
                sink.sendall(data)

    def stop_flowing(self):
        """No byte more, either way; the connection stays."""
        self._flowing.clear()

    def cut(self):
        """Reset both sides: nobody says goodbye."""
        reset = b"\x01\x00\x00\x00\x00\x00\x00\x00"  # linger for 0 s
        for end in self._pairs:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def close(self):
        self._flowing.set()
        self._listener.close()
        self.cut()


class Victim:
    """A client behind a relay, and the four ways in which it goes away."""

    def __init__(self, running):
        self.running, self.relay = running, Relay(running.server.port)
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        self.channel = grpc.insecure_channel(self.relay.address, options)
        self.stub = pb_grpc.MaskStreamServiceStub(self.channel)
        grpc.channel_ready_future(self.channel).result(TIMEOUT)
        self.stream = None

    def open(self, opened=True, **options):
        timeout = Duration(nanos=int(STALL_SECONDS * 1e9))
        self.stream = WireStream(self.stub, opened=opened, idle_timeout=timeout, **options)
        return self.stream

    def prompted(self, **options):
        """Open, and one frame answered, so that there is a bank to be given back."""
        stream = self.open(**options)
        stream.frame(image={"png": png(NOISE)}, prompts=[prompt(1, A)])
        stream.receive("result")
        return stream

    def leave(self, way):
        match way:
            case "cancelled":
                self.stream.rpc.cancel()
            case "closed":
                self.channel.close()
            case "cut":
                self.relay.cut()
            case "stalled":
                self.relay.stop_flowing()

    def close(self):
        self.relay.close()
        self.channel.close()


class Held:
    """A function that waits inside until it is let go."""

    def __init__(self, function):
        self._function = function
        self.entered, self.go = threading.Event(), threading.Event()

    def __call__(self, *arguments):
        self.entered.set()
        assert self.go.wait(TIMEOUT)
        return self._function(*arguments)


# Each stage brings the victim there and returns what lets the server go on.


def before_open(victim, _monkeypatch):
    victim.open(opened=False)
    time.sleep(0.02)


def waiting_for_opened(victim, _monkeypatch):
    victim.open(opened=False).send(open=pb.Open(idle_timeout=Duration(nanos=int(STALL_SECONDS * 1e9))))


def between_frames(victim, _monkeypatch):
    victim.prompted()


def in_decoding(victim, monkeypatch):
    stream = victim.prompted()
    held = Held(request_codec.decode_png)
    monkeypatch.setattr(request_codec, "decode_png", held)
    stream.frame(image={"png": png(NOISE)})
    assert held.entered.wait(TIMEOUT)
    return held.go.set


def waiting_for_the_engine(victim, _monkeypatch):
    networks, stream = victim.running.networks, victim.prompted()
    release = occupied(networks, victim.running.stream(), prompt(1, A))
    stream.frame()
    eventually(lambda: victim.running.server._service.scheduler.ready_streams == 1)
    return release


def in_the_engine(victim, _monkeypatch):
    return occupied(victim.running.networks, victim.prompted())


def occupied(networks, stream, *prompts):
    """Hold the engine on a frame of this stream; what releases it."""
    while networks.entered.acquire(blocking=False):
        pass
    networks.gate.clear()
    stream.frame(prompts=prompts)
    assert networks.entered.acquire(timeout=TIMEOUT)
    return networks.gate.set


def in_encoding(victim, monkeypatch):
    stream = victim.prompted()
    held = Held(answer_codec.encode_result)
    monkeypatch.setattr(answer_codec, "encode_result", held)
    stream.frame()
    assert held.entered.wait(TIMEOUT)
    return held.go.set


def in_writing(victim, _monkeypatch):
    output = pb.OutputOptions(encoding=pb.MASK_ENCODING_RAW, width=4096, height=2304)
    stream = victim.open(output=output, max_in_flight=8)
    for _ in range(8):  # 72 MiB of answers that nobody reads
        stream.frame(prompts=[prompt(1, A)])
    (inner,) = victim.running.server._service.streams
    eventually(lambda: inner._writing_since is not None and time.perf_counter() - inner._writing_since > 0.1)


def after_close(victim, _monkeypatch):
    networks, stream = victim.running.networks, victim.prompted(max_in_flight=8)
    release = occupied(networks, stream)
    for _ in range(3):
        stream.frame()
    stream.send(close=pb.Close(drain=True))
    stream.half_close()
    return release


STAGES = [
    before_open,
    waiting_for_opened,
    between_frames,
    in_decoding,
    waiting_for_the_engine,
    in_the_engine,
    in_encoding,
    in_writing,
    after_close,
]


@pytest.mark.parametrize("way", ["cancelled", "closed", "cut", "stalled"])
@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.__name__)
def test_whoever_goes_away_leaves_nothing_behind(start, monkeypatch, caplog, stage, way):
    running = start(
        ColourNetworks(), max_streams=4, limits=Limits(idle_timeout_seconds=1.0 if way == "stalled" else TIMEOUT)
    )
    before = settled(running)
    victim = Victim(running)
    try:
        go_on = stage(victim, monkeypatch)
        victim.leave(way)
        time.sleep(0.02)
        if go_on is not None:
            go_on()
        for other in running.calls:  # the stream that kept the engine busy has done its part
            other.half_close()
        if (stage, way) != (in_writing, "stalled"):  # the status cannot be sent; keepalive ends that wait in 30 s
            back_to(before, running)
        eventually(lambda: running.sample("streams_active") == running.sample("memory_bank_bytes") == 0)
        again = running.stream()
        again.frame(prompts=[prompt(1, A)])
        assert again.receive("result").seq == again.seq
        again.half_close()
        again.rest()
    finally:
        victim.close()
    back_to(before, running)
    gc.collect()  # a task whose exception nobody took says so when it is thrown away
    assert not [record for record in caplog.records if record.exc_info], caplog.text


CLIENT = """
import sys, time
from served import WireStream, prompt, square
from google.protobuf.duration_pb2 import Duration
from maskstream.v1 import maskstream_pb2 as pb
from maskstream.v1 import maskstream_pb2_grpc as pb_grpc
import grpc
stub = pb_grpc.MaskStreamServiceStub(grpc.insecure_channel(sys.argv[1]))
streams = [WireStream(stub, delivery=delivery) for delivery in (1, 2)]
for stream in streams:
    stream.frame(prompts=[prompt(1, square(16, 16))])
    stream.receive("result")
print("sending", flush=True)
while True:
    for stream in streams:
        stream.frame()
    time.sleep(0.01)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGKILL", "SIGSTOP"])
def test_a_client_process_that_is_killed_or_stopped_frees_its_streams(start, pytestconfig, name):
    running = start(ColourNetworks(0.002), max_streams=4, limits=Limits(idle_timeout_seconds=1.0))
    before = settled(running)
    environment = {"PYTHONPATH": f"{pytestconfig.rootpath}:{pytestconfig.rootpath / 'tests'}"}
    command = [sys.executable, "-c", CLIENT, running.server.listen]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as client:
        try:
            assert client.stdout.readline() == "sending\n"
            eventually(lambda: running.sample("frames_total", outcome="answered") > 20)
            assert running.sample("streams_active") == 2
            client.send_signal(getattr(signal, name))
            back_to(before, running, seconds=15.0)
        finally:
            client.kill()

"""A real server with fake networks on a free port, and a client that speaks the bare protocol.

One event loop serves all tests of the process, on a thread of its own: gRPC's asyncio has one poller a process.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import cv2
import grpc
import numpy as np
import pytest
from fakes import FakeNetworks
from prometheus_client import CollectorRegistry

from maskstream import wire
from maskstream.client_security import Access, secure_channel
from maskstream.v1 import maskstream_pb2 as pb
from maskstream.v1 import maskstream_pb2_grpc as pb_grpc
from serve.config import Limits, ServeConfig
from serve.server import Server, build_server

SIZE = (64, 96)  # height, width of most frames here
TIMEOUT = 30  # seconds; reached by no test that passes

CONFIG = ServeConfig(
    listen="127.0.0.1:0", http="127.0.0.1:0", web=False, warm_up_height=64, warm_up_width=96, grace_seconds=2.0
)


@pytest.fixture(scope="session")
def event_loop_thread() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join(TIMEOUT)
    loop.close()


class Running:
    """A started server, its metrics, and wire clients to it."""

    def __init__(self, server: Server, networks: FakeNetworks, registry: CollectorRegistry, loop: Any) -> None:
        self.server, self.networks, self.registry, self.loop = server, networks, registry, loop
        self.channel = grpc.insecure_channel(server.listen, [("grpc.use_local_subchannel_pool", 1)])
        self.stub = pb_grpc.MaskStreamServiceStub(self.channel)
        self.calls: list[WireStream] = []
        self.running = True

    def connect(self, access: Access) -> Any:
        """A stub to the server by a channel of its own."""
        channel = secure_channel(self.server.listen, [("grpc.use_local_subchannel_pool", 1)], access)
        return pb_grpc.MaskStreamServiceStub(channel)

    def run(self, work: Any) -> Any:
        """Run a coroutine on the server's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(TIMEOUT)

    def start_drain(self) -> "Future[None]":
        self.running = False
        return asyncio.run_coroutine_threadsafe(self.server.drain(), self.loop)

    def sample(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"maskstream_{name}", labels) or 0.0

    def stream(self, **options: Any) -> "WireStream":
        stream = WireStream(self.stub, **options)
        self.calls.append(stream)
        return stream

    def close(self) -> None:
        for call in self.calls:
            call.rpc.cancel()
        self.channel.close()
        if self.running:
            self.run(self.server.stop())


class WireStream:
    """Sends what it is told, right or wrong, and collects what comes."""

    def __init__(self, stub: Any, opened: bool = True, **options: Any) -> None:
        self._requests: list[pb.PropagateRequest | None] = []
        self._more = threading.Semaphore(0)
        self.seq = 0
        self.rpc = stub.Propagate(self._take(), timeout=TIMEOUT)
        if opened:
            options = {"output": pb.OutputOptions(per_object_stats=True, timings=True), **options}
            self.send(open=pb.Open(**options))
            self.opened = self.receive("opened")

    def _take(self) -> Iterator[pb.PropagateRequest]:
        while True:
            self._more.acquire()
            request = self._requests.pop(0)
            if request is None:
                return
            yield request

    def send(self, seq: int | None = None, **kind: Any) -> int:
        self.seq = self.seq + 1 if seq is None else seq
        self._requests.append(pb.PropagateRequest(seq=self.seq, **kind))
        self._more.release()
        return self.seq

    def frame(self, image: Any = None, prompts: Sequence[pb.ObjectPrompt] = (), **options: Any) -> int:
        payload = {"png": png(picture())} if image is None else image
        return self.send(frame=pb.Frame(**payload, prompts=pb.SetObjects(objects=prompts), **options))

    def half_close(self) -> None:
        self._requests.append(None)
        self._more.release()

    def receive(self, kind: str | None = None) -> Any:
        """The next answer; with `kind`, its body, and anything else fails the test."""
        answer = next(self.rpc)
        if kind is None:
            return answer
        assert answer.WhichOneof("kind") == kind, answer
        return getattr(answer, kind)

    def rest(self) -> list[pb.PropagateResponse]:
        return list(self.rpc)


def picture(size: tuple[int, int] = SIZE, colour: tuple[int, int, int] = (200, 100, 50)) -> np.ndarray:
    frame = np.zeros((*size, 3), np.uint8)
    frame[:] = colour
    return frame


def png(frame: np.ndarray) -> bytes:
    return cv2.imencode(".png", frame[:, :, ::-1])[1].tobytes()


def jpeg(frame: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", frame[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def square(top: int, left: int, side: int = 16, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A region on the grid of the fake networks, which therefore keep it exactly."""
    mask = np.zeros(size, np.uint8)
    mask[top : top + side, left : left + side] = 1
    return mask


def prompt(object_id: int, mask: np.ndarray) -> pb.ObjectPrompt:
    return pb.ObjectPrompt(object_id=object_id, mask=wire.mask_to_proto(mask, pb.MASK_ENCODING_LABEL_RUNS))


def id_map_of(result: pb.FrameResult) -> np.ndarray:
    return wire.mask_from_proto(result.label_map, 4096, 4096)


def assert_shows(result: pb.FrameResult, objects: dict[int, np.ndarray]) -> None:
    """The label map holds exactly these regions, but for the corners that bilinear resizing rounds off."""
    id_map = id_map_of(result)
    assert set(np.unique(id_map)) - {0} == set(objects)
    for object_id, mask in objects.items():
        assert np.count_nonzero((id_map == object_id) != (mask != 0)) <= 4, f"object {object_id}"


def eventually(condition: Callable[[], bool], seconds: float = TIMEOUT) -> None:
    """Wait until it holds, or fail."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.005)


Start = Callable[..., Running]


@pytest.fixture
def start(event_loop_thread: asyncio.AbstractEventLoop) -> Iterator[Start]:
    """Starts servers with fake networks; `limits` and settings of ServeConfig as keywords."""
    started: list[Running] = []

    def start_one(networks: FakeNetworks | None = None, limits: Limits | None = None, **settings: Any) -> Running:
        networks = networks or FakeNetworks()
        registry = CollectorRegistry()
        config = replace(CONFIG, limits=limits or Limits(), **settings)

        async def build() -> Server:
            server = build_server(networks, config, registry, model_version="abc", server_version="1.2")
            await server.start()
            return server

        server = asyncio.run_coroutine_threadsafe(build(), event_loop_thread).result(TIMEOUT)
        started.append(Running(server, networks, registry, event_loop_thread))
        return started[-1]

    yield start_one
    for running in started:
        running.networks.gate.set()
        running.close()


@pytest.fixture
def running(start: Start) -> Running:
    return start()

"""Two server processes behind a real balancer and six clients that lose nothing, whatever happens to the servers.

The networks are fakes that follow objects by their colour, so a stream that moved has to find its object again on the
other replica. The balancers run the files in deploy/.
"""

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile import ColourNetworks
from process_server import ProcessServer, process_server
from proxies import Proxy, channel, envoy, free_ports, make_keys, need, nginx
from served import TIMEOUT, Start, eventually

from maskstream.client import FrameAnswer, MaskStreamClient, Prompt
from maskstream.tracker import Frame

COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255), (255, 0, 255))
CLIENTS, SIZE, SIDE, STEP = len(COLOURS), (64, 96), 32, 16
TURNS, STAY = 4, 3  # places on the way to and fro; frames at each
PERIOD = TURNS * STAY
pytestmark = pytest.mark.slow


def shown(client: int, index: int) -> tuple[Frame, np.ndarray]:
    """A frame of a client's own colour and where its object is: it goes to and fro on the grid of the fake networks."""
    at = STEP * abs((index // STAY) % TURNS - TURNS // 2)
    frame, mask = np.full((*SIZE, 3), 16, np.uint8), np.zeros(SIZE, np.uint8)
    frame[STEP : STEP + SIDE, at : at + SIDE] = COLOURS[client]
    mask[STEP : STEP + SIDE, at : at + SIDE] = 1
    return frame, mask


class Camera:
    """A client on a thread: sends frames until it is told to stop, and keeps what came."""

    def __init__(self, number: int, proxy: Proxy, keys: Path) -> None:
        self.number, self.sent, self.stop = number, 0, threading.Event()
        self.answers: list[FrameAnswer] = []
        self.failure: BaseException | None = None
        self._proxy, self._keys = proxy, keys
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _frames(self) -> Iterator[Frame]:
        while not self.stop.wait(0.01):
            yield shown(self.number, self.sent)[0]
            self.sent += 1

    def _run(self) -> None:
        prompts = {0: [Prompt(1, shown(self.number, 0)[1])]}
        try:
            connection = channel(self._proxy, self._keys)
            client = MaskStreamClient(self._proxy.target, channel=connection)
            with connection, client, client.open(image="png", delivery="lossless") as stream:
                self.answers.extend(stream.propagate(self._frames(), prompts))
        except BaseException as error:  # noqa: BLE001 - shown by the test, whatever it is
            self.failure = error

    def goes_on(self) -> None:
        """Wait for a few answers more than there are."""
        seen = len(self.answers)
        eventually(lambda: len(self.answers) > seen + 4 or self.failure is not None)
        if self.failure is not None:
            raise self.failure

    def finish(self) -> None:
        self.stop.set()
        self._thread.join(TIMEOUT)
        if self.failure is not None:
            raise self.failure

    def overlaps(self, alone: list[np.ndarray]) -> list[float]:
        """Intersection over union of each answer with the same frame's when the client was `alone` and undisturbed."""
        pairs = [(answer.id_map == 1, alone[(answer.index or 0) % len(alone)] == 1) for answer in self.answers[1:]]
        return [np.sum(a & b) / np.sum(a | b) for a, b in pairs]


class Replicas:
    """Two addresses at which server processes come and go."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.ports = free_ports(2)
        self._folder, self._stack = folder, stack
        starts = [threading.Thread(target=self.start, args=(number,)) for number in (0, 1)]
        self.running: dict[int, ProcessServer] = {}
        for start in starts:
            start.start()
        for start in starts:
            start.join()

    def start(self, number: int) -> None:
        folder = self._folder / str(number)
        folder.mkdir(exist_ok=True)
        listen = ("--listen", f"127.0.0.1:{self.ports[number]}", "--grace-seconds", "5")
        self.running[number] = self._stack.enter_context(process_server(folder, *listen))

    def streams(self) -> list[float]:
        return [self.running[number].metric("streams_active") for number in sorted(self.running)]


@pytest.fixture
def alone(start: Start) -> list[list[np.ndarray]]:
    """The masks of each client's frames, for one whole period, from a server that nothing happens to."""
    with MaskStreamClient(start(ColourNetworks()).server.listen) as client:
        return [masks_of(client, number) for number in range(CLIENTS)]


def masks_of(client: MaskStreamClient, number: int) -> list[np.ndarray]:
    frames = (shown(number, index)[0] for index in range(2 * PERIOD))
    with client.open(image="png") as stream:
        answers = list(stream.propagate(frames, {0: [Prompt(1, shown(number, 0)[1])]}))
    return [answer.id_map for answer in answers[PERIOD:] if answer.id_map is not None]


@pytest.mark.parametrize("balancer", [nginx, envoy], ids=["nginx", "envoy"])
def test_every_frame_is_answered_while_replicas_are_killed_and_drained(
    balancer: Any, tmp_path: Path, alone: list[list[np.ndarray]]
) -> None:
    need(balancer.__name__)
    folders = [tmp_path / name for name in ("keys", "balancer", "replicas")]
    for folder in folders:
        folder.mkdir()
    keys = make_keys(folders[0])
    with ExitStack() as stack:
        replicas = Replicas(folders[2], stack)
        proxy = stack.enter_context(balancer(folders[1], keys, replicas.ports))
        cameras = [Camera(number, proxy, keys) for number in range(CLIENTS)]
        try:
            play(replicas, cameras)
        finally:
            for camera in cameras:
                camera.stop.set()
        for camera in cameras:
            camera.finish()
            assert [answer.index for answer in camera.answers] == list(range(camera.sent)), "each once, in order"
            assert all(answer.error is None and answer.dropped is None for answer in camera.answers)
            assert min(camera.overlaps(alone[camera.number])) > 0.95, "as if nothing had happened"
        drained = replicas.running[1].process
        assert drained.returncode == 0, "it left by itself"
        assert replicas.running[0].metric("streams_active") == 0


def play(replicas: Replicas, cameras: list[Camera]) -> None:
    """Kill the first replica, let it return, then take the second one down in good order."""

    def all_go_on() -> None:
        for camera in cameras:
            camera.goes_on()

    all_go_on()
    before = replicas.streams()
    assert sum(before) == CLIENTS
    assert min(before) > 0, "both are used"
    first = replicas.running.pop(0)
    first.process.kill()
    first.process.wait()
    all_go_on()
    assert replicas.streams() == [CLIENTS], "all are on the other one"
    replicas.start(0)
    second = replicas.running[1].process
    second.terminate()
    eventually(lambda: second.poll() is not None)
    all_go_on()
    assert replicas.running[0].metric("streams_active") == CLIENTS

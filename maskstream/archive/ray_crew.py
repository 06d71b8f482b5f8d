"""Workers on a Ray cluster: an actor a slot, which loads the networks once and does the same jobs as a local process.

Actors rather than tasks, as loading takes longer than a short video; and the retries are the supervisor's rather than
Ray's, so that a video that kills its worker is counted the same on one machine and on many. Videos, prompts and outputs
are files: all nodes must see them under the same paths. Ray is imported when it is asked for.
"""

import importlib.util
import logging
import os
import socket
import time
from collections.abc import Sequence
from typing import Any

from maskstream.archive.following import Follower
from maskstream.archive.jobs import Beat, Died, Job, Message, Outcome, Ready, Refused, WorkersFailed, WorkSettings
from maskstream.errors import MaskstreamError

_BEAT_SECONDS = 1.0  # between two questions how far a video is
_KNOCK_SECONDS = 5.0


class RayWorker:
    """What lives in the actor. One thread follows, another answers how far that is."""

    def __init__(self, settings: WorkSettings) -> None:
        self._settings = settings
        self._follower: Follower | None = None
        self._beat = Beat("", 0, None)

    def load(self) -> Ready | Refused:
        """Load the networks."""
        try:
            self._follower = Follower.load(self._settings)
        except MaskstreamError as error:
            return Refused(str(error))
        return Ready(self._follower.what)

    def follow(self, job: Job) -> Outcome:
        """Follow a video."""
        assert self._follower is not None, "load comes first"
        self._beat = Beat(job.video, 0, None)
        return self._follower.follow(job, self._note)

    def beat(self) -> Beat:
        """How far the video is."""
        return self._beat

    def _note(self, beat: Beat) -> None:
        self._beat = beat


class RayCrew:
    """Slots on a cluster; `gpus` of each actor."""

    def __init__(self, ray: Any, settings: WorkSettings, workers: int, gpus: float) -> None:
        self._ray = ray
        make = ray.remote(
            num_cpus=settings.threads or 1, num_gpus=gpus, max_restarts=0, max_task_retries=0, max_concurrency=2
        )
        actor = make(RayWorker)
        self.slots: Sequence[RaySlot] = [RaySlot(ray, actor, settings) for _ in range(workers)]

    def wait(self, seconds: float) -> None:
        """Until an actor has answered, for so long at most."""
        asked = [reference for slot in self.slots for reference in slot.asked]
        if asked:
            self._ray.wait(asked, timeout=seconds)
        else:
            time.sleep(seconds)

    def close(self) -> None:
        """End all actors at once."""
        for slot in self.slots:
            slot.stop()


class RaySlot:
    """One actor after the other."""

    def __init__(self, ray: Any, actor: Any, settings: WorkSettings) -> None:
        self._ray, self._actor, self._settings = ray, actor, settings
        self._worker: Any = None
        self._work: list[Any] = []  # what was asked of it and is not answered: to load or to follow, and its beat
        self._beat: list[Any] = []
        self._beat_asked = 0.0

    @property
    def asked(self) -> list[Any]:
        """References of answers to come."""
        return [*self._work, *self._beat]

    def start(self) -> None:
        """Ask the cluster for an actor; it is up when Ready is heard."""
        self._worker = self._actor.remote(self._settings)
        self._work = [self._worker.load.remote()]

    def give(self, job: Job) -> None:
        """Let the actor follow a video."""
        self._work = [self._worker.follow.remote(job)]
        self._beat_asked = time.monotonic()

    def hear(self) -> list[Message]:
        """What has been answered since; the last word of a lost actor is Died."""
        heard: list[Message] = []
        if not self.asked:
            return heard
        answered, _ = self._ray.wait(self.asked, num_returns=len(self.asked), timeout=0)
        try:
            for reference in answered:
                heard.append(self._ray.get(reference))
        except self._ray.exceptions.RayError as error:
            self.stop()
            return [*heard, Died(_first_line(error))]
        self._work = [reference for reference in self._work if reference not in answered]
        self._beat = [reference for reference in self._beat if reference not in answered]
        self._ask_for_a_beat(any(isinstance(message, Outcome) for message in heard))
        return heard

    def stop(self) -> None:
        """Kill the actor, if there is one. What it still writes goes to a folder that nobody will look at."""
        if self._worker is not None:
            self._ray.kill(self._worker)
        self._worker, self._work, self._beat = None, [], []

    def _ask_for_a_beat(self, finished: bool) -> None:
        due = time.monotonic() - self._beat_asked >= _BEAT_SECONDS
        if self._work and not self._beat and not finished and due:
            self._beat_asked = time.monotonic()
            self._beat = [self._worker.beat.remote()]


def connect(address: str) -> Any:
    """The library, connected to a cluster: HOST:PORT, "auto", or "local" for one on this machine.

    Raises WorkersFailed when Ray is not installed or the cluster not reached.
    """
    if importlib.util.find_spec("ray") is None:
        raise WorkersFailed("--ray needs the package ray; pip install 'maskstream[ray]'")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster that we start reports to nobody
    try:
        _knock(address)
        import ray

        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError) as error:
        raise WorkersFailed(f"--ray {address}: no cluster could be reached there ({_first_line(error)})") from error
    return ray


def _knock(address: str) -> None:
    """Raises OSError when nobody listens at HOST:PORT; Ray itself would try for minutes."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdecimal() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), _KNOCK_SECONDS).close()


def cluster_cores(ray: Any) -> int:
    """Cores of all nodes."""
    return int(ray.cluster_resources().get("CPU", 0))


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__

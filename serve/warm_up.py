"""Warming a model up: real steps on a synthetic frame, so that no client pays for a first run of any shape.

The same steps show whether frames of several streams belong together. Each of them waits for all, so a batch must cost
little more than one frame: on a GPU it does, on a CPU that one frame fills it does not. It is measured, not believed.
"""

import logging
import time
from collections.abc import Callable, Iterator

import numpy as np

from maskstream.network_calls import run_in_lockstep
from maskstream.networks import Networks
from maskstream.tracker import Frame, Prompt, Segmentation, Tracker, TrackerSettings
from serve.model import Model

log = logging.getLogger(__name__)

OBJECTS = (1, 2, 4)  # counts that are warm at the start, for each size of a batch
MOST = 32  # frames in one run
WORTH = 0.7  # twice the batch is taken when a frame then costs at most this share, hence the batch 1.4 times as much
TIMED = 2  # steps, of which the faster counts

Job = Callable[[], None]


def warm_up(model: Model, frame_size: tuple[int, int], short_side: int, most: int, fixed: int) -> Iterator[Job]:
    """Jobs for the engine thread, short enough for streams to go on in between; they set `model.max_batch` at the end.

    `frame_size` (height, width) is what cameras are expected to send; `most` streams may be open; `fixed` is the
    largest batch that the settings ask for, 0 to choose by measuring.
    """
    seconds: dict[int, float] = {}
    largest = min(fixed or MOST, most, MOST)
    batch, chosen = 1, 1
    while batch <= largest:
        groups = [_Group(model.networks, frame_size, short_side, batch, objects) for objects in OBJECTS]
        yield from (groups[0].begin, groups[0].warm, *[groups[0].run] * (0 if fixed else TIMED))
        seconds[batch] = groups[0].frame_seconds
        if not fixed and batch > 1 and seconds[batch] > WORTH * seconds[chosen]:
            break
        for group in groups[1:]:
            yield from (group.begin, group.warm)
        chosen, batch = batch, 2 * batch
    model.max_batch = chosen
    if len(seconds) > 1 and not fixed:
        costs = ", ".join(f"{1e3 * each:.1f} ms in {size}" for size, each in seconds.items())
        log.info("frames of up to %d streams share a run of the networks; a frame costs %s", chosen, costs)


class _Group:
    """Streams of one size with one number of objects, stepped side by side."""

    def __init__(
        self, networks: Networks, frame_size: tuple[int, int], short_side: int, batch: int, objects: int
    ) -> None:
        settings = TrackerSettings(max_objects=max(OBJECTS), short_side=short_side)
        self._networks = networks
        self._trackers = [Tracker(networks, settings) for _ in range(batch)]
        self._frame, self._prompts = _synthetic(frame_size, objects)
        self.frame_seconds = float("inf")

    def begin(self) -> None:
        """The first frame, with its prompts."""
        self._step(self._prompts)

    def warm(self) -> None:
        """The first frame that reads the memory."""
        self._step([])

    def run(self) -> None:
        """Another frame, timed."""
        started = time.perf_counter()
        self._step([])
        self.frame_seconds = min(self.frame_seconds, (time.perf_counter() - started) / len(self._trackers))

    def _step(self, prompts: list[Prompt]) -> None:
        steps = [tracker.stepping(self._frame, prompts) for tracker in self._trackers]
        for finished in run_in_lockstep(steps, self._networks):
            if finished.error:
                raise finished.error


def probe(model: Model, frame_size: tuple[int, int], short_side: int) -> None:
    """Whether the engine still works: two steps that must not fail and must find what was prompted. Raises if not."""
    tracker = Tracker(model.networks, TrackerSettings(short_side=short_side))
    frame, prompts = _synthetic(frame_size, 1)
    for given in (prompts, []):
        answer: Segmentation = tracker.step(frame, given)
    if tracker.writes_skipped["not_finite"] or not answer.id_map.any():
        raise RuntimeError("the engine gives no masks for a frame that it was prompted on")


def _synthetic(frame_size: tuple[int, int], objects: int) -> tuple[Frame, list[Prompt]]:
    """A frame with one bright stripe an object, and their masks."""
    height, width = frame_size
    frame = np.full((height, width, 3), 40, np.uint8)
    prompts = []
    for place in range(objects):
        left, right = width * place // objects, width * (2 * place + 1) // (2 * objects)
        frame[:, left:right] = (250 - 40 * place, 60 + 40 * place, 120)
        mask = np.zeros((height, width), np.uint8)
        mask[:, left:right] = 1
        prompts.append(Prompt(place + 1, mask))
    return frame, prompts

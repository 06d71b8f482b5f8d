"""Following a video frame by frame, by a tracker in this process. (`remote` does it by a server.)

Prompts are made when their frame is there, since a mask file has to have its size. Frames before the
first prompted one have no object: an empty answer. Where nothing but things that stand out is asked for, a recording is
looked at some frames ahead; a live source is not.
"""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from maskstream.auto_prompts import auto_prompts
from maskstream.containers import TimedFrame
from maskstream.errors import SizeChanged
from maskstream.followed import FollowedFrame
from maskstream.networks import Networks
from maskstream.prompt_kinds import AnyPrompt, AutoPrompt
from maskstream.tracker import Frame, Tracker
from maskstream.video import FrameSource

PromptMaker = Callable[[Frame], Sequence[AnyPrompt]]  # prompts for a frame, once it is there
PromptPlan = Mapping[int, PromptMaker]  # by the index of the frame

LOOK_AHEAD_FRAMES = 10  # at the start of a recording


class Frames:
    """Frames of a source as they are taken, with what only the source knows: drops, and when a live one came."""

    def __init__(self, frames: Iterable[TimedFrame]) -> None:
        self._frames = frames
        self._source = frames if isinstance(frames, FrameSource) else None
        self._told_drops = 0

    def __iter__(self) -> Iterator[TimedFrame]:
        """All frames. Raises SizeChanged for one of another size, also before anything is followed."""
        size: tuple[int, ...] | None = None
        for frame, pts_seconds in self._frames:
            size = size or frame.shape
            if frame.shape != size:
                was, found = (f"{shape[1]}x{shape[0]}" for shape in (size, frame.shape))
                raise SizeChanged(f"this stream is {was}, the frame is {found}; a video has one size")
            yield frame, pts_seconds

    @property
    def live(self) -> bool:
        """Whether what comes later cannot be looked at now."""
        return self._source is not None and self._source.live

    def arrived(self) -> float | None:
        """When the frame last taken came, by time.perf_counter(); None when it is not live."""
        return self._source.arrived if self._source and self._source.live else None

    def new_drops(self) -> int:
        """Frames dropped since this was last asked."""
        dropped = self._source.dropped if self._source else 0
        told, self._told_drops = self._told_drops, dropped
        return max(0, dropped - told)


def follow_locally(
    networks: Networks, frames: Iterable[TimedFrame], prompts_for: PromptMaker | PromptPlan
) -> Iterator[FollowedFrame]:
    """Answers to `frames` in order; `prompts_for` the first frame, or by frame. Raises what Tracker.step raises."""
    plan, taken = plan_of(prompts_for), Frames(frames)
    timed = iter(taken)
    if 0 in plan and not taken.live:
        plan, timed = _looking_ahead(networks, plan, timed)
    tracker = Tracker(networks)
    try:
        for index, (frame, pts_seconds) in enumerate(timed):
            arrived, started = taken.arrived(), time.perf_counter()
            prompted = plan[index](frame) if index in plan else ()
            if not prompted and not tracker.object_ids:
                yield unfollowed(index, pts_seconds, frame)
                continue
            answer = tracker.step(frame, prompted)
            ended = time.perf_counter()
            stages = {**answer.stage_seconds, "total": ended - started}
            age = None if arrived is None else ended - arrived
            yield FollowedFrame(
                index, pts_seconds, frame, answer.id_map, answer.objects, stages, age, taken.new_drops()
            )
    finally:
        tracker.close()


def _looking_ahead(
    networks: Networks, plan: PromptPlan, timed: Iterator[TimedFrame]
) -> tuple[PromptPlan, Iterator[TimedFrame]]:
    """Plan and frames, with the things found that an AutoPrompt alone asks for."""
    beginning = list(itertools.islice(timed, 1))
    prompts = plan[0](beginning[0][0]) if beginning else ()
    match prompts:
        case [AutoPrompt(max_objects=most)]:
            beginning += itertools.islice(timed, LOOK_AHEAD_FRAMES - 1)
            found = auto_prompts(networks, [frame for frame, _ in beginning], most)
            prompts = found or prompts  # the tracker says that nothing stands out
    return {**plan, 0: lambda _: prompts}, itertools.chain(beginning, timed)


def plan_of(prompts: PromptMaker | PromptPlan) -> PromptPlan:
    """Prompts for one frame are those of the first."""
    return {0: prompts} if callable(prompts) else prompts


def unfollowed(index: int, pts_seconds: float, frame: Frame) -> FollowedFrame:
    """The answer to a frame before any object was prompted."""
    return FollowedFrame(index, pts_seconds, frame, np.zeros(frame.shape[:2], np.uint8), (), {})

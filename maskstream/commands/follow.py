"""Following a video frame by frame, by a tracker in this process. (`remote` does it by a server.)

Prompts are made when their frame is there, since a mask file has to have its size. Frames before the
first prompted one have no object: an empty answer.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from maskstream.containers import TimedFrame
from maskstream.errors import SizeChanged
from maskstream.followed import FollowedFrame
from maskstream.networks import Networks
from maskstream.prompt_kinds import AnyPrompt
from maskstream.tracker import Frame, Tracker
from maskstream.video import FrameSource

PromptMaker = Callable[[Frame], Sequence[AnyPrompt]]  # prompts for a frame, once it is there
PromptPlan = Mapping[int, PromptMaker]  # by the index of the frame


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

    def arrived(self) -> float | None:
        """When the frame last taken came, by time.perf_counter(); None when it is not live."""
        if self._source is None or not self._source.live:
            return None
        return self._source.arrived

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
    tracker = Tracker(networks)
    try:
        for index, (frame, pts_seconds) in enumerate(taken):
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


def plan_of(prompts: PromptMaker | PromptPlan) -> PromptPlan:
    """Prompts for one frame are those of the first."""
    return {0: prompts} if callable(prompts) else prompts


def unfollowed(index: int, pts_seconds: float, frame: Frame) -> FollowedFrame:
    """The answer to a frame before any object was prompted."""
    return FollowedFrame(index, pts_seconds, frame, np.zeros(frame.shape[:2], np.uint8), (), {})

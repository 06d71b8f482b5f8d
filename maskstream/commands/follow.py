"""Following a video frame by frame, by a tracker in this process. (`remote` does it by a server.)"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from maskstream.commands.outputs import FollowedFrame
from maskstream.networks import Networks
from maskstream.tracker import Frame, Prompt, Tracker
from maskstream.video import TimedFrame

PromptMaker = Callable[[Frame], Sequence[Prompt]]  # prompts for the first frame, once its size is known


def follow_locally(
    networks: Networks, frames: Iterable[TimedFrame], prompts_for: PromptMaker
) -> Iterator[FollowedFrame]:
    """Answers to `frames` in order; `prompts_for` the first frame. Raises what Tracker.step raises."""
    tracker = Tracker(networks)
    try:
        for index, (frame, pts_seconds) in enumerate(frames):
            started = time.perf_counter()
            answer = tracker.step(frame, () if index else prompts_for(frame))
            stages = {**answer.stage_seconds, "total": time.perf_counter() - started}
            yield FollowedFrame(index, pts_seconds, frame, answer.id_map, answer.objects, stages)
    finally:
        tracker.close()

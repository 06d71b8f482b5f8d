"""Following a video frame by frame by a server, through the client library."""

import itertools
from collections.abc import Iterable, Iterator

from maskstream.client import MaskStreamClient
from maskstream.commands.follow import PromptMaker
from maskstream.commands.outputs import FollowedFrame
from maskstream.video import TimedFrame


def follow_remotely(
    target: str, frames: Iterable[TimedFrame], prompts_for: PromptMaker, *, live: bool
) -> Iterator[FollowedFrame]:
    """Answers of the server at HOST:PORT, in order. `live`: frames that come too fast are dropped and have no answer.

    Raises what the client raises, and the server's error on a frame it refused.
    """
    waiting = iter(frames)
    first = next(waiting, None)
    if first is None:
        return
    prompts = {0: prompts_for(first[0])}
    sent: dict[int, TimedFrame] = {}  # until they are answered: what is drawn on is the frame itself
    delivery = "latest" if live else "lossless"
    with MaskStreamClient(target) as client, client.open(delivery=delivery) as stream:
        for answer in stream.propagate(_remember(itertools.chain([first], waiting), sent), prompts):
            if answer.index is None:
                continue
            frame, pts_seconds = sent.pop(answer.index)
            if answer.error is not None:
                raise answer.error
            if answer.id_map is not None:
                yield FollowedFrame(answer.index, pts_seconds, frame, answer.id_map, answer.objects, answer.timings)


def _remember(frames: Iterable[TimedFrame], sent: dict[int, TimedFrame]) -> Iterator[TimedFrame]:
    """The frames as they are taken (on the client's thread), each kept under its index."""
    for index, timed in enumerate(frames):
        sent[index] = timed
        yield timed

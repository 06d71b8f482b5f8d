"""The bare tracker in a process of its own, a round at a time: python -m maskstream.load.tracker_rounds '{...}'.

It says in a line of JSON what it runs, then answers each line on its standard input (a number of frames) with the
seconds of so many steps of a new stream. Between the rounds it sleeps, so that the server can have the machine.
"""

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from maskstream.errors import MaskstreamError
from maskstream.load.encoded_clip import EncodedClip, encoded_clip
from maskstream.networks import Networks
from maskstream.tracker import Tracker, TrackerSettings

WARM_UP_FRAMES = 8  # of each round, as in maskstream bench


@dataclass(frozen=True)
class RoundsRequest:
    """What to run."""

    artifact: str
    engine: str
    threads: int  # 0: the engine's own choice
    height: int
    width: int
    objects: int
    short_side: int


def main() -> int:
    """Serve rounds until standard input ends."""
    request = RoundsRequest(**json.loads(sys.argv[1]))
    try:
        from maskstream.engines import load_networks

        networks = load_networks(Path(request.artifact), request.engine, request.threads or None)
    except (MaskstreamError, ImportError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    clip = encoded_clip((request.height, request.width), request.objects)
    print(json.dumps({"engine": networks.engine, "precision": networks.precision}), flush=True)
    for line in sys.stdin:
        print(json.dumps(step_seconds(networks, clip, int(line), request.short_side)), flush=True)
    return 0


def step_seconds(networks: Networks, clip: EncodedClip, frames: int, short_side: int) -> list[float]:
    """Seconds of each of `frames` steps of a new stream, warm-up left out; pictures are decoded beforehand."""
    tracker = Tracker(networks, TrackerSettings(short_side=short_side))
    pixels = [clip.pixels(index) for index in range(clip.period)]
    seconds = []
    for index in range(WARM_UP_FRAMES + frames):
        started = time.perf_counter()
        tracker.step(pixels[index % clip.period], clip.prompts if index == 0 else ())
        seconds.append(time.perf_counter() - started)
    return seconds[WARM_UP_FRAMES:]


if __name__ == "__main__":
    sys.exit(main())

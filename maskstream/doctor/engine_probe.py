"""The program that shows whether one engine runs here: it follows an object through a few small frames, and is gone.

A process of its own, because a library made for another processor or driver does not raise: it kills. Small frames,
because the question is whether it runs; `maskstream bench` says how fast.
"""

import json
import statistics
import sys
from pathlib import Path
from typing import Any

from maskstream.engines import load_networks
from maskstream.errors import MaskstreamError
from maskstream.moving_shapes import render
from maskstream.networks import Networks
from maskstream.tracker import Prompt, Tracker, TrackerSettings

SIZE = (96, 160)
_FRAMES, _WARM_UP = 4, 2
_THREADS = 1  # on a busy machine more would wait for each other, and a figure of it says nothing


def main(artifact: str, *engines: str) -> int:
    """For each name of an engine a line of JSON: precision and milliseconds a frame, or why the engine refuses."""
    for engine in engines:
        try:
            answer = _follow(load_networks(Path(artifact), engine, _THREADS))
        except (MaskstreamError, ImportError) as error:
            answer = {"refused": str(error)}
        print(json.dumps({"engine": engine, **answer}), flush=True)
    return 0


def _follow(networks: Networks) -> dict[str, Any]:
    clip = render(_FRAMES, SIZE, num_objects=1)
    tracker, seconds = Tracker(networks, TrackerSettings(short_side=SIZE[0])), []
    for index, frame in enumerate(clip.frames):
        answer = tracker.step(frame, [Prompt(1, clip.id_maps[0] == 1)] if index == 0 else [])
        seconds.append(sum(answer.stage_seconds.values()))
    tracker.close()
    milliseconds = 1e3 * statistics.median(seconds[_WARM_UP:])
    return {"precision": networks.precision, "ms": round(milliseconds, 1)}


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

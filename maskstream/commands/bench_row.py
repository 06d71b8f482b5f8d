"""One row of `maskstream bench`, measured in this process alone: python -m maskstream.commands.bench_row '{...}'.

The row is printed as one line of JSON; what cannot run is said in one line on stderr, with status 2.
"""

import json
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskstream.errors import MaskstreamError
from maskstream.masks import object_ids
from maskstream.moving_shapes import RenderedClip, render
from maskstream.networks import Networks
from maskstream.report import percentiles
from maskstream.tracker import Prompt, Tracker, TrackerSettings

WARM_UP_FRAMES = 8  # per stream: the bank fills and engines settle
_CLIP_FRAMES = 16  # distinct frames, played to and fro


@dataclass(frozen=True)
class RowRequest:
    """What to measure."""

    artifact: str
    engine: str
    height: int
    width: int
    objects: int
    streams: int
    frames: int  # measured, over all streams


def main() -> int:
    """Measure the request on the command line and print its row."""
    request = RowRequest(**json.loads(sys.argv[1]))
    try:
        from maskstream.engines import load_networks

        networks = load_networks(Path(request.artifact), request.engine)
    except (MaskstreamError, ImportError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    print(json.dumps(measure(networks, request)))
    return 0


def measure(networks: Networks, request: RowRequest) -> dict[str, Any]:
    """The row: frames/s over all streams, percentiles of a step, peak memory of this process."""
    clip = render(_CLIP_FRAMES, (request.height, request.width), num_objects=request.objects)
    settings = TrackerSettings(short_side=min(request.height, request.width))  # work at the size that is asked for
    trackers = [Tracker(networks, settings) for _ in range(request.streams)]
    for tracker in trackers:
        tracker.step(clip.frames[0], _prompts(clip))
    for index in range(1, WARM_UP_FRAMES):
        for tracker in trackers:
            tracker.step(_frame(clip, index))
    seconds = []
    for turn in range(request.frames):
        frame = _frame(clip, WARM_UP_FRAMES + turn // request.streams)
        started = time.perf_counter()
        trackers[turn % request.streams].step(frame)
        seconds.append(time.perf_counter() - started)
    return {
        "engine": networks.engine,
        "precision": networks.precision,
        "size": f"{request.height}x{request.width}",
        "objects": request.objects,
        "streams": request.streams,
        "fps": round(len(seconds) / sum(seconds), 2),
        **percentiles(seconds),
        "peak_rss_bytes": peak_rss_bytes(),
    }


def peak_rss_bytes() -> int:
    """Largest resident size this process has had.

    Linux carries `ru_maxrss` over from the parent into a new program; the kernel's own high-water mark starts afresh.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _prompts(clip: RenderedClip) -> list[Prompt]:
    first = clip.id_maps[0]
    return [Prompt(i, first == i) for i in object_ids(first)]


def _frame(clip: RenderedClip, index: int) -> Any:
    """The clip to and fro without a jump."""
    last = len(clip.frames) - 1
    place = index % (2 * last)
    return clip.frames[place if place <= last else 2 * last - place]


if __name__ == "__main__":
    sys.exit(main())

"""The program that tries one engine: opens it, runs a short drawn clip, prints one line of JSON, and is gone.

`auto` starts it for each candidate (maskstream.engines.trial_process): an engine that crashes takes nothing with it,
and the memory that it took is given back. The request is the only argument, as JSON; the masks go into a file.
"""

import json
import statistics
import sys
from pathlib import Path

import numpy as np

from maskstream import masks
from maskstream.engines import load_networks
from maskstream.engines.choice import Measured
from maskstream.engines.trial_process import PRECISION, REFUSED, SECONDS, TrialRequest
from maskstream.errors import MaskstreamError
from maskstream.moving_shapes import render
from maskstream.networks import Networks
from maskstream.tracker import Prompt, Tracker

TIMED_FRAMES = 3
WARM_UP_FRAMES = 3  # prompted, segmented, and once more for engines that record their second call


def main(request_text: str) -> None:
    """Print the figures, or why the engine refuses, as one line of JSON."""
    request = TrialRequest(**json.loads(request_text))
    try:
        found = measure(load_networks(Path(request.artifact), request.engine, request.threads))
    except MaskstreamError as error:
        print(json.dumps({REFUSED: str(error)}))
        return
    np.savez(request.masks_file, coarse=found.coarse, answered=found.answered)
    print(json.dumps({PRECISION: found.precision, SECONDS: found.seconds}))


def measure(networks: Networks) -> Measured:
    """Steps of the tracker over one object, at the networks' own size."""
    spec = networks.spec
    size = masks.working_size(spec.short_side, spec.short_side * 16 // 9, spec.short_side, spec.stride)
    clip = render(WARM_UP_FRAMES + TIMED_FRAMES, size, num_objects=1)
    tracker, seconds = Tracker(networks), []
    for index, frame in enumerate(clip.frames):
        answer = tracker.step(frame, [Prompt(1, clip.id_maps[0] == 1)] if index == 0 else [])
        seconds.append(sum(answer.stage_seconds.values()))
    tracker.close()
    answered = (answer.id_map == 1).astype(np.float32)
    return Measured(networks.precision, statistics.median(seconds[WARM_UP_FRAMES:]), answer.coarse[0], answered)


if __name__ == "__main__":
    main(sys.argv[1])

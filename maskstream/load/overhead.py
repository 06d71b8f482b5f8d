"""What the server costs on top of the tracker it runs: both in turns on one machine, compared round by round.

A busy machine slows whole seconds down, so a round holds all three parts, each followed at once by the next: the bare
tracker, a lossless stream that always has a frame waiting (frames/s), and one that sends each frame when the last is
answered (latency). The server's share includes what a tracker has not: JPEG, the wire, the client on the same cores.
"""

import contextlib
import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, Protocol

import numpy as np

from maskstream.commands import own_program
from maskstream.errors import MaskstreamError
from maskstream.load.encoded_clip import EncodedClip
from maskstream.load.endpoint import Endpoint
from maskstream.load.frame_record import ANSWERED, FrameRecord
from maskstream.load.plan import LOSSLESS, ClosedLoop
from maskstream.load.stream_load import StreamLoad, StreamWishes
from maskstream.load.tracker_rounds import WARM_UP_FRAMES, RoundsRequest

_PIPELINED = 4  # frames in flight for frames/s
_FEWEST_FRAMES = 20  # of a part
_BETTER, _RUN_FRAMES = 0.25, 8


class OverheadError(MaskstreamError):
    """The comparison would not compare like with like."""

    reason = "OVERHEAD_FAILED"


Seconds = dict[str, Sequence[float]]  # of each frame, by what is measured


class Rounds(Protocol):
    """Seconds of so many steps of the bare tracker."""

    def __call__(self, frames: int) -> Sequence[float]: ...


@contextlib.contextmanager
def bare_tracker(request: RoundsRequest, served: tuple[str, str]) -> Iterator[Rounds]:
    """A process of its own for as long as the `with` lasts. `served` is the server's engine and precision.

    Raises OverheadError when the tracker cannot run, or runs on something else.
    """
    command = own_program.command("maskstream.load.tracker_rounds", json.dumps(asdict(request)))
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, env=own_program.environment(), stdin=pipe, stdout=pipe, text=True)
    assert process.stdin is not None, "a pipe was asked for"
    assert process.stdout is not None, "a pipe was asked for"
    try:
        facts = _answer(process.stdout.readline())
        if (facts["engine"], facts["precision"]) != served:
            raise OverheadError(
                f"the tracker runs {facts['engine']} {facts['precision']}, the server {' '.join(served)}; name --engine"
            )
        yield _asking(process.stdin, process.stdout)
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


def compare(endpoint: Endpoint, clip: EncodedClip, rounds: Rounds, count: int, part_seconds: float) -> dict[str, Any]:
    """`count` rounds of three parts of about `part_seconds` each, compared within a round; medians over the rounds."""
    speed = 1 / float(np.median(rounds(_FEWEST_FRAMES)))
    frames = max(_FEWEST_FRAMES, round(part_seconds * speed))
    parts: dict[str, Callable[[], Seconds]] = {
        "tracker": lambda: {"tracker": rounds(frames)},
        "served": lambda: {"served": _intervals(_served(endpoint, clip, frames, _PIPELINED))},
        "one_by_one": lambda: _latencies(_served(endpoint, clip, frames, 1)),
    }
    done: list[Seconds] = []
    for number in range(count):
        order = list(parts)[:: -1 if number % 2 else 1]  # to and fro, so that a drift favours nobody
        done.append({name: seconds for part in order for name, seconds in parts[part]().items()})
    rounds_done = [_round(**seconds) for seconds in done]
    return {"frames_a_part": frames, "rounds": rounds_done, "undisturbed": _undisturbed(done)} | _summary(rounds_done)


def _undisturbed(rounds: Sequence[Seconds]) -> dict[str, float]:
    """The better quarter of all rounds: what is left of the difference when others want the machine the least.

    Frames/s are of runs of a few frames, since single intervals of a stream with frames in flight are uneven.
    """
    tracker, served = (
        float(np.quantile([mean for each in rounds for mean in _run_means(each[part])], _BETTER))
        for part in ("tracker", "served")
    )
    step, latency = (
        float(np.quantile([seconds for each in rounds for seconds in each[part]], _BETTER))
        for part in ("tracker", "one_by_one")
    )
    return {"fps_ratio": round(tracker / served, 4), "added_ms": round(1e3 * (latency - step), 3)}


def _run_means(seconds: Sequence[float]) -> list[float]:
    whole = len(seconds) // _RUN_FRAMES * _RUN_FRAMES
    return [float(mean) for mean in np.reshape(seconds[:whole], (-1, _RUN_FRAMES)).mean(axis=1)]


def _round(
    tracker: Sequence[float], served: Sequence[float], one_by_one: Sequence[float], around: Sequence[float]
) -> dict[str, float]:
    step_ms, latency_ms = (1e3 * float(np.median(part)) for part in (tracker, one_by_one))
    tracker_fps, served_fps = (1 / float(np.mean(part)) for part in (tracker, served))
    return {
        "tracker_fps": round(tracker_fps, 3),
        "served_fps": round(served_fps, 3),
        "fps_ratio": round(served_fps / tracker_fps, 4),
        "tracker_p50_ms": round(step_ms, 3),
        "latency_p50_ms": round(latency_ms, 3),
        "added_p50_ms": round(latency_ms - step_ms, 3),
        "around_p50_ms": round(1e3 * float(np.median(around)), 3),
    }


def _summary(rounds: Sequence[dict[str, float]]) -> dict[str, float]:
    """Median over the rounds, and how far they lie apart."""
    figures: dict[str, float] = {}
    for name in rounds[0]:
        values = [each[name] for each in rounds]
        figures[name] = round(float(np.median(values)), 4)
        if name in ("fps_ratio", "added_p50_ms", "around_p50_ms"):
            figures |= {f"{name}_least": min(values), f"{name}_most": max(values)}
    return figures


def _served(endpoint: Endpoint, clip: EncodedClip, frames: int, in_flight: int) -> list[FrameRecord]:
    """One lossless stream; its frames after the warm-up. Raises StreamError, OverheadError when one has no answer."""
    with contextlib.closing(endpoint.channel()) as channel:
        stream = StreamLoad(channel, StreamWishes(LOSSLESS, in_flight), clip)
        stream.open()
        record = stream.run(ClosedLoop(frames=WARM_UP_FRAMES + frames))
    answered = [frame for frame in record.frames if frame.outcome == ANSWERED]
    if len(answered) != WARM_UP_FRAMES + frames:
        raise OverheadError(f"{len(answered)} of {WARM_UP_FRAMES + frames} frames were answered: {record.error}")
    return answered[WARM_UP_FRAMES:]


def _latencies(frames: Sequence[FrameRecord]) -> Seconds:
    """Of each frame, and what of it was not spent in the tracker of the server: paired as closely as can be."""
    return {
        "one_by_one": [frame.latency for frame in frames],
        "around": [frame.latency - frame.step for frame in frames],
    }


def _intervals(frames: Sequence[FrameRecord]) -> list[float]:
    ended = [frame.ended for frame in frames if frame.ended is not None]
    return [float(interval) for interval in np.diff(ended)]


def _asking(questions: Any, answers: Any) -> Rounds:
    def ask(frames: int) -> Sequence[float]:
        questions.write(f"{frames}\n")
        questions.flush()
        seconds: Sequence[float] = _answer(answers.readline())
        return seconds

    return ask


def _answer(line: str) -> Any:
    if not line:
        raise OverheadError("the process of the bare tracker ended; what it said is above")
    return json.loads(line)

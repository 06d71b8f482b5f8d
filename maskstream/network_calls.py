"""Calls of the networks as values, so that several streams' calls can be run as one.

A tracker's step yields a call wherever it needs the networks and is sent the result: who runs the step decides whether
alone, or in lockstep with others. Calls are joined along the batch axis when all their shapes agree, and what comes
back is cut apart again; networks are functions of each sample alone, so the answer does not depend on the company.
"""

from collections.abc import Callable, Generator, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from maskstream.networks import F32, FrameFeatures, MemoryView, Networks, SoftMasks

T = TypeVar("T")
Bundle = TypeVar("Bundle", FrameFeatures, MemoryView, SoftMasks)


@dataclass(frozen=True, eq=False)
class EncodeFrame:
    """`Networks.encode_frame` of one frame uint8 [1, H, W, 3]."""

    frame: npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Segment:
    """`Networks.segment` of one frame."""

    features: FrameFeatures
    memory: MemoryView


@dataclass(frozen=True, eq=False)
class EncodeMask:
    """`Networks.encode_mask` of one frame; `soft` is float32 [1, O, H/4, W/4]."""

    features: FrameFeatures
    soft: F32


Call = EncodeFrame | Segment | EncodeMask
Step = Generator[Call, Any, T]


class Finished(NamedTuple):
    """What came of one step: its result, or the exception that ended it."""

    result: Any
    error: Exception | None


def run_alone(step: Step[T], networks: Networks) -> T:
    """Run one step to its end. What it raises, or the networks do, is raised here."""
    try:
        call = next(step)
        while True:
            call = step.send(run_together([call], networks)[0])
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


def run_in_lockstep(steps: Sequence[Step[Any]], networks: Networks) -> list[Finished]:
    """Run steps side by side; calls of one shape that meet are one run of the networks.

    When a shared run fails each of its calls is tried alone, so that one stream's trouble stays its own.
    """
    finished: dict[int, Finished] = {}
    waiting: dict[int, Call] = {}

    def advance(place: int, go_on: Callable[[], Call]) -> None:
        try:
            waiting[place] = go_on()
        except StopIteration as stop:
            finished[place] = Finished(stop.value, None)
        except Exception as error:  # noqa: BLE001 - it is the caller's, with the place it belongs to
            finished[place] = Finished(None, error)

    for place, step in enumerate(steps):
        advance(place, step.__next__)
    while waiting:
        places = _like_the_first(waiting)
        calls = [waiting.pop(place) for place in places]
        for place, result in zip(places, _results(calls, networks), strict=True):
            step = steps[place]
            if isinstance(result, Exception):
                advance(place, lambda step=step, error=result: step.throw(error))  # type: ignore[misc]
            else:
                advance(place, lambda step=step, result=result: step.send(result))  # type: ignore[misc]
    return [finished[place] for place in range(len(steps))]


def run_together(calls: Sequence[Call], networks: Networks) -> list[Any]:
    """The results of calls of one kind and shape, from one run."""
    first = calls[0]
    if isinstance(first, EncodeFrame):
        features = networks.encode_frame(_join([call.frame for call in calls]))  # type: ignore[union-attr]
        return _split(features, len(calls))
    joined = _join_each([call.features for call in calls])  # type: ignore[union-attr]
    if isinstance(first, Segment):
        memory = _join_each([call.memory for call in calls])  # type: ignore[union-attr]
        return _split(networks.segment(joined, memory), len(calls))
    value = networks.encode_mask(joined, _join([call.soft for call in calls]))  # type: ignore[union-attr]
    return [value[place : place + 1] for place in range(len(calls))]


def _results(calls: Sequence[Call], networks: Networks) -> list[Any]:
    """Of each call its result, or the exception it raises when it is run by itself."""
    try:
        return run_together(calls, networks)
    except Exception as error:  # noqa: BLE001 - every call gets its own answer
        if len(calls) == 1:
            return [error]
    return [result for call in calls for result in _results([call], networks)]


def _like_the_first(waiting: dict[int, Call]) -> list[int]:
    """The places whose calls can share a run with the first that waits.

    The stage that is least far goes first, so that steps which parted, by shape, meet again.
    """
    order = (EncodeFrame, Segment, EncodeMask)
    first = min(waiting.values(), key=lambda call: order.index(type(call)))
    shape = _shape(first)
    return [place for place, call in waiting.items() if _shape(call) == shape]


def _shape(call: Call) -> Hashable:
    match call:
        case EncodeFrame(frame=frame):
            return EncodeFrame, frame.shape
        case Segment(features=features, memory=memory):
            return Segment, features.key.shape, memory.value.shape
        case EncodeMask(features=features, soft=soft):
            return EncodeMask, features.key.shape, soft.shape


def _join(arrays: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Along the batch axis; one array is not copied."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _join_each(bundles: Sequence[Bundle]) -> Bundle:
    return bundles[0] if len(bundles) == 1 else type(bundles[0])(*map(_join, zip(*bundles, strict=True)))


def _split(bundle: Bundle, count: int) -> list[Bundle]:
    if count == 1:
        return [bundle]
    return [type(bundle)(*(array[place : place + 1] for array in bundle)) for place in range(count)]

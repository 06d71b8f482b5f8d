"""How well networks agree with themselves and with the motion of the pixels: measures that need no true masks.

Cycle consistency: a mask followed to the last frame and from there back again should come home. Temporal stability:
each answer should be the answer before it, carried on by dense optical flow.

Neither can stand alone. A tracker that never moves its mask has a perfect cycle, and one that sticks to whatever the
flow sticks to is stable on the wrong thing. Read both, for two sets of weights on the same masks; they say which of the
two holds better, not how well either meets the truth.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from maskstream.masks import MAX_OBJECT_ID, IdMap, object_ids
from maskstream.networks import Networks
from maskstream.scores import jaccard
from maskstream.tracker import Frame, Prompt, Tracker, TrackerSettings

Flow = npt.NDArray[np.float32]  # [H, W, 2], pixels, (x, y)

# T frames, H and W their height and width


@dataclass(frozen=True)
class Consistency:
    """Both measures by object, 0..1, and the answers they were taken from."""

    cycle: dict[int, float]
    stability: dict[int, float]
    answers: tuple[IdMap, ...]  # [H, W] of every frame, forwards; the first is the start mask


def consistency(networks: Networks, frames: Sequence[Frame], start: IdMap) -> Consistency:
    """Follow the objects of `start`, masks of the first frame, through `frames` (uint8 [T, H, W, 3]) and back.

    Raises ValueError when there are fewer than two frames or no object, InvalidPrompt for masks of another size.
    """
    if len(frames) < 2 or not object_ids(start):
        raise ValueError(f"{len(frames)} frames, objects {object_ids(start)}; expected two frames and one object")
    answers = followed(networks, frames, start)
    return Consistency(
        cycle_consistency(networks, frames, answers), temporal_stability(frames, answers), tuple(answers)
    )


def followed(networks: Networks, frames: Sequence[Frame], start: IdMap) -> list[IdMap]:
    """The tracker's answers uint8 [H, W] to all frames when it is given `start` on the first one."""
    tracker = Tracker(networks, TrackerSettings(max_objects=MAX_OBJECT_ID))
    prompts = [Prompt(i, start == i) for i in object_ids(start)]
    try:
        return [tracker.step(np.asarray(frame), prompts if t == 0 else ()).id_map for t, frame in enumerate(frames)]
    finally:
        tracker.close()


def cycle_consistency(networks: Networks, frames: Sequence[Frame], answers: Sequence[IdMap]) -> dict[int, float]:
    """IoU, 0..1, of each object of the first answer with what a second tracker brings back to the first frame.

    The second tracker is given the last answer alone and runs backwards. What was lost on either way counts 0.
    """
    start, last = answers[0], answers[-1]
    home = followed(networks, frames[::-1], last)[-1] if object_ids(last) else np.zeros_like(start)
    return {i: jaccard(home == i, start == i) for i in object_ids(start)}


def temporal_stability(frames: Sequence[Frame], answers: Sequence[IdMap]) -> dict[int, float]:
    """Mean IoU, 0..1, of each answer with the one before it carried on by the flow, for each object of the first.

    A frame on which the object is lost counts 0.
    """
    ids = object_ids(answers[0])
    totals = dict.fromkeys(ids, 0.0)
    for t in range(1, len(answers)):
        carried = carry(answers[t - 1], flow_between(np.asarray(frames[t]), np.asarray(frames[t - 1])))
        for i in ids:
            mask = answers[t] == i
            totals[i] += jaccard(mask, carried == i) if mask.any() else 0.0
    return {i: total / (len(answers) - 1) for i, total in totals.items()}


def flow_between(frame: Frame, other: Frame) -> Flow:
    """Where each pixel of `frame` lies in `other`, relative to its own place; both uint8 [H, W, 3]."""
    grey = [cv2.cvtColor(one, cv2.COLOR_RGB2GRAY) for one in (frame, other)]
    dense = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)  # type: ignore[attr-defined]
    return np.asarray(dense.calc(grey[0], grey[1], None), np.float32)


def carry(answer: IdMap, flow: Flow) -> IdMap:
    """The id map of another frame brought to the frame of the flow; what comes from outside is background."""
    x, y = np.meshgrid(*(np.arange(side, dtype=np.float32) for side in reversed(answer.shape)))
    carried = cv2.remap(answer, x + flow[..., 0], y + flow[..., 1], cv2.INTER_NEAREST, borderValue=0)
    return np.asarray(carried, np.uint8)


def mean_of(measure: Mapping[int, float]) -> float:
    """Mean over objects, 0..1. Raises ValueError when there are none."""
    if not measure:
        raise ValueError("no object was followed, so there is no mean")
    return sum(measure.values()) / len(measure)

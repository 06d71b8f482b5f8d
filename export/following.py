"""What networks make of a clip: the soft masks and id maps the real tracker answers, and how far two answers overlap.

Soft masks overlap by sum of minima / sum of maxima. They are seen even where an object is too faint for the id map, so
that two networks do not agree by both finding nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from maskstream import masks
from maskstream.networks import F32, FrameFeatures, MemoryView, Networks, SoftMasks
from maskstream.tracker import Prompt, Tracker, TrackerSettings

Frame = npt.NDArray[np.uint8]  # [H, W, 3] RGB


@dataclass(frozen=True)
class Answer:
    """Of one frame: soft masks [O, H/4, W/4], objects in the order of their prompts, and the id map [H, W]."""

    soft: F32
    id_map: masks.IdMap


class _Watched:
    """Networks that remember the soft masks they answered last."""

    def __init__(self, networks: Networks) -> None:
        self.spec, self.engine, self.precision = networks.spec, networks.engine, networks.precision
        self.encode_frame, self.encode_mask = networks.encode_frame, networks.encode_mask
        self._networks = networks
        self.decoded_OHW = np.zeros((0, 1, 1), np.float32)

    def segment(self, features: FrameFeatures, memory: MemoryView) -> SoftMasks:
        answer = self._networks.segment(features, memory)
        self.decoded_OHW = answer.decoded[0]
        return answer


def follow(
    networks: Networks, frames: Sequence[Frame], prompts: Sequence[Prompt], done: Callable[[], None] = lambda: None
) -> list[Answer]:
    """Answers to the frames after the first, on which all objects are prompted; `done` is called after each frame."""
    watched = _Watched(networks)
    tracker = Tracker(watched, TrackerSettings(max_objects=masks.MAX_OBJECT_ID))
    tracker.step(frames[0], prompts)
    done()
    answers = []
    for frame in frames[1:]:
        id_map = tracker.step(frame).id_map
        answers.append(Answer(watched.decoded_OHW, id_map))
        done()
    tracker.close()
    return answers


def overlaps(expected: Sequence[Answer], found: Sequence[Answer], object_ids: Sequence[int]) -> F32:
    """IoU [frames, objects] of two answers to the same clip: the lesser of soft masks and id maps."""
    rows = []
    for ours, theirs in zip(expected, found, strict=True):
        soft = [_iou(*pair) for pair in zip(ours.soft, theirs.soft, strict=True)]
        hard = [_iou(ours.id_map == i, theirs.id_map == i) for i in object_ids]
        rows.append(np.minimum(soft, hard))
    return np.asarray(rows, np.float32)


def _iou(ours: npt.NDArray[Any], theirs: npt.NDArray[Any]) -> float:
    """Intersection over union of masks, soft or bool; 1 when both are empty."""
    union = float(np.maximum(ours, theirs).sum())
    return float(np.minimum(ours, theirs).sum()) / union if union else 1.0

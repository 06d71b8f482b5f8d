"""The parity gate: what was exported computes what torch computes, or it is not written.

First each output of each graph, on random and on drawn frames, at several sizes, object counts and states of the bank:
maximal error, error relative to the largest value, and cosine. Then the masks themselves, along a moving clip: the
same `Tracker` runs over both networks and what they see must overlap.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from maskstream import masks
from maskstream.errors import MaskstreamError
from maskstream.memory_bank import LAST_TRUST
from maskstream.moving_shapes import render
from maskstream.networks import F32, FrameFeatures, MemoryView, Networks, NetworkSpec, SoftMasks
from maskstream.tracker import Prompt, Tracker

CLIP_FRAMES = 12
CLIP_OBJECTS = 2
_CLIP_SHORT_SIDE = 240  # pixels; enough for two objects to be followed, quick enough for a laptop


class ParityError(MaskstreamError):
    """The exported networks differ from torch; nothing was written."""

    reason = "PARITY_FAILED"


@dataclass(frozen=True)
class Tolerance:
    """What is let through: `relative_error` to the largest value of an output, and the least cosine and mask IoU."""

    relative_error: float
    cosine: float
    mask_iou: float


# fp32 differs by the order of sums alone. fp16 has 11 bits, and a few of them are lost on the way through 20 layers.
TOLERANCES = {"fp32": Tolerance(1e-4, 0.99999, 0.995), "fp16": Tolerance(3e-2, 0.999, 0.97)}


@dataclass(frozen=True)
class Case:
    """One call of all three graphs: `slots` gives, for each object, the bank slots that hold it."""

    name: str
    grid: tuple[int, int]  # tokens
    slots: tuple[tuple[int, ...], ...]
    batch: int = 1
    drawn: bool = False  # frames of the clip, else noise


@dataclass(frozen=True)
class OutputParity:
    """How far one output of one graph is from torch, in one case."""

    graph: str
    output: str
    case: str
    max_abs_error: float
    relative_error: float
    cosine: float

    def within(self, tolerance: Tolerance) -> bool:
        """False for anything not finite, too."""
        return self.relative_error <= tolerance.relative_error and self.cosine >= tolerance.cosine


@dataclass(frozen=True)
class ParityReport:
    """All figures of a passed gate."""

    outputs: tuple[OutputParity, ...]
    mask_iou_mean: float
    mask_iou_least: float

    def worst(self) -> list[OutputParity]:
        """The worst case of each output, in the order of the graphs."""
        found: dict[tuple[str, str], OutputParity] = {}
        for row in self.outputs:
            known = found.setdefault((row.graph, row.output), row)
            if row.relative_error > known.relative_error:
                found[row.graph, row.output] = row
        return list(found.values())

    def summary(self) -> dict[str, Any]:
        """For the manifest."""
        iou = {"mean": self.mask_iou_mean, "least": self.mask_iou_least, "frames": CLIP_FRAMES}
        return {"outputs": [asdict(row) for row in self.worst()], "mask_iou": iou}


def cases(spec: NetworkSpec) -> tuple[Case, ...]:
    """Small and odd grids, several objects, empty and partly valid banks, two streams, and the real working size."""
    full = tuple(range(spec.capacity))
    late = full[spec.capacity // 2 :]
    height, width = masks.working_size(spec.short_side, spec.short_side * 16 // 9, spec.short_side, spec.stride)
    return (
        Case("1 object, full bank", (6, 8), (full,)),
        Case("1 object, one slot", (5, 7), ((0,),), drawn=True),
        Case("3 objects, partly valid", (7, 9), (full[:2], late, (0,)), drawn=True),
        Case("2 streams, 4 objects", (4, 6), (full, late, (1,), (0, 2)), batch=2),
        Case("working size", (height // spec.stride, width // spec.stride), (full[:-1],), drawn=True),
    )


def verify(reference: Networks, exported: Networks, precision: str, done: Callable[[], None]) -> ParityReport:
    """Compare; `done` is called after each case. Raises ParityError naming graph, output, case and error."""
    tolerance = TOLERANCES[precision]
    rows: list[OutputParity] = []
    for case in cases(reference.spec):
        for row in compare(reference, exported, case):
            if not row.within(tolerance):
                raise ParityError(_message(row, tolerance))
            rows.append(row)
        done()
    overlaps = clip_overlaps(reference, exported)
    done()
    report = ParityReport(tuple(rows), float(overlaps.mean()), float(overlaps.min()))
    if not report.mask_iou_least >= tolerance.mask_iou:
        raise ParityError(
            f"masks along the clip: IoU with torch is {report.mask_iou_least:.4f} at frame "
            f"{1 + int(overlaps.min(axis=1).argmin())}, at least {tolerance.mask_iou} is needed; nothing was written"
        )
    return report


def compare(reference: Networks, exported: Networks, case: Case) -> Iterator[OutputParity]:
    """Each output of each graph; all are given what torch computed, so that no error hides behind another."""
    rng = np.random.default_rng(0)
    frames = _frames(case, reference.spec, rng)
    features = reference.encode_frame(frames[0])
    yield from _rows("encode_frame", case, features._asdict(), exported.encode_frame(frames[0])._asdict())
    soft = _soft_masks(rng, case, features)
    value = reference.encode_mask(features, soft)
    yield from _rows("encode_mask", case, {"value": value}, {"value": exported.encode_mask(features, soft)})
    memory = _memory(reference, case, frames[1:], rng)
    read, found = reference.segment(features, memory), exported.segment(features, memory)
    yield from _rows("segment", case, read._asdict(), found._asdict())


class _Watched:
    """Networks that remember the soft masks they answered last."""

    def __init__(self, networks: Networks) -> None:
        self.spec, self.engine, self.precision = networks.spec, networks.engine, networks.precision
        self.encode_frame, self.encode_mask = networks.encode_frame, networks.encode_mask
        self._networks = networks
        self.decoded_OHW = np.zeros((CLIP_OBJECTS, 1, 1), np.float32)

    def segment(self, features: FrameFeatures, memory: MemoryView) -> SoftMasks:
        answer = self._networks.segment(features, memory)
        self.decoded_OHW = answer.decoded[0]
        return answer


def clip_overlaps(reference: Networks, exported: Networks) -> F32:
    """IoU of the two networks' masks [frames after the prompted one, objects]: the least of soft masks and id maps.

    Soft masks overlap by sum of minima / sum of maxima. They are seen even where an object is too faint for the id map,
    so that two networks do not agree by both finding nothing.
    """
    short = min(_CLIP_SHORT_SIDE, reference.spec.short_side)
    clip = render(CLIP_FRAMES, (short, short * 16 // 9), num_objects=CLIP_OBJECTS)
    prompts = [Prompt(i, clip.id_maps[0] == i) for i in range(1, CLIP_OBJECTS + 1)]
    watched = (_Watched(reference), _Watched(exported))
    trackers = [Tracker(networks) for networks in watched]
    for tracker in trackers:
        tracker.step(clip.frames[0], prompts)
    overlaps = []
    for frame in clip.frames[1:]:
        id_maps = [tracker.step(frame).id_map for tracker in trackers]
        soft = [_iou(*pair) for pair in zip(*(networks.decoded_OHW for networks in watched), strict=True)]
        hard = [_iou(*(id_map == prompt.object_id for id_map in id_maps)) for prompt in prompts]
        overlaps.append(np.minimum(soft, hard))
    return np.asarray(overlaps, np.float32)


def _rows(graph: str, case: Case, expected: dict[str, F32], found: dict[str, F32]) -> Iterator[OutputParity]:
    for output, reference in expected.items():
        yield output_parity(graph, output, case.name, reference, found[output])


def output_parity(graph: str, output: str, case: str, expected: F32, found: F32) -> OutputParity:
    """Figures of one output; infinite errors and no cosine when shapes differ or anything is not finite."""
    if expected.shape != found.shape or not (np.isfinite(expected).all() and np.isfinite(found).all()):
        return OutputParity(graph, output, case, float("inf"), float("inf"), float("nan"))
    wanted, got = expected.astype(np.float64).ravel(), found.astype(np.float64).ravel()
    error = float(np.abs(wanted - got).max())
    norms = float(np.linalg.norm(wanted) * np.linalg.norm(got))
    cosine = float(wanted @ got) / norms if norms else float(np.array_equal(wanted, got))
    return OutputParity(graph, output, case, error, error / max(float(np.abs(wanted).max()), 1e-6), cosine)


def _frames(case: Case, spec: NetworkSpec, rng: np.random.Generator) -> list[npt.NDArray[np.uint8]]:
    """The frame to segment and one frame for each bank slot, each uint8 [B, H, W, 3]."""
    size = (case.grid[0] * spec.stride, case.grid[1] * spec.stride)
    count = (1 + spec.capacity) * case.batch
    if case.drawn:
        frames = np.stack(render(count, size, num_objects=1).frames)
    else:
        frames = rng.integers(0, 256, (count, *size, 3), dtype=np.uint8)
    return list(frames.reshape(1 + spec.capacity, case.batch, *size, 3))


def _soft_masks(rng: np.random.Generator, case: Case, features: FrameFeatures) -> F32:
    """Probabilities [B, O, H/4, W/4] that leave some for the background."""
    size = (case.batch, len(case.slots) + 1, *features.skip4.shape[2:])
    logits = 4 * rng.standard_normal(size)
    weights = np.exp(logits)
    return (weights / weights.sum(axis=1, keepdims=True))[:, 1:].astype(np.float32)


def _memory(
    reference: Networks, case: Case, frames: list[npt.NDArray[np.uint8]], rng: np.random.Generator
) -> MemoryView:
    """A bank as the tracker would have filled it from `frames`: zero where a slot does not hold an object."""
    encoded = [reference.encode_frame(frame) for frame in frames]
    values = [reference.encode_mask(features, _soft_masks(rng, case, features)) for features in encoded]
    tokens = case.grid[0] * case.grid[1]
    valid = np.array([[slot in held for slot in range(len(frames))] for held in case.slots], np.float32)
    valid[:, -1] *= LAST_TRUST
    valid_BOT = np.repeat(valid[None], case.batch, axis=0)
    held_BT = valid_BOT.max(axis=1) > 0
    key = np.stack([f.key.reshape(*f.key.shape[:2], tokens) for f in encoded], axis=2) * held_BT[:, None, :, None]
    value = np.stack(values, axis=3) * (valid_BOT > 0)[:, :, None, :, None]
    age = np.repeat(np.arange(len(frames), 0, -1, dtype=np.float32)[None], case.batch, axis=0)
    return MemoryView(key, value, valid_BOT, age)


def _iou(ours: npt.NDArray[Any], theirs: npt.NDArray[Any]) -> float:
    """Intersection over union of masks, soft or bool; 1 when both are empty."""
    union = float(np.maximum(ours, theirs).sum())
    return float(np.minimum(ours, theirs).sum()) / union if union else 1.0


def _message(row: OutputParity, tolerance: Tolerance) -> str:
    if not np.isfinite(row.relative_error):
        what = "not finite, or of another shape; check the checkpoint's weights"
    else:
        what = (
            f"relative error {row.relative_error:.2e} (at most {tolerance.relative_error:.0e}), "
            f"cosine {row.cosine:.6f} (at least {tolerance.cosine})"
        )
    return f"graph {row.graph}, output {row.output}, case '{row.case}': {what}; nothing was written"

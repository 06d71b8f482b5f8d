"""Tracker: the one loop. Frame in, masks out; the same for every engine, for evaluation, export checks and serving.

A step encodes the frame, reads the bank, lets prompts overrule what was read, and stores what is trustworthy: nothing
is written for an object that is absent, unsure or not finite, so one bad frame cannot poison the next. All state of a
stream lives here; the networks are shared and stateless.
"""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from maskstream import masks
from maskstream.auto_prompts import find_more
from maskstream.block_pool import Heap, Pool
from maskstream.errors import InvalidFrame, InvalidPrompt, MemoryExhausted, NoObjects, SizeChanged
from maskstream.memory_bank import MemoryBank
from maskstream.network_calls import EncodeFrame, EncodeMask, Segment, Step, run_alone
from maskstream.networks import F32, FrameFeatures, Networks, SoftMasks
from maskstream.prompt_kinds import AnyPrompt, AutoPrompt, Prompt, check_prompt
from maskstream.prompts import as_mask
from maskstream.tracker_state import TrackerState

__all__ = ["Frame", "ObjectState", "Prompt", "Segmentation", "Tracker", "TrackerSettings"]

Frame = npt.NDArray[np.uint8]  # [H, W, 3] RGB


@dataclass(frozen=True)
class TrackerSettings:
    """Knobs of one stream. Scores are probabilities in 0..1, areas are fractions of the frame."""

    max_objects: int = 32
    short_side: int = 0  # pixels the networks work at; 0 is what they were made for, less is faster and coarser
    permanent_slots: int = 2
    write_score: float = 0.6  # an object surer than this is stored; the doubtful ones would teach the bank their doubt
    lost_score: float = 0.5  # below this, or with no pixel, an object is reported as lost
    smallest_write_area: float = 1e-5  # about four pixels at 480p: less is noise


@dataclass(frozen=True)
class ObjectState:
    """What one frame says of one object."""

    object_id: int
    score: float  # mean probability inside the mask, 0 when there is none
    visible: float  # probability that the object is in the picture at all: its best pixel
    area: int  # pixels of the frame
    box: masks.Box | None
    lost: bool


@dataclass(frozen=True)
class Segmentation:
    """The answer to one frame, at the frame's own size."""

    frame_index: int
    id_map: masks.IdMap
    objects: tuple[ObjectState, ...]
    memory_slots: int
    stage_seconds: dict[str, float] = field(repr=False)
    coarse: F32 = field(repr=False)  # [O, H/4, W/4] what affinity alone propagates; a prompted object is its prompt

    def coarse_id_map(self) -> masks.IdMap:
        """What affinity alone would have answered; made when asked for, since serving never does."""
        size = (self.id_map.shape[0], self.id_map.shape[1])
        return masks.to_id_map(masks.resize_soft(self.coarse, size), [state.object_id for state in self.objects])


class Tracker:
    """State of one stream. Not thread-safe: one thread steps it at a time. Call `close` to free its memory."""

    STAGES = ("resize", "encode_frame", "segment", "encode_mask", "finish")

    def __init__(self, networks: Networks, settings: TrackerSettings | None = None, pool: Pool | None = None) -> None:
        self._networks = networks
        self._settings = settings or TrackerSettings()
        self._pool = pool or Heap()
        self._bank: MemoryBank | None = None
        self._object_ids: list[int] = []  # position = object slot = bank row
        self._frame_size: tuple[int, int] | None = None
        self._soft: F32 | None = None  # [O, H/4, W/4] of the last good frame; what a non-finite frame falls back to
        self._frame_index = -1
        self.writes_skipped: Counter[str] = Counter()

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Ids followed at present, in the order they were added."""
        return tuple(self._object_ids)

    @property
    def frame_size(self) -> tuple[int, int] | None:
        """Height and width of the stream, None before its first frame."""
        return self._frame_size

    @property
    def bank_bytes(self) -> int:
        """Bytes the stream's bank holds; constant while its objects stay the same."""
        return self._bank.num_bytes if self._bank else 0

    @property
    def evictions(self) -> Counter[str]:
        """Slots given up so far, by the role they had."""
        return self._bank.policy.evictions if self._bank else Counter()

    def step(self, frame: Frame, prompts: Sequence[AnyPrompt] = ()) -> Segmentation:
        """Masks of all objects in `frame`; `prompts` add objects or correct known ones on exactly this frame.

        An AutoPrompt adds what it finds beside them, as far as there is room for more objects.

        Raises InvalidFrame, SizeChanged, InvalidPrompt, NoObjects or MemoryExhausted; the stream is then as before.
        """
        return run_alone(self.stepping(frame, prompts), self._networks)

    def stepping(self, frame: Frame, prompts: Sequence[AnyPrompt] = ()) -> Step[Segmentation]:
        """`step` for who runs the networks for several trackers at once: see maskstream.network_calls."""
        self._check(frame, prompts)
        clock = _StageClock()
        resized = masks.resize_frame(frame, self._working_size((frame.shape[0], frame.shape[1])))
        clock.stop("resize")
        features: FrameFeatures = yield EncodeFrame(resized[None])
        clock.stop("encode_frame")
        shown = [as_mask(prompt, frame, features.key[0]) for prompt in prompts if not isinstance(prompt, AutoPrompt)]
        bank = self._bank or self._new_bank(features.key.shape[2] * features.key.shape[3])
        frame_index = self._frame_index + 1
        read = yield from self._read(features, bank, frame_index)
        clock.stop("segment")
        for auto in (prompt for prompt in prompts if isinstance(prompt, AutoPrompt)):
            shown += self._found(auto, frame, features, read, shown)
        if not (self._object_ids or shown):
            if bank is not self._bank:
                bank.close()
            raise NoObjects(
                "nothing stands out on this frame, and no object is followed yet; give a mask, box or points"
            )
        if shown:
            read = self._prompt(shown, read, bank)
        self._bank, self._frame_index, self._frame_size = bank, frame_index, (frame.shape[0], frame.shape[1])
        if np.isfinite(read.decoded).all() and np.isfinite(features.key).all():
            yield from self._store(features, read, {prompt.object_id for prompt in shown})
        else:
            read = self._coast(read)
        clock.stop("encode_mask")
        return self._answer(frame, read, shown, clock)

    def remove(self, object_ids: Sequence[int]) -> None:
        """Stop following these objects and free their memory. Raises InvalidPrompt for an id that is not followed."""
        for object_id in object_ids:
            if object_id not in self._object_ids:
                raise InvalidPrompt(f"object {object_id} is not followed; known ids: {self._object_ids or 'none'}")
        for object_id in dict.fromkeys(object_ids):
            row = self._object_ids.index(object_id)
            del self._object_ids[row]
            if self._bank:
                self._bank.remove_row(row)
            if self._soft is not None:
                self._soft = np.delete(self._soft, row, axis=0)

    def reset(self) -> None:
        """Forget all objects, all memory and the frame size; the stream may go on with any frame."""
        self.close()
        self._object_ids, self._soft, self._frame_size = [], None, None

    def state(self) -> TrackerState | None:
        """A copy of all that the next step needs; None before the first frame."""
        if self._bank is None or self._soft is None or self._frame_size is None:
            return None
        return TrackerState(self._frame_size, self._frame_index, self.object_ids, self._soft.copy(), self._bank.state())

    def restore(self, state: TrackerState) -> None:
        """Go on after the last frame of the tracker that `state` was taken of; for one that has seen no frame.

        Raises ValueError for a state of other networks, MemoryExhausted when the pool has no room for it.
        """
        assert self._bank is None, "a state is restored before the first frame"
        spec = self._networks.spec
        height, width = self._working_size(state.frame_size)
        soft_size = (height // spec.mask_stride, width // spec.mask_stride)
        objects = len(state.object_ids)
        if objects > self._settings.max_objects:
            raise ValueError(f"{objects} objects; this stream allows {self._settings.max_objects}")
        if state.soft.shape != (objects, *soft_size) or len(state.bank.value) != objects:
            raise ValueError(f"masks {state.soft.shape} do not fit {objects} objects at {soft_size}")
        bank = self._new_bank((height // spec.stride) * (width // spec.stride))
        try:
            bank.restore(state.bank)
        except Exception:
            bank.close()
            raise
        self._bank, self._soft, self._object_ids = bank, state.soft.copy(), list(state.object_ids)
        self._frame_size, self._frame_index = state.frame_size, state.frame_index

    def close(self) -> None:
        """Return the bank's memory. The tracker can be used again, as after `reset`."""
        if self._bank:
            self._bank.close()
        self._bank = None

    def _check(self, frame: Frame, prompts: Sequence[AnyPrompt]) -> None:
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or 0 in frame.shape:
            raise InvalidFrame(f"a frame is uint8 [H, W, 3] RGB; got {frame.dtype} {list(frame.shape)}")
        size = frame.shape[:2]
        if self._frame_size is not None and size != self._frame_size:
            was = f"{self._frame_size[1]}x{self._frame_size[0]}"
            raise SizeChanged(f"this stream is {was}, the frame is {size[1]}x{size[0]}; reset or open a new stream")
        for prompt in prompts:
            check_prompt(prompt, (size[0], size[1]))
        known = {*self._object_ids, *(prompt.object_id for prompt in prompts if not isinstance(prompt, AutoPrompt))}
        if not (known or prompts):
            raise NoObjects("no object is followed yet; give a mask, a box or points with this frame or before it")
        if len(known) > self._settings.max_objects:
            raise InvalidPrompt(f"{len(known)} objects asked for; this stream allows {self._settings.max_objects}")

    def _found(
        self, auto: AutoPrompt, frame: Frame, features: FrameFeatures, read: SoftMasks, shown: Sequence[Prompt]
    ) -> list[Prompt]:
        """What stands out beside the objects followed and shown, as far as there is room for more."""
        ids = {*self._object_ids, *(prompt.object_id for prompt in shown)}
        room = min(auto.max_objects, self._settings.max_objects - len(ids))
        followed = read.decoded[0].max(axis=0, initial=0.0) > 0.5
        taken = masks.resize_soft(followed.astype(np.float32)[None], (frame.shape[0], frame.shape[1]))[0] > 0.5
        for prompt in shown:
            taken |= prompt.mask != 0
        return find_more(features.key, (frame.shape[0], frame.shape[1]), room, taken, ids)

    def _working_size(self, frame_size: tuple[int, int]) -> tuple[int, int]:
        spec = self._networks.spec
        short_side = self._settings.short_side or spec.short_side
        return masks.working_size(*frame_size, short_side, spec.stride, 4 * short_side)

    def _new_bank(self, tokens: int) -> MemoryBank:
        return MemoryBank(self._networks.spec, tokens, self._pool, self._settings.permanent_slots)

    @staticmethod
    def _read(features: FrameFeatures, bank: MemoryBank, frame_index: int) -> Step[SoftMasks]:
        if bank.rows:
            read: SoftMasks = yield Segment(features, bank.view(frame_index))
            return read
        nothing = np.zeros((1, 0, *features.skip4.shape[2:]), np.float32)
        return SoftMasks(nothing, nothing)

    def _prompt(self, prompts: Sequence[Prompt], read: SoftMasks, bank: MemoryBank) -> SoftMasks:
        """The read masks with each prompted object set to its prompt and taken out of the others."""
        new_ids = [i for i in dict.fromkeys(p.object_id for p in prompts) if i not in self._object_ids]
        self._add_rows(new_ids, bank)
        size = read.decoded.shape[2:]
        decoded, coarse = (
            np.concatenate((soft[0], np.zeros((len(new_ids), *size), np.float32)))
            for soft in (read.decoded, read.coarse)
        )
        for prompt in prompts:
            row = self._object_ids.index(prompt.object_id)
            mask = masks.resize_soft((prompt.mask != 0).astype(np.float32)[None], (size[0], size[1]))[0]
            for soft_OHW in (decoded, coarse):
                np.multiply(soft_OHW, 1.0 - mask, out=soft_OHW)
                soft_OHW[row] = mask
        return SoftMasks(decoded[None], coarse[None])

    def _add_rows(self, new_ids: Sequence[int], bank: MemoryBank) -> None:
        """Bank rows for new objects: all of them, or none and MemoryExhausted."""
        rows = bank.rows
        try:
            for _ in new_ids:
                bank.add_row()
        except MemoryExhausted:
            while bank.rows > rows:
                bank.remove_row(bank.rows - 1)
            if bank is not self._bank:
                bank.close()
            raise
        self._object_ids.extend(new_ids)

    def _coast(self, read: SoftMasks) -> SoftMasks:
        """The last good masks in place of non-finite ones."""
        self.writes_skipped["not_finite"] += len(self._object_ids)
        soft = np.zeros(read.decoded.shape[1:], np.float32)
        if self._soft is not None:
            soft[: len(self._soft)] = self._soft
        return SoftMasks(soft[None], soft[None])

    def _store(self, features: FrameFeatures, read: SoftMasks, prompted_ids: set[int]) -> Step[None]:
        """Write this frame for the objects it shows surely; a prompted object always is.

        The mask that is remembered is the propagated one: a decoder that read its own answers would feed on its errors.
        """
        assert self._bank is not None
        soft_OHW = self._soft = read.decoded[0]
        prompted = np.array([object_id in prompted_ids for object_id in self._object_ids])
        inside = soft_OHW > 0.5
        area = inside.mean(axis=(1, 2))
        score = np.array([_mean_inside(soft, mask) for soft, mask in zip(soft_OHW, inside, strict=True)])
        absent = area < self._settings.smallest_write_area
        unsure = ~absent & (score < self._settings.write_score)
        stored = prompted | ~(absent | unsure)
        self.writes_skipped.update(absent=int((absent & ~prompted).sum()), unsure=int((unsure & ~prompted).sum()))
        if stored.any():
            value_BOVN: F32 = yield EncodeMask(features, read.coarse)
            key_KN = features.key[0].reshape(features.key.shape[1], -1)
            if np.isfinite(value_BOVN).all():
                self._bank.write(self._frame_index, key_KN, value_BOVN[0], stored, bool(prompted.any()))
            else:
                self.writes_skipped["not_finite"] += int(stored.sum())

    def _answer(self, frame: Frame, read: SoftMasks, prompts: Sequence[Prompt], clock: "_StageClock") -> Segmentation:
        soft_OHW = read.decoded[0]
        id_map = masks.to_id_map(masks.resize_soft(soft_OHW, (frame.shape[0], frame.shape[1])), self._object_ids)
        for prompt in prompts:  # the user's own pixels are the answer, not their echo through a coarser grid
            np.copyto(id_map, np.uint8(0), where=id_map == prompt.object_id)
            np.copyto(id_map, np.uint8(prompt.object_id), where=prompt.mask != 0)
        objects = tuple(self._state(i, soft, id_map) for i, soft in zip(self._object_ids, soft_OHW, strict=True))
        clock.stop("finish")
        assert self._bank is not None
        slots = self._bank.slots_used
        return Segmentation(self._frame_index, id_map, objects, slots, clock.seconds, read.coarse[0])

    def _state(self, object_id: int, soft_HW: F32, id_map: masks.IdMap) -> ObjectState:
        """Place and size from the answer's pixels, probabilities from the soft mask they were made from."""
        inside = np.equal(id_map, object_id).view(np.uint8)
        box = masks.bounding_box(inside)
        score = _mean_inside(soft_HW, soft_HW > 0.5)
        lost = box is None or score < self._settings.lost_score
        return ObjectState(object_id, score, float(soft_HW.max()), int(np.count_nonzero(inside)), box, lost)


def _mean_inside(soft_HW: F32, inside: npt.NDArray[np.bool_]) -> float:
    """Mean probability over the pixels inside, 0 when there are none."""
    return float(soft_HW[inside].mean()) if inside.any() else 0.0


class _StageClock:
    """Wall-clock seconds of consecutive stages."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = time.perf_counter()

    def stop(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = now - self._since
        self._since = now

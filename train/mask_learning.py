"""Mask embedding learning: mask encoder, read-out and mask decoder learn to carry masks through a clip.

A sample is a few frames with label maps, either a clustered window or a clip with pasted objects. The first frame's
masks are given, the others are segmented one after the other from the memory of all before, as in serving. What goes
into memory is sometimes the truth, sometimes the model's own prediction, and sometimes deformed, so that the decoder
learns to repair what it reads instead of echoing it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, cross_entropy, one_hot

from maskstream.memory_bank import LAST_TRUST
from maskstream.model.config import MASK_STRIDE
from maskstream.model.propagation import propagate
from maskstream.model.segmenter import Features, Segmenter, soft_aggregate
from train.augment import PLAIN, look, sample_view
from train.clips import Clip
from train.clustering import DOUBT, IGNORE, PseudoWindow
from train.pasting import Cutout, cut_blob, cut_object, paste, paste_carried, paste_crowd

# B samples, F frames, O objects, T slots


@dataclass(frozen=True)
class MaskSettings:
    """What a batch of samples holds. Shares are probabilities, `side` is in pixels."""

    clips: int = 4
    side: int = 224
    context_frames: int = 5  # memory frames when the last frame is segmented: as many as a served bank holds
    scored_frames: int = 3  # the last ones of a sample are learnt from; those before only fill the memory
    objects: int = 5
    paste_share: float = 0.6
    blob_share: float = 0.5  # of the pasted things
    distractor_share: float = 0.3
    crowd_share: float = 0.3  # of the pasted samples that hold one thing several times, side by side
    carried_share: float = 0.3  # of the pasted samples that hold a thing with smaller ones on it
    frame_gap: int = 4
    predicted_share: float = 0.8  # of the memory frames that hold the model's own mask, the others the truth
    deform_share: float = 0.3
    refine_passes: int = 1  # learnt; how many are served is the model's own setting
    dice_weight: float = 0.5
    encoder_rate: float = 0.0  # learning rate of the frame encoder's backbone and key, relative; 0 leaves it as it is


@dataclass(frozen=True)
class MaskBatch:
    """uint8 frames [B, F, S, S, 3], label maps [B, F, S, S] with 0..O, DOUBT and IGNORE, frame indices [B, F].

    What chance decides in the losses is part of the batch: `predicted` [B, F] whether a memory frame holds the model's
    own mask, `deformed` [B, F] how it is spoilt (0 not, 1 grown, 2 shrunk, 3 shifted), `shifts` [B, F, 2] by how
    many cells.
    """

    frames: Tensor
    labels: Tensor
    indices: Tensor
    predicted: Tensor
    deformed: Tensor
    shifts: Tensor

    def to(self, device: torch.device | str) -> "MaskBatch":
        """The batch on another device."""
        return MaskBatch(*(getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)))


def sample_mask_batch(
    rngs: Sequence[np.random.Generator],
    clips: Sequence[Clip],
    windows: Sequence[PseudoWindow],
    settings: MaskSettings,
) -> MaskBatch:
    """Clustered windows and clips with pasted objects, mixed; without any window all samples are pasted.

    Each sample comes from one of `rngs` alone, so that processes can share a batch.
    """
    items = []
    for rng in rngs:
        pasted = not windows or rng.random() < settings.paste_share
        make = _pasted_sample if pasted else _clustered_sample
        items.append((*make(rng, clips, windows, settings), *_chances(rng, settings)))
    return MaskBatch(*(torch.from_numpy(np.stack(parts)) for parts in zip(*items, strict=True)))


def _chances(
    rng: np.random.Generator, settings: MaskSettings
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """`predicted`, `deformed` and `shifts` of one sample."""
    frames = settings.context_frames + 1
    deformed = np.where(rng.random(frames) < settings.deform_share, rng.integers(1, len(_SPOILERS), frames), 0)
    return rng.random(frames) < settings.predicted_share, deformed, rng.integers(-2, 3, (frames, 2))


Sample = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.float32]]


def _clustered_sample(
    rng: np.random.Generator, clips: Sequence[Clip], windows: Sequence[PseudoWindow], settings: MaskSettings
) -> Sample:
    window = windows[int(rng.integers(len(windows)))]
    order = _there_and_back(len(window.frame_indices), settings.context_frames + 1)
    if rng.random() < 0.5:
        order = len(window.frame_indices) - 1 - order
    view = sample_view(rng, (window.labels.shape[1], window.labels.shape[2]), settings.side, PLAIN)
    clip_frames = clips[window.clip].frames
    frames = np.stack([look(clip_frames[window.frame_indices[i]], view, settings.side) for i in order])
    size = (settings.side, settings.side)
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    warped = [cv2.warpAffine(window.labels[i], view, size, flags=flags, borderValue=IGNORE) for i in order]
    labels = np.stack([np.asarray(label_map, np.uint8) for label_map in warped])
    gap = abs(window.frame_indices[-1] - window.frame_indices[0]) / max(1, len(window.frame_indices) - 1)
    indices = gap * np.arange(len(order), dtype=np.float32)  # a memory's age grows on the way back too
    return frames, _pick_objects(rng, labels, settings.objects), indices.astype(np.float32)


def _there_and_back(length: int, count: int) -> npt.NDArray[np.int64]:
    """`count` positions 0, 1, ... to the end of a window and back again."""
    period = max(1, 2 * (length - 1))
    position = np.arange(count) % period
    return np.minimum(position, period - position) if length > 1 else np.zeros(count, np.int64)


def _pick_objects(rng: np.random.Generator, labels: npt.NDArray[np.uint8], most: int) -> npt.NDArray[np.uint8]:
    """Up to `most` of the first frame's objects renumbered from 1, the others background."""
    present = [label for label in np.unique(labels[0]) if 0 < label < DOUBT]
    count = min(len(present), int(rng.integers(1, most + 1)))
    chosen = rng.permutation(present)[:count]
    mapping = np.zeros(256, np.uint8)
    mapping[DOUBT:] = DOUBT
    mapping[IGNORE] = IGNORE
    for new, old in enumerate(chosen, start=1):
        mapping[old], mapping[old | DOUBT] = new, new | DOUBT
    return mapping[labels]


def _pasted_sample(
    rng: np.random.Generator, clips: Sequence[Clip], windows: Sequence[PseudoWindow], settings: MaskSettings
) -> Sample:
    clip = clips[int(rng.integers(len(clips)))]
    count = settings.context_frames + 1
    gap = max(1, min(int(rng.integers(1, settings.frame_gap + 1)), (len(clip.frames) - 1) // count))
    start = int(rng.integers(max(1, len(clip.frames) - gap * (count - 1))))
    indices = [min(start + gap * i, len(clip.frames) - 1) for i in range(count)]
    if rng.random() < 0.3:  # a still background: what moves is the object alone
        indices = [indices[0]] * count
    view = sample_view(rng, (clip.frames.shape[1], clip.frames.shape[2]), settings.side, PLAIN)
    frames = np.stack([look(clip.frames[i], view, settings.side) for i in indices])
    labels = np.zeros(frames.shape[:3], np.uint8)
    _paste_things(rng, frames, labels, lambda: _cutout(rng, clips, windows, settings), settings)
    return frames, labels, gap * np.arange(count, dtype=np.float32)


def _paste_things(
    rng: np.random.Generator,
    frames: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.uint8],
    cutout: Callable[[], Cutout],
    settings: MaskSettings,
) -> None:
    """A crowd of alike things, a thing that carries others, or things that have nothing to do with each other."""
    objects = range(1, int(rng.integers(1, settings.objects + 1)) + 1)
    kind = rng.random()
    if kind < settings.crowd_share:
        background = int(rng.integers(0 if len(objects) > 1 else 1, 3))  # of the alike things
        paste_crowd(rng, frames, labels, cutout(), [*objects, *[0] * background])
        return
    if kind < settings.crowd_share + settings.carried_share and len(objects) > 1:
        first, *others = [(cutout(), label) for label in objects]
        paste_carried(rng, frames, labels, first, others)
        return
    for label in objects:
        if rng.random() < settings.distractor_share:
            paste(rng, frames, labels, cutout(), 0)
        paste(rng, frames, labels, cutout(), label)


def _cutout(
    rng: np.random.Generator, clips: Sequence[Clip], windows: Sequence[PseudoWindow], settings: MaskSettings
) -> Cutout:
    if windows and rng.random() > settings.blob_share:
        window = windows[int(rng.integers(len(windows)))]
        chosen = window.object_ids[rng.integers(len(window.object_ids))]
        found = cut_object(clips[window.clip].frames[window.frame_indices[0]], window.labels[0] == chosen)
        if found is not None:
            return found
    frames = clips[int(rng.integers(len(clips)))].frames
    return cut_blob(rng, frames[rng.integers(len(frames))])


def mask_losses(segmenter: Segmenter, batch: MaskBatch, settings: MaskSettings) -> dict[str, Tensor]:
    """Cross-entropy and Dice of the scored frames; for the record, IoU of the decoded and coarse masks.

    Each is a mean over samples of what each gives, so the mean over equal shares of a batch is that of the batch.
    """
    frames = batch.frames.shape[1]
    features = _features(segmenter, batch, settings)
    soft_BFOHW = _soft_labels(batch.labels, settings.objects)
    present_BO = soft_BFOHW[:, 0].flatten(2).amax(dim=2) > 0.5
    soft_BFOHW = soft_BFOHW * present_BO[:, None, :, None, None]  # what was not shown at first is background later
    memory = _Memory(segmenter, features, soft_BFOHW[:, 0], present_BO)
    totals: dict[str, list[Tensor]] = {"ce": [], "dice": [], "iou_decoded": [], "iou_coarse": []}
    for t in range(1, frames):
        current = Features(*(part[:, t] for part in features))
        if t >= frames - settings.scored_frames:
            passes, coarse = segmenter.segment_passes(current, memory.view(batch.indices, t), settings.refine_passes)
            for name, value in _scored(passes, coarse, batch, soft_BFOHW[:, t], present_BO, t).items():
                totals[name].append(value)
        else:
            with torch.no_grad():
                coarse = propagate(current.key, *memory.view(batch.indices, t), segmenter.config)[1]
        if t + 1 < frames:
            own_BOHW = torch.where(batch.predicted[:, t, None, None, None], coarse.detach(), soft_BFOHW[:, t])
            memory.append(t, deformed(own_BOHW, batch.deformed[:, t], batch.shifts[:, t]), present_BO)
    losses = {name: torch.stack(values).mean() for name, values in totals.items()}
    losses["dice"] = settings.dice_weight * losses["dice"]
    return losses


def _scored(
    passes: list[Tensor], coarse: Tensor, batch: MaskBatch, soft_BOHW: Tensor, present_BO: Tensor, frame: int
) -> dict[str, Tensor]:
    target, known = _targets(batch.labels[:, frame], present_BO)
    passes = [logits.masked_fill(~present_BO[:, :, None, None], -1e4) for logits in passes]
    answers = [soft_aggregate(logits) for logits in passes]
    return {
        "ce": torch.stack([_cross_entropy(logits, target, known) for logits in passes]).mean(),
        "dice": torch.stack([_dice(soft, soft_BOHW, known, present_BO) for soft in answers]).mean(),
        "iou_decoded": _iou(answers[-1], soft_BOHW, known, present_BO),
        "iou_coarse": _iou(coarse, soft_BOHW, known, present_BO),
    }


class _Memory:
    """The slots filled so far, as `segment_passes` takes them."""

    def __init__(self, segmenter: Segmenter, features: Features, first_BOHW: Tensor, present_BO: Tensor) -> None:
        self._segmenter, self._features = segmenter, features
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []
        self._valid: list[Tensor] = []
        self._frames: list[int] = []
        self.append(0, first_BOHW, present_BO)

    def append(self, frame: int, soft_BOHW: Tensor, present_BO: Tensor) -> None:
        self._keys.append(self._features.key[:, frame].flatten(2))
        value_BOVN = self._segmenter.encode_mask(self._features.context[:, frame], soft_BOHW)
        self._values.append(value_BOVN * present_BO[:, :, None, None])  # as a bank holds it: nothing of what is absent
        self._valid.append(present_BO.float())
        self._frames.append(frame)

    def view(self, indices_BF: Tensor, frame: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        age_BT = (indices_BF[:, frame : frame + 1] - indices_BF[:, self._frames]).abs().clamp_min(1)
        trust_T = torch.ones(len(self._valid), device=age_BT.device)
        if len(self._valid) > 1:  # as served: the first is the user's word, the newest has drifted most
            trust_T[-1] = LAST_TRUST
        valid_BOT = torch.stack(self._valid, 2) * trust_T
        return torch.stack(self._keys, 2), torch.stack(self._values, 3), valid_BOT, age_BT


def _features(segmenter: Segmenter, batch: MaskBatch, settings: MaskSettings) -> Features:
    encoder = segmenter.frame_encoder
    with torch.set_grad_enabled(settings.encoder_rate > 0 and torch.is_grad_enabled()):
        map4, map8, top = encoder.backbone(batch.frames.flatten(0, 1))
        key = encoder.keys(map8, top)
    parts = (key, encoder.context_head(top), encoder.skip8_head(map8), encoder.skip4_head(map4))
    return Features(*(part.unflatten(0, batch.frames.shape[:2]) for part in parts))


def _soft_labels(labels_BFSS: Tensor, objects: int) -> Tensor:
    """Soft masks [B, F, O, S/4, S/4]: the share of each cell that an object covers, doubtful pixels with it."""
    likely = torch.where(labels_BFSS == IGNORE, 0, labels_BFSS.long() & ~DOUBT)
    hot = one_hot(likely, objects + 1)[..., 1:].permute(0, 1, 4, 2, 3).float()
    return avg_pool2d(hot.flatten(0, 1), MASK_STRIDE).unflatten(0, labels_BFSS.shape[:2])


def _targets(labels_BSS: Tensor, present_BO: Tensor) -> tuple[Tensor, Tensor]:
    """Label of each cell at mask stride, that of its centre, background for absent objects; and whether it is known."""
    cells_BHW = labels_BSS[:, MASK_STRIDE // 2 :: MASK_STRIDE, MASK_STRIDE // 2 :: MASK_STRIDE].long()
    known_BHW = cells_BHW < DOUBT
    followed_BX = torch.nn.functional.pad(present_BO, (1, 0), value=True)  # background always is
    likely_BHW = torch.where(known_BHW, cells_BHW, 0)
    return likely_BHW * followed_BX.gather(1, likely_BHW.flatten(1)).view_as(likely_BHW), known_BHW


def _cross_entropy(logits_BOHW: Tensor, target_BHW: Tensor, known_BHW: Tensor) -> Tensor:
    with_background = torch.cat((torch.zeros_like(logits_BOHW[:, :1]), logits_BOHW), dim=1).float()
    masked = target_BHW.masked_fill(~known_BHW, IGNORE)
    each_BHW = cross_entropy(with_background, masked, ignore_index=IGNORE, reduction="none")
    return (each_BHW.sum((1, 2)) / known_BHW.sum((1, 2)).clamp_min(1)).mean()


def _overlap(soft: Tensor, truth: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Soft intersection and sum of areas [B, O] over known pixels."""
    seen = known[:, None]
    return (soft * truth * seen).sum((2, 3)), ((soft + truth) * seen).sum((2, 3))


def _dice(soft: Tensor, truth: Tensor, known: Tensor, present_BO: Tensor) -> Tensor:
    both, total = _overlap(soft, truth, known)
    return _mean_present(1 - (2 * both + 1) / (total + 1), present_BO)


@torch.no_grad()
def _iou(soft: Tensor, truth: Tensor, known: Tensor, present_BO: Tensor) -> Tensor:
    both, total = _overlap((soft > 0.5).float(), (truth > 0.5).float(), known)
    return _mean_present((both + 1e-6) / (total - both + 1e-6), present_BO)


def _mean_present(each_BO: Tensor, present_BO: Tensor) -> Tensor:
    """Mean over samples of the mean over a sample's objects."""
    return ((each_BO * present_BO).sum(1) / present_BO.sum(1).clamp_min(1)).mean()


def deformed(soft_BOHW: Tensor, kind_B: Tensor, shift_B2: Tensor) -> Tensor:
    """Masks grown, shrunk or shifted by a cell or two where `kind_B` says so, as a drifting memory would be."""
    changed = []
    for soft_OHW, kind, shift in zip(soft_BOHW, kind_B.tolist(), shift_B2.tolist(), strict=True):
        spoilt = _SPOILERS[kind](soft_OHW, shift)
        changed.append(spoilt / spoilt.sum(dim=0, keepdim=True).clamp_min(1))  # grown neighbours still share a pixel
    return torch.stack(changed)


_SPOILERS: tuple[Callable[[Tensor, list[int]], Tensor], ...] = (
    lambda soft, shift: soft,
    lambda soft, shift: torch.nn.functional.max_pool2d(soft, 3, 1, 1),
    lambda soft, shift: -torch.nn.functional.max_pool2d(-soft, 3, 1, 1),
    lambda soft, shift: torch.roll(soft, shift, (1, 2)),
)

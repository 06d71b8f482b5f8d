"""Windows: a few frames here and there in every clip -> keys -> clusters -> pseudo masks.

Keys and clusters are computed where the encoder is; cleaning needs OpenCV and is done on the CPU. Starts and seeds are
drawn before anything is computed, so results do not depend on how many frames pass the encoder at once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from maskstream.model.frame_encoder import FrameEncoder
from maskstream.progress import progress
from train.clips import Clip
from train.clustering.assignment import soft_clusters
from train.clustering.cleaning import clean
from train.clustering.pseudo_window import PseudoWindow
from train.clustering.settings import ClusterSettings

GRID = 16  # pixels; sides the encoders of all strides take

# F frames, M clusters, K key channels


@dataclass(frozen=True)
class _Draw:
    """Which frames of a clip, and the seed of their clustering."""

    frame_indices: tuple[int, ...]
    seed: int


def cluster_clips(
    encoder: FrameEncoder, clips: Sequence[Clip], settings: ClusterSettings, rng: np.random.Generator
) -> list[PseudoWindow]:
    """Pseudo masks of windows all over the clips; windows without any object are left out.

    Raises ValueError for an encoder in training mode, whose keys would depend on the batch.
    """
    if encoder.training:
        raise ValueError("clustering takes an encoder in evaluation mode; call encoder.eval() first")
    windows = []
    with progress("clustering", len(clips) * settings.windows_per_clip, "windows") as advance:
        for index, clip in enumerate(clips):
            draws = [_draw(len(clip.frames), settings, rng) for _ in range(settings.windows_per_clip)]
            for window in _windows_of_clip(encoder, index, clip, draws, settings):
                if window.object_ids:
                    windows.append(window)
                advance()
    return windows


def _draw(length: int, settings: ClusterSettings, rng: np.random.Generator) -> _Draw:
    gap = max(1, min(settings.frame_gap, (length - 1) // settings.frames))
    start = int(rng.integers(max(1, length - gap * (settings.frames - 1))))
    indices = tuple(min(start + gap * i, length - 1) for i in range(settings.frames))
    return _Draw(indices, int(rng.integers(2**31)))


@torch.no_grad()
def _windows_of_clip(
    encoder: FrameEncoder, index: int, clip: Clip, draws: Sequence[_Draw], settings: ClusterSettings
) -> Iterator[PseudoWindow]:
    keys = _keys(encoder, clip, [i for draw in draws for i in draw.frame_indices], settings)
    for draw, key_FKhw in zip(draws, keys.split(settings.frames), strict=True):
        frames = np.stack([clip.frames[i] for i in draw.frame_indices])
        soft_FMhw = soft_clusters(key_FKhw, settings, torch.Generator().manual_seed(draw.seed))
        yield PseudoWindow(index, draw.frame_indices, clean(soft_FMhw.cpu(), key_FKhw.cpu(), frames, settings))


def _keys(encoder: FrameEncoder, clip: Clip, frame_indices: Sequence[int], settings: ClusterSettings) -> Tensor:
    """Keys [frames, K, h, w] of the clip's frames at the working size, on the encoder's device."""
    device = encoder.pixel_mean.device
    keys = []
    for first in range(0, len(frame_indices), settings.batch_frames):
        some = frame_indices[first : first + settings.batch_frames]
        resized = np.stack([_resized(clip.frames[i], settings.short_side) for i in some])
        keys.append(encoder.key(encoder.backbone(torch.from_numpy(resized).to(device))[-1]))
    return torch.cat(keys)


def _resized(frame: npt.NDArray[np.uint8], short_side: int) -> npt.NDArray[np.uint8]:
    scale = short_side / min(frame.shape[:2])  # may enlarge: more tokens make sharper clusters
    height, width = (round(side * scale / GRID) * GRID for side in frame.shape[:2])
    return np.asarray(cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)

"""Pseudo masks kept in a file that is named for all they depend on, so that no stale ones are ever read.

The name is a hash of the encoder's weights, the settings, the clips, the seed and CLUSTERING_VERSION. A file is written
whole or not at all. Labels are stored as they are and memory-mapped when read: a run over more footage than fits into
memory, or several processes on one machine, share the pages.
"""

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from maskstream.model.frame_encoder import FrameEncoder
from train.clips import Clip
from train.clustering.pseudo_window import PseudoWindow
from train.clustering.settings import ClusterSettings
from train.clustering.windows import cluster_clips
from train.saving import write_whole

CLUSTERING_VERSION = 2  # raise it whenever the same inputs give other windows
KEY_DIGITS = 16


def pseudo_windows(
    encoder: FrameEncoder, clips: Sequence[Clip], settings: ClusterSettings, seed: Sequence[int], folder: Path
) -> list[PseudoWindow]:
    """The windows of `cluster_clips` with a generator of `seed`, from their file in `folder` if they are there.

    A file that cannot be read is said on stderr and made anew. Raises SaveFailed when the file cannot be written, and
    ValueError for an encoder in training mode.
    """
    key = windows_key(encoder, clips, settings, seed)
    path = folder / f"pseudo_masks_{key}.pt"
    if path.exists():
        try:
            return _read(path, key, clips)
        except Exception as error:  # noqa: BLE001  torch raises many types for a damaged file
            reason = (str(error) or type(error).__name__).splitlines()[0]
            print(f"warning: {path}: not readable ({reason}); clustering again", file=sys.stderr, flush=True)
    windows = cluster_clips(encoder, clips, settings, np.random.default_rng(list(seed)))
    write_whole(path, lambda partial: torch.save(_record(windows, key), partial))
    return _read(path, key, clips)


def windows_key(encoder: FrameEncoder, clips: Sequence[Clip], settings: ClusterSettings, seed: Sequence[int]) -> str:
    """Hexadecimal digits that differ whenever anything differs that the windows depend on."""
    digest = hashlib.sha256()
    described = {
        "version": CLUSTERING_VERSION,
        "settings": asdict(settings),
        "seed": [int(part) for part in seed],
        "clips": [[clip.name, list(clip.frames.shape)] for clip in clips],
    }
    digest.update(json.dumps(described, sort_keys=True).encode())
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:KEY_DIGITS]


def _record(windows: Sequence[PseudoWindow], key: str) -> dict[str, Any]:
    stored = [{"clip": w.clip, "frames": list(w.frame_indices), "labels": torch.from_numpy(w.labels)} for w in windows]
    return {"key": key, "windows": stored}


def _read(path: Path, key: str, clips: Sequence[Clip]) -> list[PseudoWindow]:
    """Raises whatever torch does for a damaged file, and ValueError for windows that do not fit the clips."""
    record = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    if record["key"] != key:
        raise ValueError(f"it holds the windows of {record['key']}")
    windows = [PseudoWindow(w["clip"], tuple(w["frames"]), w["labels"].numpy()) for w in record["windows"]]
    for window in windows:
        expected = (len(window.frame_indices), *clips[window.clip].frames.shape[1:3])
        if window.labels.dtype != np.uint8 or window.labels.shape != expected:
            raise ValueError(f"labels of clip {window.clip} are not uint8 {expected}")
    return windows

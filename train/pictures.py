"""Pictures of what was learnt, for people: pseudo masks and propagated masks over their frames, one row a window."""

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt

from maskstream.networks import Networks
from maskstream.tracker import Prompt, Tracker
from train.clips import Clip
from train.clustering import DOUBT, PseudoWindow

COLOURS = np.array(
    [(0, 0, 0), (230, 60, 60), (60, 200, 80), (70, 110, 240), (240, 200, 40), (200, 80, 220), (60, 210, 220)]
)
ROWS = 12
TILE_HEIGHT = 128


def pseudo_mask_sheet(windows: Sequence[PseudoWindow], clips: Sequence[Clip]) -> npt.NDArray[np.uint8]:
    """Contact sheet uint8 [H, W, 3] of windows spread over the clips; grey marks doubtful pixels."""
    if not windows:
        return np.zeros((TILE_HEIGHT, TILE_HEIGHT, 3), np.uint8)
    rows = [_row(window, clips) for window in _shown(windows)]
    width = max(row.shape[1] for row in rows)
    return np.concatenate([np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows])


def propagated_sheet(
    networks: Networks, windows: Sequence[PseudoWindow], clips: Sequence[Clip]
) -> npt.NDArray[np.uint8]:
    """Contact sheet of the same windows, the pseudo masks of their first frame carried on by the tracker."""
    return pseudo_mask_sheet([_propagated(networks, w, clips[w.clip]) for w in _shown(windows)], clips)


def _propagated(networks: Networks, window: PseudoWindow, clip: Clip) -> PseudoWindow:
    tracker = Tracker(networks)
    answers = []
    for position, index in enumerate(window.frame_indices):
        prompts = [Prompt(i, window.labels[0] == i) for i in window.object_ids] if position == 0 else []
        answers.append(tracker.step(np.asarray(clip.frames[index]), prompts).id_map)
    tracker.close()
    return replace(window, labels=np.stack(answers))


def _shown(windows: Sequence[PseudoWindow]) -> Sequence[PseudoWindow]:
    return windows[:: max(1, len(windows) // ROWS)][:ROWS]


def _row(window: PseudoWindow, clips: Sequence[Clip]) -> npt.NDArray[np.uint8]:
    tiles = []
    for index, labels in zip(window.frame_indices, window.labels, strict=True):
        overlay = label_overlay(clips[window.clip].frames[index], labels)
        width = round(overlay.shape[1] * TILE_HEIGHT / overlay.shape[0])
        tiles.append(cv2.resize(overlay, (width, TILE_HEIGHT), interpolation=cv2.INTER_AREA))
    return np.concatenate(tiles, axis=1)


def label_overlay(frame: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The frame with its labels in colour, grey where they are doubtful."""
    colour = COLOURS[1 + (labels.astype(int) - 1) % (len(COLOURS) - 1)]
    colour = np.where((labels >= DOUBT)[..., None], 128, colour)
    mixed = np.where((labels > 0)[..., None], 0.5 * frame + 0.5 * colour, frame)
    return mixed.astype(np.uint8)

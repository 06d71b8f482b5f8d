"""Pictures of what was learnt, for people: pseudo masks and propagated masks over their frames, one row a window.

A row says which clip it is, and each of its pictures which frame: what looks wrong can be found in the video. A window
holds more masks than hues can tell apart, so colours step through lightness as well as round the colour wheel.
"""

import colorsys
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from maskstream.networks import Networks
from maskstream.tracker import Prompt, Tracker
from train.clips import Clip
from train.clustering import DOUBT, PseudoWindow

Picture = npt.NDArray[np.uint8]  # [H, W, 3] RGB

ROWS = 12
TILE_HEIGHT = 144  # pixels
CAPTION_HEIGHT = 20  # pixels, above each tile
GREY = 128  # of doubtful pixels
_OPACITY = 0.5
_GOLDEN_ANGLE = 0.381966  # of a turn: neighbouring labels never look alike
_SHADES = ((0.85, 1.0), (0.9, 0.55), (0.4, 1.0))  # saturation and value, one after the other
_FONT, _FONT_SCALE, _FONT_MARGIN = cv2.FONT_HERSHEY_SIMPLEX, 0.42, 4
_PAPER, _INK = 24, (235, 235, 235)


def pseudo_mask_sheet(windows: Sequence[PseudoWindow], clips: Sequence[Clip]) -> Picture:
    """Contact sheet uint8 [H, W, 3] of windows spread over the clips; grey marks doubtful pixels."""
    if not windows:
        return _caption("no window holds an object", 2 * TILE_HEIGHT)
    rows = [_row(window, clips[window.clip]) for window in _shown(windows)]
    width = max(row.shape[1] for row in rows)
    return np.concatenate([_widened(row, width) for row in rows])


def propagated_sheet(networks: Networks, windows: Sequence[PseudoWindow], clips: Sequence[Clip]) -> Picture:
    """Contact sheet of the same windows, the pseudo masks of their first frame carried on by the tracker."""
    return pseudo_mask_sheet([_propagated(networks, w, clips[w.clip]) for w in _shown(windows)], clips)


def label_overlay(frame: Picture, labels: npt.NDArray[np.uint8]) -> Picture:
    """The frame with its labels [H, W] in colour, grey where they are doubtful."""
    colour = np.where((labels >= DOUBT)[..., None], GREY, label_colours()[labels & np.uint8(DOUBT - 1)])
    mixed = np.where((labels > 0)[..., None], (1 - _OPACITY) * frame + _OPACITY * colour, frame)
    return mixed.astype(np.uint8)


@cache
def label_colours() -> npt.NDArray[np.uint8]:
    """uint8 [128, 3] RGB: the colour of each label; background black."""
    shades = [(i * _GOLDEN_ANGLE % 1.0, *_SHADES[i % len(_SHADES)]) for i in range(DOUBT)]
    table = np.array([colorsys.hsv_to_rgb(*shade) for shade in shades]) * 255
    table[0] = 0
    return table.round().astype(np.uint8)


def _propagated(networks: Networks, window: PseudoWindow, clip: Clip) -> PseudoWindow:
    tracker = Tracker(networks)
    answers = []
    for position, index in enumerate(window.frame_indices):
        prompts = [Prompt(i, window.labels[0] == i) for i in window.object_ids] if position == 0 else []
        answers.append(tracker.step(np.asarray(clip.frames[index]), prompts).id_map)
    tracker.close()
    return replace(window, labels=np.stack(answers))


def _shown(windows: Sequence[PseudoWindow]) -> Sequence[PseudoWindow]:
    """At most `ROWS` of them, spread evenly from the first to the last."""
    places = np.linspace(0, len(windows) - 1, min(ROWS, len(windows))).round().astype(int)
    return [windows[place] for place in places]


def _row(window: PseudoWindow, clip: Clip) -> Picture:
    tiles: list[Picture] = []
    for index, labels in zip(window.frame_indices, window.labels, strict=True):
        overlay = label_overlay(np.asarray(clip.frames[index]), labels)
        width = max(1, round(overlay.shape[1] * TILE_HEIGHT / overlay.shape[0]))
        tile = np.asarray(cv2.resize(overlay, (width, TILE_HEIGHT), interpolation=cv2.INTER_AREA), np.uint8)
        text = f"frame {index}" if tiles else f"{clip.name}  frame {index}"
        tiles.append(np.concatenate((_caption(text, width), tile)))
    return np.concatenate(tiles, axis=1)


def _caption(text: str, width: int) -> Picture:
    """A strip [CAPTION_HEIGHT, width, 3] with as much of the text as fits; its end is kept, with the frame's number."""
    strip = np.full((CAPTION_HEIGHT, width, 3), _PAPER, np.uint8)
    plain = text.encode("ascii", "replace").decode()  # all that OpenCV's fonts hold
    shown = plain
    while _text_width(shown) > width - 2 * _FONT_MARGIN and len(shown) > len("..."):
        plain = plain[1:]
        shown = f"...{plain}"
    place = (_FONT_MARGIN, CAPTION_HEIGHT - _FONT_MARGIN - 2)
    cv2.putText(strip, shown, place, _FONT, _FONT_SCALE, _INK, 1, cv2.LINE_AA)
    return strip


def _text_width(text: str) -> int:
    (width, _), _ = cv2.getTextSize(text, _FONT, _FONT_SCALE, 1)
    return int(width)


def _widened(row: Picture, width: int) -> Picture:
    return np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)))

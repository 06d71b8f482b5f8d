"""One picture that tells how a sequence went: frames spread evenly over it, with the answer, the truth and J on each.

Colours are the answer, a white line is the truth. Pictures are drawn at the size they will roughly have, so a sheet
takes a few megabytes whatever the video's size and length.
"""

import cv2
import numpy as np

from maskstream.masks import IdMap, object_ids
from maskstream.overlay import Picture, contact_sheet, draw_overlay, titled
from maskstream.steps import Step

PICTURES = 8
_COLUMNS = 4
_CELL_WIDTH = 400  # pixels
_DRAWN_WIDTH = 2 * _CELL_WIDTH  # halved in the sheet, which smooths the lines
_TRUTH_COLOUR = (255, 255, 255)


class SequenceSheet:
    """Takes the frames of a sequence of known length in order, and keeps `PICTURES` of them drawn."""

    def __init__(self, num_frames: int) -> None:
        places = np.linspace(0, num_frames - 1, min(PICTURES, num_frames)).round()
        self._places = {int(place) for place in places}
        self._next = 0
        self._drawn: list[Picture] = []

    def add(self, step: Step, id_map: IdMap, j: float | None) -> None:
        """The next frame, its answer uint8 [H, W], and J of the frame, 0..1, where it is known."""
        if self._next in self._places:
            self._drawn.append(_draw(step, id_map, j))
        self._next += 1

    def picture(self) -> Picture:
        """The sheet, uint8 [H, W, 3]. Raises ValueError when no frame was added."""
        return contact_sheet(self._drawn, _COLUMNS, _CELL_WIDTH * min(_COLUMNS, len(self._drawn)))


def caption(step: Step, j: float | None) -> str:
    """Name of the frame and its J in 0..100; the objects handed out on it in place of a score they have no part in."""
    words = [step.name]
    if j is not None:
        words.append(f"J {100 * j:.1f}")
    if step.prompts:
        words.append(f"given: {', '.join(str(prompt.object_id) for prompt in step.prompts)}")
    return "  ".join(words)


def _draw(step: Step, id_map: IdMap, j: float | None) -> Picture:
    height = max(1, round(id_map.shape[0] * _DRAWN_WIDTH / id_map.shape[1]))
    size = (_DRAWN_WIDTH, height)
    frame = cv2.resize(step.frame, size, interpolation=cv2.INTER_AREA)
    drawn = draw_overlay(np.asarray(frame, np.uint8), _resized(id_map, size))
    if step.truth is not None:
        _outline(drawn, _resized(step.truth, size))
    return titled(drawn, caption(step, j))


def _resized(id_map: IdMap, size: tuple[int, int]) -> IdMap:
    return np.asarray(cv2.resize(id_map, size, interpolation=cv2.INTER_NEAREST), np.uint8)


def _outline(drawn: Picture, truth: IdMap) -> None:
    for object_id in object_ids(truth):
        inside = (truth == object_id).astype(np.uint8)
        contours, _ = cv2.findContours(inside, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(drawn, contours, -1, _TRUTH_COLOUR, 2, cv2.LINE_AA)

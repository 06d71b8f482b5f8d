"""Masks drawn over frames for people to look at: a steady colour an object, its contour, its id; and sheets of them.

Colours step round the colour wheel by the golden angle, so that neighbouring ids never look alike.
"""

import colorsys
from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from maskstream.masks import IdMap, bounding_box, object_ids

Picture = npt.NDArray[np.uint8]  # [H, W, 3] RGB

_GOLDEN_ANGLE = 0.381966
_OPACITY = 0.45
_SHEET_GAP = 6  # pixels between the pictures of a sheet
_FONT = cv2.FONT_HERSHEY_SIMPLEX


@cache
def colour_table() -> Picture:
    """uint8 [256, 1, 3] RGB: the colour of each id; background black."""
    hues = [(0.55 + i * _GOLDEN_ANGLE) % 1.0 for i in range(256)]
    table = np.array([colorsys.hsv_to_rgb(hue, 0.8, 1.0) for hue in hues]) * 255
    table[0] = 0
    return table.round().astype(np.uint8)[:, None]


def draw_overlay(frame: Picture, id_map: IdMap) -> Picture:
    """A new frame uint8 [H, W, 3] with each object tinted, outlined and labelled with its id."""
    tint = colour_table()[id_map, 0]
    mixed = cv2.addWeighted(frame, 1 - _OPACITY, tint, _OPACITY, 0)
    drawn = np.where((id_map != 0)[..., None], mixed, frame)
    for object_id in object_ids(id_map):
        _outline(drawn, id_map == object_id, object_id)
    return drawn


def _outline(drawn: Picture, mask: npt.NDArray[np.bool_], object_id: int) -> None:
    box = bounding_box(mask)
    assert box is not None
    x, y, width, height = box
    part = np.ascontiguousarray(mask[y : y + height, x : x + width]).view(np.uint8)
    contours, _ = cv2.findContours(part, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE, offset=(x, y))
    colour = tuple(colour_table()[object_id, 0].tolist())
    thickness = max(1, round(min(drawn.shape[:2]) / 300))
    cv2.drawContours(drawn, contours, -1, colour, thickness, cv2.LINE_AA)
    _label(drawn, str(object_id), (x, y), colour)


def _label(drawn: Picture, text: str, corner: tuple[int, int], colour: tuple[int, ...]) -> None:
    """The id on a patch of its colour at the upper left of the object's box, kept inside the frame."""
    scale = max(0.35, min(drawn.shape[:2]) / 900)
    (width, height), _ = cv2.getTextSize(text, _FONT, scale, 1)
    x = min(corner[0], max(0, drawn.shape[1] - width - 6))
    y = max(corner[1], height + 6)
    cv2.rectangle(drawn, (x, y - height - 6), (x + width + 6, y), colour, -1)
    cv2.putText(drawn, text, (x + 3, y - 3), _FONT, scale, (0, 0, 0), 1, cv2.LINE_AA)


def contact_sheet(frames: Sequence[Picture], columns: int = 3, width: int = 1200) -> Picture:
    """Frames of one size in a grid, uint8 [H, width, 3], read like a page. Raises ValueError when there are none."""
    if not frames:
        raise ValueError("a contact sheet needs at least one frame")
    columns = min(columns, len(frames))
    cell_width = (width - _SHEET_GAP * (columns - 1)) // columns
    cell_height = max(1, round(frames[0].shape[0] * cell_width / frames[0].shape[1]))
    rows = -(-len(frames) // columns)
    height = rows * (cell_height + _SHEET_GAP) - _SHEET_GAP
    sheet = np.full((height, width, 3), 255, dtype=np.uint8)
    for index, frame in enumerate(frames):
        y = index // columns * (cell_height + _SHEET_GAP)
        x = index % columns * (cell_width + _SHEET_GAP)
        cell = cv2.resize(frame, (cell_width, cell_height), interpolation=cv2.INTER_AREA)
        sheet[y : y + cell_height, x : x + cell_width] = cell
    return sheet


class EvenSample:
    """Keeps pictures spread evenly over a stream of unknown length: at most twice `count`, thinned as it grows."""

    def __init__(self, count: int) -> None:
        self._count, self._step, self._seen = count, 1, 0
        self._kept: list[Picture] = []

    def wants_next(self) -> bool:
        """Whether the next picture offered would be kept; spares drawing the others."""
        return self._seen % self._step == 0

    def offer(self, picture: Picture | None) -> None:
        """Count the next picture, and keep it when it is wanted."""
        if self.wants_next() and picture is not None:
            self._kept.append(picture)
        self._seen += 1
        if len(self._kept) >= 2 * self._count:
            self._kept, self._step = self._kept[::2], self._step * 2

    def pictures(self) -> list[Picture]:
        """At most `count` of the kept pictures, first and last among them."""
        if len(self._kept) <= self._count:
            return list(self._kept)
        places = np.linspace(0, len(self._kept) - 1, self._count).round().astype(int)
        return [self._kept[place] for place in places]

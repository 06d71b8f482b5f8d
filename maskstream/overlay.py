"""Masks drawn over frames for people to look at: a steady colour an object, its contour, its name; and sheets of them.

Colours step round the colour wheel by the golden angle, so that neighbouring ids never look alike.
"""

import colorsys
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from maskstream.masks import Box, IdMap, bounding_box, object_ids

Picture = npt.NDArray[np.uint8]  # [H, W, 3] RGB

_GOLDEN_ANGLE = 0.381966
_OPACITY = 0.45
_RIM_LIGHT = 0.35  # of the ground's brightness, just outside a contour
_BLACK, _WHITE, _STRIP = (0, 0, 0), (255, 255, 255), (32, 32, 32)
_LONGEST_NAME = 24  # characters
_COARSE = 4  # pixels; where a label goes needs no more care
_SHEET_GAP = 6  # pixels between the pictures of a sheet
_FONT = cv2.FONT_HERSHEY_SIMPLEX


@cache
def colour_table() -> Picture:
    """uint8 [256, 1, 3] RGB: the colour of each id; background black."""
    hues = [(0.55 + i * _GOLDEN_ANGLE) % 1.0 for i in range(256)]
    table = np.array([colorsys.hsv_to_rgb(hue, 0.8, 1.0) for hue in hues]) * 255
    table[0] = 0
    return table.round().astype(np.uint8)[:, None]


def draw_overlay(
    frame: Picture, id_map: IdMap, names: Mapping[int, str] | None = None, lost: Sequence[int] = ()
) -> Picture:
    """A new frame uint8 [H, W, 3] with each object tinted, outlined and labelled by its name, else its id.

    `lost` are ids to list at the lower edge: objects that are followed and not seen.
    """
    drawn, names = frame.copy(), names or {}
    found = bounding_box(id_map)
    if found is not None:
        _colour_in(drawn, id_map, found)
        coarse = np.ascontiguousarray(id_map[::_COARSE, ::_COARSE])
        for object_id in object_ids(id_map):
            _label(drawn, _text_of(object_id, names), _corner(id_map, coarse, object_id), _colour_of(object_id))
    _list_lost(drawn, lost, names)
    return drawn


@cache
def text_colour(patch: tuple[int, ...]) -> tuple[int, int, int]:
    """Black or white, whichever is easier to read on a patch of this RGB colour; at least 4.5 to 1 on any."""
    return _BLACK if contrast(_BLACK, patch) >= contrast(_WHITE, patch) else _WHITE


def contrast(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    """Contrast of two RGB colours, 1..21, as the accessibility guidelines for web pages define it."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def titled(picture: Picture, text: str) -> Picture:
    """The picture uint8 [H + about 7 % of W, W, 3] under a dark strip with a line of text."""
    width = picture.shape[1]
    strip, scale = max(12, round(0.07 * width)), 1.1 * width / 800
    tall = cv2.copyMakeBorder(picture, strip, 0, 0, 0, cv2.BORDER_CONSTANT, value=_STRIP)
    place = (round(0.015 * width), round(0.72 * strip))
    cv2.putText(tall, _ascii(text, 200), place, _FONT, scale, _WHITE, max(1, round(width / 400)), cv2.LINE_AA)
    return np.asarray(tall, np.uint8)


def _colour_in(drawn: Picture, id_map: IdMap, box: Box) -> None:
    """Tint, contour in the object's colour, and a dark rim around it, which shows on bright ground.

    All objects at once: an edge is where the largest id around a pixel is not the smallest.
    """
    reach = max(1, round(min(drawn.shape[:2]) / 300))  # pixels
    x, y, width, height = box
    rows = slice(max(0, y - reach), y + height + reach)
    columns = slice(max(0, x - reach), x + width + reach)
    part, place = np.ascontiguousarray(id_map[rows, columns]), drawn[rows, columns]
    around = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    edge = cv2.compare(cv2.dilate(part, around), cv2.erode(part, around), cv2.CMP_NE)
    objects = cv2.compare(part, np.zeros_like(part), cv2.CMP_NE)
    colours = cv2.applyColorMap(part, colour_table())  # which gives the channels in the table's own order
    mixed = cv2.addWeighted(place, 1 - _OPACITY, colours, _OPACITY, 0)
    rim = cv2.convertScaleAbs(place, alpha=_RIM_LIGHT)
    cv2.copyTo(rim, edge, mixed)
    cv2.copyTo(colours, cv2.bitwise_and(edge, objects), mixed)
    cv2.copyTo(mixed, cv2.bitwise_or(edge, objects), place)


def _corner(id_map: IdMap, coarse: IdMap, object_id: int) -> tuple[int, int]:
    """Upper left of the object's largest piece: to a few pixels, by one pixel in many, where it is large.

    A crumb of a mask at the other side of the frame does not draw the label away from the object.
    """
    for pixels, size in ((coarse == object_id, _COARSE), (id_map == object_id, 1)):
        box = bounding_box(pixels)
        if box is not None:
            x, y, width, height = box
            pieces = cv2.connectedComponentsWithStats(pixels[y : y + height, x : x + width].view(np.uint8))[2]
            left, top = pieces[1 + pieces[1:, cv2.CC_STAT_AREA].argmax(), :2]
            return (x + int(left)) * size, (y + int(top)) * size
    raise AssertionError(f"object {object_id} has no pixel")


def _label(drawn: Picture, text: str, corner: tuple[int, int], colour: tuple[int, ...]) -> int:
    """The text on a patch of the object's colour, with `corner` its lower left; kept inside the frame. Its right end.

    The patch has a dark line around it, so that it stands out from ground of its own colour.
    """
    scale = max(0.35, min(drawn.shape[:2]) / 900)
    thick = max(1, round(1.4 * scale))
    (width, height), below = cv2.getTextSize(text, _FONT, scale, thick)
    margin = 3 * thick
    x = max(0, min(corner[0], drawn.shape[1] - width - 2 * margin))
    y = min(max(corner[1], height + below + 2 * margin), drawn.shape[0])
    upper, lower = (x, y - height - below - 2 * margin + 1), (x + width + 2 * margin, y - 1)
    cv2.rectangle(drawn, upper, lower, colour, -1)
    cv2.rectangle(drawn, upper, lower, _BLACK, 1)
    place = (x + margin, y - below - margin)
    cv2.putText(drawn, text, place, _FONT, scale, text_colour(colour), thick, cv2.LINE_AA)
    return int(lower[0])


def _list_lost(drawn: Picture, lost: Sequence[int], names: Mapping[int, str]) -> None:
    """At the lower left, as many as there is room for."""
    right = 0
    for object_id in lost:
        if right >= 0.8 * drawn.shape[1]:
            return
        text = f"lost: {_text_of(object_id, names)}"
        right = 4 + _label(drawn, text, (right, drawn.shape[0]), _colour_of(object_id))


def _text_of(object_id: int, names: Mapping[int, str]) -> str:
    return _ascii(names.get(object_id) or str(object_id), _LONGEST_NAME)


def _ascii(text: str, longest: int) -> str:
    """What the font can draw."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode() or "?"
    return plain if len(plain) <= longest else f"{plain[: longest - 2]}.."


def _colour_of(object_id: int) -> tuple[int, ...]:
    return tuple(colour_table()[object_id, 0].tolist())


def _luminance(colour: tuple[int, ...]) -> float:
    """0..1, of an sRGB colour."""
    linear = [
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in np.divide(colour, 255)
    ]
    return float(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])


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

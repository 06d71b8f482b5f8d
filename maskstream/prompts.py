"""Prompts from what a user has at hand: a box drawn round a thing, clicks on it, or a mask file.

A box becomes a mask by OpenCV's GrabCut: colours of the box's core against colours around the box. It works on a small
copy of the surroundings, so that its time does not depend on the frame's size, and gives the same mask every time. The
keys of the frame then refine it. On 14 objects of real video the mean overlap with a drawn mask was 0.50 by colours
and 0.51 with the keys; trusting no core gave 0.26. A mask is better.
"""

import re
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from maskstream.errors import InvalidPrompt
from maskstream.key_likeness import at_pixels, covered, log_odds
from maskstream.masks import Box, object_ids
from maskstream.networks import F32
from maskstream.pictures import read_id_map
from maskstream.prompt_kinds import (
    AnyPrompt,
    BoxPrompt,
    CutPrompt,
    Point,
    PointPrompt,
    Prompt,
    RegionPrompt,
    check_prompt,
    clipped_box,
)
from maskstream.prompt_points import mask_from_points

Frame = npt.NDArray[np.uint8]  # [H, W, 3] RGB
Mask = npt.NDArray[np.bool_]  # [H, W]

_WORK_SIDE = 192  # pixels of the longer side GrabCut works at
_SURROUNDINGS = 0.8  # of the box's sides, added on each side as certain background
_CORE = 0.6  # of the box's sides: the ellipse that is certain to be the object
_ITERATIONS = 3
_SMALLEST_SHARE = 0.34  # of the box; the core alone is 0.28, so a cut with less has found little beyond it
_SMALLEST_PIECE = 0.15  # of the largest connected piece; smaller ones are crumbs
_COLOUR_ODDS = 4.0  # of log-odds, from what colours call certainly outside to what they call certainly inside
_DOUBTFUL_EDGE = 0.04  # of the box's shorter side: how far from its outline the cut is in doubt
_BESIDE, _NEAR = 0.1, 0.3  # of a token: no more in the box, no less in its surroundings, to be an example of those
_POINT = re.compile(r"^\s*(-?)\s*(\d+)\s*,\s*(\d+)\s*$")
_BOX = re.compile(r"^\s*(-?\d+)\s*,\s*(-?\d+)\s*,\s*(-?\d+)\s*,\s*(-?\d+)\s*$")


def mask_from_box(frame: Frame, box: Box) -> Mask:
    """The thing inside `box` (x, y, width, height in pixels) as a mask bool [H, W]; nothing of it lies outside the box.

    Where colours do not tell the thing from its surroundings, the mask is the ellipse that fills the box. A box that
    reaches over the edge is cut off there. Raises InvalidPrompt for a box without area or wholly outside the frame.
    """
    height, width = frame.shape[:2]
    left, top, right, bottom = clipped_box(box, (height, width))
    mask = np.zeros((height, width), dtype=bool)
    inside = _cut(frame, (left, top, right, bottom))
    mask[top:bottom, left:right] = _ellipse(bottom - top, right - left) if inside is None else inside
    return mask


def look_at_colours(prompt: AnyPrompt, frame: Frame) -> AnyPrompt:
    """The same with what its frame's colours say; tens of milliseconds for a box, nothing for others.

    Raises InvalidPrompt.
    """
    if isinstance(prompt, BoxPrompt):
        return CutPrompt(prompt.object_id, prompt.box, mask_from_box(frame, prompt.box))
    return prompt


def as_mask(prompt: RegionPrompt, frame: Frame, key_Khw: F32) -> Prompt:
    """The prompt as a mask; `key_Khw` are the keys of the frame. Raises InvalidPrompt."""
    seen = look_at_colours(prompt, frame)
    match seen:
        case CutPrompt():
            return Prompt(seen.object_id, _refined(seen, key_Khw))
        case PointPrompt():
            return Prompt(seen.object_id, mask_from_points(seen, (frame.shape[0], frame.shape[1]), key_Khw))
        case Prompt():
            return seen
    raise TypeError(f"{seen} says nothing of one object")


def _refined(cut: CutPrompt, key_Khw: F32) -> Mask:
    """The cut by colours where the keys do not speak strongly against it; they move its outline, and fill and empty it.

    What is like the middle of the box and not like what surrounds the box belongs to the thing.
    """
    size = (cut.mask.shape[0], cut.mask.shape[1])
    corners = left, top, right, bottom = clipped_box(cut.box, size)
    width, height = right - left, bottom - top
    box, core, around = np.zeros((3, *size), np.float32)
    box[top:bottom, left:right] = 1.0
    core[top:bottom, left:right] = _ellipse(height, width, _CORE)
    around[max(0, top - height) : bottom + height, max(0, left - width) : right + width] = 1.0
    grid = (key_Khw.shape[1], key_Khw.shape[2])
    beside = ((covered(box, grid) < _BESIDE) & (covered(around, grid) > _NEAR)).astype(np.float32)
    odds = at_pixels(log_odds(key_Khw, np.square(covered(core, grid)), beside), size, corners)
    radius = round(_DOUBTFUL_EDGE * min(width, height))
    colours = cv2.blur(cut.mask[top:bottom, left:right].astype(np.float32), (2 * radius + 1, 2 * radius + 1))
    refined = np.zeros(size, dtype=bool)
    refined[top:bottom, left:right] = _COLOUR_ODDS * (colours - 0.5) + odds > 0
    return refined if refined.any() else np.asarray(cut.mask)


def parse_prompt(text: str, frame: Frame, object_id: int = 1) -> list[RegionPrompt]:
    """Prompts from a command line's words: "X,Y,W,H" is a box round object `object_id`, "@X,Y;X,Y;-X,Y" are points on
    it and, with a minus, beside it; else a mask file of object ids.

    Raises InvalidPrompt or MaskFileError.
    """
    size = (frame.shape[0], frame.shape[1])
    if text.lstrip().startswith("@"):
        points = _parse_points(text, object_id)
        check_prompt(points, size)
        return [points]
    numbers = _BOX.match(text)
    if numbers:
        x, y, width, height = (int(number) for number in numbers.groups())
        box = BoxPrompt(object_id, (x, y, width, height))
        check_prompt(box, size)
        return [box]
    id_map = read_id_map(Path(text))
    if id_map.shape != frame.shape[:2]:
        raise InvalidPrompt(
            f"{text} is {id_map.shape[1]}x{id_map.shape[0]}, the video is {frame.shape[1]}x{frame.shape[0]}; "
            "give a mask of the video's size"
        )
    ids = object_ids(id_map)
    if not ids:
        raise InvalidPrompt(f"{text} marks no object: every pixel is 0, the background; mark objects with 1..255")
    return [Prompt(i, id_map == i) for i in ids]


def _parse_points(text: str, object_id: int) -> PointPrompt:
    on: list[Point] = []
    off: list[Point] = []
    for word in text.strip()[1:].split(";"):
        numbers = _POINT.match(word)
        if not numbers:
            raise InvalidPrompt(
                f"{text} is not understood at {word!r}; give points as @X,Y;X,Y on the object, one beside it as -X,Y"
            )
        (off if numbers[1] else on).append((int(numbers[2]), int(numbers[3])))
    return PointPrompt(object_id, tuple(on), tuple(off))


def _cut(frame: Frame, corners: tuple[int, int, int, int]) -> Mask | None:
    """GrabCut inside left, top, right, bottom: bool [h, w] of that box, None when it finds nothing."""
    left, top, right, bottom = corners
    box_width, box_height = right - left, bottom - top
    pad_x, pad_y = round(_SURROUNDINGS * box_width) + 2, round(_SURROUNDINGS * box_height) + 2
    x0, y0 = max(0, left - pad_x), max(0, top - pad_y)
    crop = frame[y0 : bottom + pad_y, x0 : right + pad_x]
    scale = min(1.0, _WORK_SIDE / max(crop.shape[:2]))
    size = (max(1, round(crop.shape[1] * scale)), max(1, round(crop.shape[0] * scale)))
    small = np.asarray(cv2.resize(crop, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    labels = np.full(small.shape[:2], cv2.GC_BGD, dtype=np.uint8)
    rows = slice(round((top - y0) * scale), max(1, round((bottom - y0) * scale)))
    columns = slice(round((left - x0) * scale), max(1, round((right - x0) * scale)))
    inside = labels[rows, columns]
    inside[:] = np.where(_ellipse(inside.shape[0], inside.shape[1], _CORE), cv2.GC_FGD, cv2.GC_PR_FGD)
    if not _grab(small, labels):
        return None
    found = _largest_pieces(((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)).astype(np.uint8))
    full = cv2.resize(found * 255, (crop.shape[1], crop.shape[0]), interpolation=cv2.INTER_LINEAR) > 127
    cut = full[top - y0 : bottom - y0, left - x0 : right - x0]
    return cut if cut.mean() >= _SMALLEST_SHARE else None


def _grab(picture: Frame, labels: npt.NDArray[np.uint8]) -> bool:
    """Run GrabCut in place on `labels`; False when there is too little of either side to learn colours from."""
    enough = 16  # pixels; GrabCut fits five colour clusters to each side
    if min(np.count_nonzero(labels == cv2.GC_BGD), np.count_nonzero(labels != cv2.GC_BGD)) < enough:
        return False
    cv2.setRNGSeed(0)  # its clusters start at random
    background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
    unused = (0, 0, 0, 0)  # the box, when one is given in place of labels
    cv2.grabCut(picture, labels, unused, background, foreground, _ITERATIONS, cv2.GC_INIT_WITH_MASK)
    return True


def _largest_pieces(found: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(found)
    if count < 2:
        return found
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0  # the first piece is the background
    return np.isin(pieces, np.flatnonzero(areas >= _SMALLEST_PIECE * areas.max())).astype(np.uint8) * found


def _ellipse(height: int, width: int, share: float = 1.0) -> Mask:
    """bool [height, width]: the ellipse about the middle whose axes are `share` of the sides."""
    down = (np.arange(height) + 0.5) / height * 2 - 1
    across = (np.arange(width) + 0.5) / width * 2 - 1
    return np.asarray(down[:, None] ** 2 + across[None, :] ** 2 <= share**2)

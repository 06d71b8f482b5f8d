"""What a user can say of an object in one frame: its mask, a box round it, clicks on it, or only that there be some.

The tracker takes all of them. Only a mask says which pixels are meant; the others are looked at together with the
features of their frame (see maskstream.prompts and maskstream.auto_prompts), which is why they come to it as they are
and not as masks made before.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from maskstream.errors import InvalidPrompt
from maskstream.masks import MAX_OBJECT_ID, Box

MOST_POINTS = 64  # of one object
Point = tuple[int, int]  # x, y in pixels of the frame


@dataclass(frozen=True)
class Prompt:
    """The user's word on one object in one frame: `mask` is bool or uint8 [H, W], non-zero inside the object."""

    object_id: int
    mask: npt.NDArray[np.uint8] | npt.NDArray[np.bool_]


@dataclass(frozen=True)
class BoxPrompt:
    """Prompts the thing inside `box` (x, y, width, height in pixels), which is cut out of it."""

    object_id: int
    box: Box


@dataclass(frozen=True)
class CutPrompt:
    """A BoxPrompt whose frame's colours have been looked at: `mask` bool [H, W] is what they say.

    That takes tens of milliseconds, which a server does not spend where all its streams wait.
    """

    object_id: int
    box: Box
    mask: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class PointPrompt:
    """Prompts the thing that the clicks `points` (x, y) are on; what `background` clicks are on is no part of it."""

    object_id: int
    points: tuple[Point, ...]
    background: tuple[Point, ...] = ()


@dataclass(frozen=True)
class AutoPrompt:
    """Asks for up to `max_objects` things that stand out on the frame, under the lowest free ids."""

    max_objects: int

    @property
    def object_id(self) -> int:
        """0: it names no object."""
        return 0


RegionPrompt = Prompt | BoxPrompt | CutPrompt | PointPrompt
AnyPrompt = RegionPrompt | AutoPrompt


def check_prompt(prompt: AnyPrompt, size: tuple[int, int]) -> None:
    """Whether it can be meant for a frame of `size` (height, width). Raises InvalidPrompt."""
    if isinstance(prompt, AutoPrompt):
        if prompt.max_objects < 1:
            raise InvalidPrompt(f"find {prompt.max_objects} objects: ask for 1 or more")
        return
    if not 1 <= prompt.object_id <= MAX_OBJECT_ID:
        raise InvalidPrompt(f"object id {prompt.object_id} is outside 1..{MAX_OBJECT_ID} (0 is background)")
    match prompt:
        case Prompt() | CutPrompt():
            _check_mask(prompt, size)
        case BoxPrompt(box=box):
            clipped_box(box, size)
        case PointPrompt():
            check_points(prompt, size)


def clipped_box(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of what lies inside a frame of `size`. Raises InvalidPrompt when nothing does."""
    height, width = size
    x, y, box_width, box_height = box
    left, top = max(0, x), max(0, y)
    right, bottom = min(width, x + box_width), min(height, y + box_height)
    if box_width <= 0 or box_height <= 0:
        raise InvalidPrompt(f"the box {x},{y},{box_width},{box_height} has no area; give X,Y,WIDTH,HEIGHT in pixels")
    if left >= right or top >= bottom:
        raise InvalidPrompt(f"the box {x},{y},{box_width},{box_height} lies outside the {width}x{height} frame")
    return left, top, right, bottom


def check_points(prompt: PointPrompt, size: tuple[int, int]) -> None:
    """Raises InvalidPrompt for none on the object, for too many, and for one outside the frame."""
    count_points(prompt.object_id, len(prompt.points), len(prompt.background))
    height, width = size
    for x, y in _all_points(prompt):
        if not (0 <= x < width and 0 <= y < height):
            raise InvalidPrompt(
                f"the point {x},{y} of object {prompt.object_id} lies outside the {width}x{height} frame; points are "
                "X,Y in pixels of the frame, from 0,0 at its upper left"
            )
    if both := set(prompt.points) & set(prompt.background):
        x, y = min(both)
        raise InvalidPrompt(f"the point {x},{y} is both on object {prompt.object_id} and beside it; give it once")


def count_points(object_id: int, on: int, off: int) -> None:
    """Raises InvalidPrompt for numbers of points on and beside an object that no prompt has."""
    if not on:
        raise InvalidPrompt(f"object {object_id} has no point on it; give one at least")
    if on + off > MOST_POINTS:
        raise InvalidPrompt(f"{on + off} points for object {object_id}; at most {MOST_POINTS}, give a mask instead")


def _all_points(prompt: PointPrompt) -> Iterator[Point]:
    yield from prompt.points
    yield from prompt.background


def _check_mask(prompt: Prompt | CutPrompt, size: tuple[int, int]) -> None:
    if prompt.mask.shape != size:
        shape = "x".join(str(side) for side in reversed(prompt.mask.shape))
        raise InvalidPrompt(
            f"the mask of object {prompt.object_id} is {shape}, the frame is {size[1]}x{size[0]}; "
            "give the mask at the frame's own size"
        )
    if not prompt.mask.any():
        raise InvalidPrompt(f"the mask of object {prompt.object_id} is empty: it prompts no object")

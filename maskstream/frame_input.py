"""What a caller may give as a frame: an array, a PIL image, or what offers its pixels as numpy does.

Nothing is guessed: 16-bit and floating-point pictures are refused, for what they mean by white is not known here.
"""

from typing import Any, Protocol

import numpy as np
from PIL import Image

from maskstream.errors import InvalidFrame
from maskstream.tracker import Frame

_EIGHT_BIT = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"})


class Pixels(Protocol):
    """Pixels that numpy can read without a copy, as PIL images and many other pictures have them."""

    @property
    def __array_interface__(self) -> dict[str, Any]: ...


FrameLike = Frame | Pixels


def as_frame(picture: FrameLike) -> Frame:
    """The array of a picture: PIL images become RGB, transparency is left out, EXIF rotation is not applied.

    Shape and type of other pixels are left as they are, for whoever sends them to check. Raises InvalidFrame for what
    has no pixels, and for a PIL image of more than 8 bits.
    """
    if isinstance(picture, np.ndarray):
        return picture
    if isinstance(picture, Image.Image):
        if picture.mode not in _EIGHT_BIT:
            raise InvalidFrame(f"a PIL image of mode {picture.mode} has no 8-bit colours; convert it to RGB first")
        return np.asarray(picture if picture.mode == "RGB" else picture.convert("RGB"))
    if hasattr(picture, "__array_interface__"):
        return np.asarray(picture)
    expected = "a frame is uint8 [H, W, 3] RGB: an array, a PIL image, or what has __array_interface__"
    raise InvalidFrame(f"{expected}; got {type(picture).__name__}")

"""What a person does with the page, and what they see: shared by the tests of the page."""

import base64
import io
import json
from typing import Any

import numpy as np
from page_gateway import CLIP_FRAMES, HEIGHT, WIDTH, clip_picture, mask_of_prompt
from PIL import Image

from maskstream.overlay import colour_table

BOX = (40, 30, 41, 51)  # x, y, width, height
OPACITY = 0.45


def says(page: Any, place: str, text: str) -> None:
    page.wait_for_selector(f"#{place}:has-text({json.dumps(text)})")


def key(page: Any, name: str) -> None:
    """A shortcut, with the focus on nothing."""
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press(name)


def take_clip(page: Any) -> None:
    page.click("#source-clip")
    says(page, "position", f"frame 1 of {CLIP_FRAMES}")
    page.wait_for_selector("#play:enabled")


def at(page: Any, x: float, y: float) -> tuple[float, float]:
    """Where the middle of a frame's pixel is on the screen."""
    area = page.locator("#draft").bounding_box()
    return area["x"] + (x + 0.5) * area["width"] / WIDTH, area["y"] + (y + 0.5) * area["height"] / HEIGHT


def drag(page: Any, *points: tuple[float, float]) -> None:
    page.mouse.move(*at(page, *points[0]))
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*at(page, *point))
    page.mouse.up()


def draw_box(page: Any, box: tuple[int, int, int, int] = BOX) -> None:
    x, y, width, height = box
    drag(page, (x, y), (x + width - 1, y + height - 1))


def follow_box(page: Any) -> None:
    take_clip(page)
    draw_box(page)
    page.click("#apply")
    says(page, "status", "Following 1 object.")


def canvas(page: Any) -> np.ndarray:
    """uint8 [H, W, 3] of what is on screen."""
    data = page.evaluate("document.getElementById('view').toDataURL().split(',')[1]")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


def assert_tinted(page: Any, index: int, box: tuple[int, int, int, int], object_id: int = 1) -> None:
    """The object's pixels are mixed with its colour, and the picture is itself everywhere else."""
    x, y, width, height = box
    shown, picture = canvas(page).astype(int), clip_picture(index).astype(int)
    colour = colour_table()[object_id, 0].astype(int)
    inner = np.s_[y + 2 : y + height - 2, x + 2 : x + width - 2]
    mixed = (1 - OPACITY) * picture[inner] + OPACITY * colour
    assert np.abs(shown[inner] - mixed).max() <= 6  # JPEG
    outside = mask_of_prompt({"box": box}, HEIGHT, WIDTH) == 0
    outside[:y, x:] = False  # the label
    assert np.abs(shown[outside] - picture[outside]).max() <= 6

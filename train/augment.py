"""Augmentation: views of frames whose geometry is known exactly.

A view is a frame seen through a similarity transform (crop, zoom, turn, flip), kept as the 2x3 matrix from view pixels
to frame pixels. Two views of one frame therefore give every token its partner without any label; this is the only
supervision that correspondence learning has.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Matrix = npt.NDArray[np.float64]  # [2, 3], view pixels -> frame pixels


@dataclass(frozen=True)
class ViewRange:
    """How far views may differ: window sides as fractions of the frame's short side, turns in degrees."""

    smallest: float
    largest: float
    turn: float
    flip: float = 0.5


PLAIN = ViewRange(smallest=0.33, largest=1.0, turn=0.0)  # enlarged up to threefold, as frames are when served
STRONG = ViewRange(smallest=0.4, largest=1.0, turn=25.0)


def sample_view(rng: np.random.Generator, frame_size: tuple[int, int], side: int, how: ViewRange) -> Matrix:
    """A random view of `side` x `side` pixels into a frame of (height, width), inside it before the turn."""
    height, width = frame_size
    window = min(height, width) * float(np.exp(rng.uniform(np.log(how.smallest), np.log(how.largest))))
    x = rng.uniform(window / 2, width - window / 2)
    y = rng.uniform(window / 2, height - window / 2)
    return view_matrix((x, y), window / side, side, rng.uniform(-how.turn, how.turn), rng.random() < how.flip)


def nearby_view(rng: np.random.Generator, view: Matrix, side: int, how: ViewRange) -> Matrix:
    """A view that looks at about the same place as `view`, shifted, zoomed, turned and perhaps flipped against it."""
    zoom = float(np.exp(rng.uniform(np.log(0.6), np.log(1.5))))
    shift = rng.uniform(-0.2, 0.2, 2) * side + (side - 1) / 2
    relative = view_matrix((shift[0], shift[1]), zoom, side, rng.uniform(-how.turn, how.turn), rng.random() < how.flip)
    return compose(view, relative)


def view_matrix(centre: tuple[float, float], scale: float, side: int, turn: float, flipped: bool) -> Matrix:
    """The matrix of a view centred on `centre` (x, y): `scale` source pixels a view pixel, turned by degrees."""
    angle = np.deg2rad(turn)
    turn_22 = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = scale * turn_22 @ np.diag([-1.0 if flipped else 1.0, 1.0])
    offset = np.asarray(centre) - linear @ np.full(2, (side - 1) / 2)
    return np.column_stack((linear, offset))


def compose(outer: Matrix, inner: Matrix) -> Matrix:
    """First `inner`, then `outer`."""
    return np.column_stack((outer[:, :2] @ inner[:, :2], outer[:, :2] @ inner[:, 2] + outer[:, 2]))


def invert(matrix: Matrix) -> Matrix:
    """The matrix that undoes `matrix`."""
    return np.asarray(cv2.invertAffineTransform(matrix), np.float64)


def look(frame: Image, view: Matrix, side: int) -> Image:
    """The view's picture; outside the frame its border is mirrored."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    image = cv2.warpAffine(
        np.ascontiguousarray(frame), view, (side, side), flags=flags, borderMode=cv2.BORDER_REFLECT_101
    )
    return np.asarray(image, np.uint8)


def token_partners(source: Matrix, target: Matrix, side: int, stride: int) -> npt.NDArray[np.float32]:
    """For each token of the target view, row-major, the (x, y) of the same frame point in tokens of the source view."""
    centres = np.arange(side // stride) * stride + (stride - 1) / 2
    grid_x, grid_y = np.meshgrid(centres, centres)
    points = np.stack((grid_x.ravel(), grid_y.ravel()))
    back = compose(invert(source), target)
    moved = back[:, :2] @ points + back[:, 2:]
    tokens: npt.NDArray[np.float32] = ((moved.T - (stride - 1) / 2) / stride).astype(np.float32)
    return tokens


def jitter(rng: np.random.Generator, image: Image) -> Image:
    """Another camera's picture of the same: gain, contrast, saturation, tint, sometimes blur and noise."""
    picture = image.astype(np.float32)
    grey = picture.mean(axis=2, keepdims=True)
    picture = grey + (picture - grey) * rng.uniform(0.6, 1.4)
    mean = picture.mean()
    picture = (picture - mean) * rng.uniform(0.7, 1.3) + mean * rng.uniform(0.75, 1.25)
    picture *= rng.uniform(0.92, 1.08, 3).astype(np.float32)
    if rng.random() < 0.4:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.4, 1.6))
    if rng.random() < 0.3:
        picture = picture + rng.normal(0, rng.uniform(1, 6), picture.shape).astype(np.float32)
    clipped: Image = np.clip(picture, 0, 255).astype(np.uint8)
    return clipped

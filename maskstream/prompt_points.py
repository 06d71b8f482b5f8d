"""Clicks become a mask by the keys of their frame: what is like the tokens clicked on, and joined to a click.

Colours were tried and left out: GrabCut round a click cut off most of every large thing (mean overlap 0.17 with a drawn
mask at best for one click, keys alone 0.26). Clicks that lie far apart tell the size of the thing; one alone does not.
"""

import cv2
import numpy as np
import numpy.typing as npt

from maskstream.key_likeness import Cells, log_odds
from maskstream.networks import F32
from maskstream.prompt_kinds import Point, PointPrompt

Mask = npt.NDArray[np.bool_]  # [H, W]

LARGEST_AREA = 0.4  # of the frame
_UNLIKE = 0.7  # of the tokens, those least like the clicks: examples of the rest
_FINER = 8  # the grid is this much finer where the outline is drawn
_FADING = 2.0  # log-odds lost over a frame's short side, with one click
_FADING_BY_SPREAD = 3.0  # and over the distance between the clicks that are farthest apart
_NEARER = 20.0  # log-odds by which a click beside the thing weighs less, for a short side that one on it is nearer
_NEAREST_SPREAD = 0.03  # of the short side: clicks closer together tell no size
_DOT = 0.01  # of the short side: the radius round a click that is certain


def mask_from_points(prompt: PointPrompt, size: tuple[int, int], key_Khw: F32) -> Mask:
    """bool [H, W] of a frame of `size`; all clicks on the thing are in it, those beside it are not."""
    grid = (key_Khw.shape[1], key_Khw.shape[2])
    likeness = _likeness(prompt, size, key_Khw) - _fading(prompt.points, size, grid)
    fine = np.asarray(cv2.resize(likeness, None, fx=_FINER, fy=_FINER, interpolation=cv2.INTER_CUBIC), np.float32)
    level = max(0.0, float(np.quantile(fine, 1.0 - LARGEST_AREA)))
    inside = _joined(fine > level, [_scaled(point, size, fine.shape) for point in prompt.points])
    picture = cv2.resize(inside.astype(np.float32), (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    return _with_dots(picture > 0.5, prompt)


def _likeness(prompt: PointPrompt, size: tuple[int, int], key_Khw: F32) -> Cells:
    """Log-odds of the tokens, from those clicked on against those least like them and those clicked beside."""
    grid = (key_Khw.shape[1], key_Khw.shape[2])
    on, off = (_clicked(points, size, grid) for points in (prompt.points, prompt.background))
    off *= 1.0 - on  # a token that both clicks share says nothing
    cosine = (key_Khw[:, on > 0].T @ key_Khw.reshape(len(key_Khw), -1)).max(axis=0).reshape(grid)
    unlike = (cosine <= np.quantile(cosine, _UNLIKE)).astype(np.float32) * (1.0 - on)
    odds = log_odds(key_Khw, on, unlike)
    if not off.any():
        return odds
    nearer = (_away(prompt.background, size, grid) - _away(prompt.points, size, grid)) / min(size)
    return np.minimum(odds, log_odds(key_Khw, on, off) + _NEARER * nearer)


def _clicked(points: tuple[Point, ...], size: tuple[int, int], grid: tuple[int, int]) -> Cells:
    cells = np.zeros(grid, np.float32)
    for point in points:
        x, y = _scaled(point, size, grid)
        cells[y, x] = 1.0
    return cells


def _scaled(point: Point, size: tuple[int, int], grid: tuple[int, ...]) -> Point:
    return int((point[0] + 0.5) * grid[1] / size[1]), int((point[1] + 0.5) * grid[0] / size[0])


def _fading(points: tuple[Point, ...], size: tuple[int, int], grid: tuple[int, int]) -> Cells:
    """What a token loses by lying away from the clicks."""
    place_N2 = np.array(points, np.float32)
    short = min(size)
    spread = float(np.hypot(*(place_N2[:, None] - place_N2[None]).transpose(2, 0, 1)).max()) / short
    rate = _FADING_BY_SPREAD / max(spread, _NEAREST_SPREAD) if len(points) > 1 else _FADING
    return np.asarray(rate / short * _away(points, size, grid), np.float32)


def _away(points: tuple[Point, ...], size: tuple[int, int], grid: tuple[int, int]) -> Cells:
    """Pixels from the middle of each token to the nearest click."""
    place_N2 = np.array(points, np.float32) + 0.5
    y, x = ((np.arange(cells) + 0.5) * side / cells for cells, side in zip(grid, size, strict=True))
    away_Nhw = np.hypot(place_N2[:, 0, None, None] - x[None, None], place_N2[:, 1, None, None] - y[None, :, None])
    return np.asarray(away_Nhw.min(axis=0), np.float32)


def _joined(mask: Mask, points: list[Point]) -> Mask:
    """The connected pieces that a click is on."""
    _, pieces = cv2.connectedComponents(mask.astype(np.uint8))
    clicked = {int(pieces[y, x]) for x, y in points} - {0}
    return np.isin(pieces, list(clicked))


def _with_dots(mask: Mask, prompt: PointPrompt) -> Mask:
    """A dot cut out at each click beside the thing, one put in at each click on it, whose own pixels win."""
    drawn = mask.astype(np.uint8)
    radius = max(1, round(_DOT * min(mask.shape)))
    for points, value in ((prompt.points, 1), (prompt.background, 0)):
        for point in points:
            cv2.circle(drawn, point, radius, value, cv2.FILLED)
    for x, y in prompt.points:
        drawn[y, x] = 1
    return drawn > 0

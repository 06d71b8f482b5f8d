"""Masks to begin with, drawn without any network: what moves otherwise than the camera, else regions of one colour.

They measure two sets of weights against each other. Clusters of keys would be objects as one of the two sees them, and
so favour it; flow and colour know neither. Nothing is random, so they are the same whenever they are drawn again.
"""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from maskstream.consistency import Flow, flow_between
from maskstream.masks import IdMap
from maskstream.tracker import Frame

OBJECTS = 3  # at most; the largest
SMALLEST_AREA, LARGEST_AREA = 0.005, 0.3  # of the frame
LARGEST_BORDER = 0.5  # share of the frame's border that may be the region's: beyond that it is ground
FRAMES_APART = (1, 3, 6)  # between the frames whose flow is taken: near ones blur least, far ones show what is slow
LEAST_MOTION = 1.5  # pixels against the camera's motion
MOTION_OVER_NOISE = 4.0  # against what is usual in the frame
GRID_STEP = 8  # pixels between the places that the camera's motion is fitted to
SMOOTHED_PIXELS, SMOOTHED_COLOURS = 8.0, 16.0  # reach of the mean shift that evens out texture
COLOUR_EDGE = 12  # of 255: a change beyond that parts two regions

# H and W height and width of a frame, M pieces


def start_masks(frames: Sequence[Frame]) -> IdMap:
    """Ids 1..OBJECTS [H, W] on the first of `frames` (uint8 [T, H, W, 3]), larger regions first; all 0 for none."""
    first = np.asarray(frames[0])
    for apart in FRAMES_APART:
        later = np.asarray(frames[min(apart, len(frames) - 1)])
        moving = numbered(moving_pixels(flow_between(first, later)))
        if moving.any():
            return moving
    return numbered(even_pixels(first))


def moving_pixels(flow: Flow) -> IdMap:
    """0 or 1 [H, W]: what moves otherwise than an affine motion of the whole picture."""
    height, width = flow.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    place = np.stack((x, y), axis=-1)
    grid = (slice(GRID_STEP // 2, None, GRID_STEP),) * 2
    there = (place + flow)[grid].reshape(-1, 2)
    fitted = cv2.estimateAffine2D(place[grid].reshape(-1, 2), there, method=cv2.RANSAC, ransacReprojThreshold=1.5)
    camera: npt.NDArray[Any] | None = fitted[0]
    if camera is None:  # no motion that most places share
        return np.zeros((height, width), np.uint8)
    expected = place @ camera[:, :2].T.astype(np.float32) + camera[:, 2].astype(np.float32)
    off_HW = np.linalg.norm(place + flow - expected, axis=-1)
    moving = (off_HW > max(LEAST_MOTION, MOTION_OVER_NOISE * float(np.median(off_HW)))).astype(np.uint8)
    return _cleaned(moving)


def even_pixels(frame: Frame) -> IdMap:
    """0 or 1 [H, W]: pixels inside a region of one colour, 0 along the edges between regions."""
    lab = cv2.cvtColor(frame, cv2.COLOR_RGB2LAB)
    smooth = cv2.pyrMeanShiftFiltering(lab, SMOOTHED_PIXELS, SMOOTHED_COLOURS)
    change = cv2.morphologyEx(smooth, cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8)).max(axis=2)
    return np.asarray(change <= COLOUR_EDGE, np.uint8)


def numbered(mask: IdMap) -> IdMap:
    """The largest connected pieces of a mask 0 or 1 [H, W] that could be things, as ids from 1 on."""
    _, piece_HW, statistics, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    share_M = statistics[:, cv2.CC_STAT_AREA] / mask.size
    share_M[0] = 0.0  # what is in no piece
    ids = np.zeros(mask.shape, np.uint8)
    object_id = 0
    for piece in np.argsort(-share_M, kind="stable"):
        if SMALLEST_AREA <= share_M[piece] <= LARGEST_AREA and _on_border(piece_HW == piece) <= LARGEST_BORDER:
            object_id += 1
            ids[piece_HW == piece] = object_id
        if object_id == OBJECTS or share_M[piece] < SMALLEST_AREA:
            break
    return ids


def _on_border(piece_HW: npt.NDArray[np.bool_]) -> float:
    """Share of the frame's border that the piece takes, 0..1."""
    return float(np.concatenate((piece_HW[0], piece_HW[-1], piece_HW[:, 0], piece_HW[:, -1])).mean())


def _cleaned(mask: IdMap) -> IdMap:
    """Specks and holes of a few pixels gone."""
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    return np.asarray(cv2.morphologyEx(cv2.morphologyEx(mask, cv2.MORPH_OPEN, disk), cv2.MORPH_CLOSE, disk), np.uint8)

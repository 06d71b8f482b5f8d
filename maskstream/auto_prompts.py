"""Prompts from nothing: the things of a picture that stand out, by the clustering that taught the model.

Clusters of the keys, coarse and fine, fall into connected pieces; a piece is a thing when it has the area of one, does
not run along the border, and is compact. Things are ranked by how unlike their surroundings and the rest they are, by
solidity, by size up to a few hundredths of the picture, and by how near its middle they lie. This is a guess of what a
user may mean, far from as good as a box: where it matters, look at what was found.
"""

from collections.abc import Collection, Iterator, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from maskstream import masks
from maskstream.networks import F32, Networks
from maskstream.prompt_kinds import Prompt
from maskstream.space_time_clusters import cluster

Frame = npt.NDArray[np.uint8]  # [H, W, 3] RGB
Mask = npt.NDArray[np.bool_]  # [h, w] of tokens, or [H, W] of pixels

CLUSTERS = (5, 8, 12)  # things are found at whichever number cuts them out best
SMALLEST_AREA, LARGEST_AREA = 0.004, 0.4  # of the frame
BORDER_SHARE = 0.35  # of the frame's border that a thing may lie along
PROMINENT_AREA = 0.06  # of the frame: things larger than this are not the more salient for it
MOST_OVERLAP = 0.3  # of the smaller of two things; beyond it they are one, and of one found with what is followed
MOST_FRAMES = 4
LEAST_SALIENCY = 0.01  # below it nothing stands out: a part of a wall scores less
_AROUND = 2  # tokens: the width of a thing's surroundings


def auto_prompts(networks: Networks, frames: Sequence[Frame], max_objects: int) -> list[Prompt]:
    """Up to `max_objects` things that stand out on the FIRST of the frames, most salient first, with ids from 1.

    Of several frames, all of one size, no more than MOST_FRAMES are looked at, evenly taken; a thing must then be in
    the first of them. Empty when nothing stands out. Raises ValueError for no frames, or fewer than one object.
    """
    if not frames or max_objects < 1:
        raise ValueError(f"{len(frames)} frames and {max_objects} objects; expected 1 or more of both")
    chosen = [frames[i] for i in np.unique(np.linspace(0, len(frames) - 1, MOST_FRAMES).astype(int))]
    spec = networks.spec
    height, width = frames[0].shape[:2]
    size = masks.working_size(height, width, spec.short_side, spec.stride, 4 * spec.short_side)
    keys = [networks.encode_frame(masks.resize_frame(frame, size)[None]).key for frame in chosen]
    return find_more(np.concatenate(keys), (height, width), max_objects, np.zeros((height, width), bool), ())


def find_more(key_FKhw: F32, size: tuple[int, int], most: int, taken: Mask, known_ids: Collection[int]) -> list[Prompt]:
    """Up to `most` things of the first frame, which is of `size` (height, width), under the lowest ids not known.

    `taken` bool [H, W] is what is followed already; things that lie on it are left out.
    """
    free_ids = [i for i in range(1, masks.MAX_OBJECT_ID + 1) if i not in known_ids][: max(0, most)]
    if not free_ids or not np.isfinite(key_FKhw).all():
        return []
    found: list[Prompt] = []
    covered = taken.copy()
    for thing in salient_things(key_FKhw):
        whole = _at_pixels(thing, size)
        inside = whole & ~covered
        if inside.any() and np.count_nonzero(inside) >= (1 - MOST_OVERLAP) * np.count_nonzero(whole):
            found.append(Prompt(free_ids[len(found)], inside))
            covered |= inside
        if len(found) == len(free_ids):
            break
    return found


def salient_things(key_FKhw: F32) -> Iterator[Mask]:
    """Things bool [h, w] of the first frame's tokens, most salient first; no two of them are the same thing."""
    things = [thing for number in CLUSTERS for thing in _pieces(cluster(key_FKhw, number)[0])]
    things = [thing for thing in things if _has_shape_of_thing(thing)]
    if not things:
        return
    scores = saliencies(np.array(things), key_FKhw[0])
    chosen: list[Mask] = []
    for place in np.argsort(-scores, kind="stable"):
        thing = things[place]
        if scores[place] >= LEAST_SALIENCY and all(_overlap(thing, other) <= MOST_OVERLAP for other in chosen):
            chosen.append(thing)
            yield thing


def saliencies(thing_Thw: Mask, key_Khw: F32) -> npt.NDArray[np.float64]:
    """[T]: how much each thing stands out, about 0 for one that does not; see LEAST_SALIENCY."""
    tokens_NK = key_Khw.reshape(len(key_Khw), -1).T
    inside_TN = thing_Thw.reshape(len(thing_Thw), -1).astype(np.float32)
    around_TN = np.array([_surroundings(thing) for thing in thing_Thw]).reshape(inside_TN.shape).astype(np.float32)
    mean_TK = (inside_TN @ tokens_NK) / inside_TN.sum(axis=1, keepdims=True)
    within_T = np.linalg.norm(mean_TK, axis=1)  # mean cosine of its tokens to their direction
    cosine_TN = mean_TK / np.maximum(within_T, 1e-9)[:, None] @ tokens_NK.T
    near_T, rest_T = (_weighted_mean(cosine_TN, weight_TN) for weight_TN in (around_TN, 1 - inside_TN))
    shape_T = np.array([_shape_score(thing) for thing in thing_Thw])
    return np.asarray((2 * within_T - near_T - rest_T) * shape_T, np.float64)


def _shape_score(thing: Mask) -> float:
    """0..1 by solidity, distance from border and middle, and size up to a prominent one."""
    rows, columns = np.nonzero(thing)
    corners = [np.stack((columns + dx, rows + dy), axis=1) for dx in (0, 1) for dy in (0, 1)]
    solidity = len(rows) / cv2.contourArea(cv2.convexHull(np.concatenate(corners).astype(np.int32)))
    off_middle = np.hypot((rows.mean() + 0.5) / thing.shape[0] - 0.5, (columns.mean() + 0.5) / thing.shape[1] - 0.5)
    prominence = min(1.0, thing.mean() / PROMINENT_AREA) ** 0.5
    return float(solidity * (1 - 2 * _border_share(thing)) * (1 - off_middle) * prominence)


def _has_shape_of_thing(thing: Mask) -> bool:
    return bool(thing.mean() <= LARGEST_AREA and _border_share(thing) <= BORDER_SHARE)


def _border_share(thing: Mask) -> float:
    return float(np.concatenate((thing[0], thing[-1], thing[:, 0], thing[:, -1])).mean())


def _pieces(labels_hw: npt.NDArray[np.intp]) -> list[Mask]:
    """The connected pieces of every cluster, but for crumbs."""
    pieces: list[Mask] = []
    for label in np.unique(labels_hw):
        inside = (labels_hw == label).astype(np.uint8)
        count, numbered, stats, _ = cv2.connectedComponentsWithStats(inside, connectivity=8)
        enough = SMALLEST_AREA * inside.size
        whole = (number for number in range(1, count) if stats[number, cv2.CC_STAT_AREA] >= enough)
        pieces.extend(np.asarray(numbered == number) for number in whole)
    return pieces


def _surroundings(thing: Mask) -> Mask:
    side = 2 * _AROUND + 1
    return (cv2.dilate(thing.astype(np.uint8), np.ones((side, side), np.uint8)) > 0) & ~thing


def _weighted_mean(values: F32, weights: F32) -> F32:
    return np.asarray((values * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-9), np.float32)


def _overlap(one: Mask, other: Mask) -> float:
    return np.count_nonzero(one & other) / min(np.count_nonzero(one), np.count_nonzero(other))


def _at_pixels(thing: Mask, size: tuple[int, int]) -> Mask:
    """bool [H, W] of a thing of tokens."""
    return np.asarray(masks.resize_soft(thing[None].astype(np.float32), size)[0] > 0.5)

"""Views know their geometry: what the pictures show must agree with the matrices."""

import cv2
import numpy as np

from train.augment import STRONG, compose, invert, look, nearby_view, sample_view, token_partners, view_matrix

SIDE, STRIDE = 64, 16


def test_partners_point_at_the_same_place_of_the_frame() -> None:
    """A smooth picture of coordinates, seen through two views, has equal colours at partner places."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[0:200, 0:240].astype(np.float32)
    frame = np.stack((x, y, np.zeros_like(x)), axis=2)
    for _ in range(20):
        view = sample_view(rng, (200, 240), SIDE, STRONG)
        again = nearby_view(rng, view, SIDE, STRONG)
        pictures = [
            cv2.warpAffine(
                frame, m, (SIDE, SIDE), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderValue=(-1e6,) * 3
            )
            for m in (view, again)
        ]
        places = token_partners(view, again, SIDE, STRIDE)
        for token, place in enumerate(places):
            here = np.array(divmod(token, SIDE // STRIDE)) * STRIDE + (STRIDE - 1) / 2  # y, x
            there = place[::-1] * STRIDE + (STRIDE - 1) / 2
            if (there < 1).any() or (there > SIDE - 2).any():
                continue
            colours = [_at(pictures[1], here), _at(pictures[0], there)]
            if min(c.min() for c in colours) >= 0:
                np.testing.assert_allclose(colours[0], colours[1], atol=0.6)


def _at(picture: np.ndarray, place: np.ndarray) -> np.ndarray:
    return cv2.remap(picture, np.float32([[place[1]]]), np.float32([[place[0]]]), cv2.INTER_LINEAR)[0, 0, :2]


def test_the_identity_view_shows_the_frame() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    view = view_matrix(((SIDE - 1) / 2, (SIDE - 1) / 2), 1.0, SIDE, turn=0.0, flipped=False)
    np.testing.assert_array_equal(look(frame, view, SIDE), frame)


def test_a_flipped_view_mirrors_the_frame() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    view = view_matrix(((SIDE - 1) / 2, (SIDE - 1) / 2), 1.0, SIDE, turn=0.0, flipped=True)
    np.testing.assert_array_equal(look(frame, view, SIDE), frame[:, ::-1])


def test_a_matrix_and_its_inverse_cancel() -> None:
    rng = np.random.default_rng(1)
    view = sample_view(rng, (100, 120), SIDE, STRONG)
    np.testing.assert_allclose(compose(view, invert(view)), [[1, 0, 0], [0, 1, 0]], atol=1e-9)

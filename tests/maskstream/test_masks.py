"""Masks change form without losing a pixel, and sizes are what the network can take."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from maskstream import masks

SIZES = st.tuples(st.integers(1, 20), st.integers(1, 20))
ID_MAPS = arrays(np.uint8, SIZES, elements=st.sampled_from([0, 1, 7, 128, 255]))


@given(ID_MAPS)
def test_an_id_map_survives_as_one_certain_mask_an_object(id_map: np.ndarray) -> None:
    ids = masks.object_ids(id_map)
    soft = np.equal(id_map[None], np.reshape(ids, (-1, 1, 1))).astype(np.float32)
    np.testing.assert_array_equal(masks.to_id_map(soft, ids), id_map)


@given(ID_MAPS)
def test_an_id_map_survives_its_run_lengths(id_map: np.ndarray) -> None:
    values, lengths = masks.encode_runs(id_map)
    assert (np.diff(values.astype(int)) != 0).all(), "neighbouring runs differ"
    np.testing.assert_array_equal(masks.decode_runs(values, lengths, id_map.shape), id_map)


def test_runs_that_do_not_fill_the_mask_are_refused() -> None:
    with pytest.raises(ValueError, match="the runs cover 5 pixels; a 3x2 mask has 6"):
        masks.decode_runs([1, 0], [2, 3], (2, 3))
    with pytest.raises(ValueError, match="1 run values but 2 run lengths"):
        masks.decode_runs([1], [2, 4], (2, 3))


@pytest.mark.parametrize("objects", [1, 3])
def test_the_likeliest_of_background_and_objects_wins(objects: int) -> None:
    soft = np.random.default_rng(0).dirichlet(np.ones(objects + 1), size=(8, 9)).astype(np.float32)
    expected = soft.argmax(axis=2)  # channel 0 is background
    found = masks.to_id_map(np.moveaxis(soft[..., 1:], 2, 0), list(range(1, objects + 1)))
    np.testing.assert_array_equal(found, expected)


def test_no_object_is_all_background() -> None:
    assert not masks.to_id_map(np.zeros((0, 4, 5), np.float32), []).any()


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        ((480, 854), (480, 848)),
        ((479, 853), (480, 848)),  # an odd size, to the nearest multiples
        ((1080, 1920), (480, 848)),
        ((240, 320), (480, 640)),  # a small frame is enlarged ...
        ((120, 160), (240, 320)),  # ... at most twofold
        ((5, 5), (16, 16)),  # and to one token at least
        ((100, 8000), (32, 1920)),  # a strip is bounded by its long side
    ],
)
def test_working_sizes(frame: tuple[int, int], expected: tuple[int, int]) -> None:
    assert masks.working_size(*frame, short_side=480, stride=16, max_long_side=1920) == expected


def test_a_thin_line_keeps_its_mass_when_shrunk() -> None:
    soft = np.zeros((1, 64, 64), np.float32)
    soft[0, :, 31] = 1
    assert masks.resize_soft(soft, (16, 16)).mean() == pytest.approx(soft.mean(), rel=1e-5)


def test_bounding_boxes_are_tight_and_absent_for_nothing() -> None:
    mask = np.zeros((20, 30), np.uint8)
    assert masks.bounding_box(mask) is None
    mask[4:9, 10:13] = 1
    assert masks.bounding_box(mask) == (10, 4, 3, 5)


def test_resizing_frames_keeps_colour_channels_in_their_place() -> None:
    frame = np.zeros((96, 96, 3), np.uint8)
    frame[..., 0] = 200
    for size in ((48, 48), (80, 80), (96, 96)):
        assert masks.resize_frame(frame, size).reshape(-1, 3).mean(axis=0).tolist() == [200, 0, 0]

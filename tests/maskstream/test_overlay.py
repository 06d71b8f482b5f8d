"""Overlays: steady colours, untouched background; sheets and samples of them."""

import numpy as np
import pytest

from maskstream.overlay import EvenSample, colour_table, contact_sheet, draw_overlay


def grey_frame() -> np.ndarray:
    return np.full((120, 160, 3), 90, dtype=np.uint8)


def test_colours_differ_from_id_to_id() -> None:
    table = colour_table()[:, 0].astype(int)
    assert table[0].tolist() == [0, 0, 0]
    assert len(np.unique(table, axis=0)) > 200
    assert np.abs(np.diff(table[1:40], axis=0)).sum(axis=1).min() > 100


def test_object_is_tinted_and_the_rest_left_alone() -> None:
    frame = grey_frame()
    id_map = np.zeros((120, 160), dtype=np.uint8)
    id_map[50:90, 60:110] = 7
    drawn = draw_overlay(frame, id_map)
    colour = colour_table()[7, 0].astype(int)
    assert np.abs(drawn[70, 85].astype(int) - (0.55 * 90 + 0.45 * colour)).max() < 2
    assert np.abs(drawn[70, 60].astype(int) - colour).max() < 40  # the contour is the colour itself
    np.testing.assert_array_equal(drawn[95:], frame[95:])
    np.testing.assert_array_equal(frame, grey_frame())  # what was given is not drawn on


def test_objects_at_every_edge_can_be_drawn() -> None:
    id_map = np.zeros((120, 160), dtype=np.uint8)
    id_map[0, 0], id_map[-1, -1], id_map[0, -1], id_map[-1, 0] = 1, 255, 3, 4
    assert draw_overlay(grey_frame(), id_map).shape == (120, 160, 3)
    assert draw_overlay(grey_frame(), np.full((120, 160), 9, dtype=np.uint8)).shape == (120, 160, 3)


def test_contact_sheet_reads_like_a_page() -> None:
    frames = [np.full((60, 80, 3), shade, dtype=np.uint8) for shade in (10, 60, 110, 160, 210)]
    sheet = contact_sheet(frames, columns=3, width=252)
    assert sheet.shape == (126, 252, 3)
    assert [int(sheet[30, x, 0]) for x in (40, 126, 212)] == [10, 60, 110]
    assert [int(sheet[96, x, 0]) for x in (40, 126, 212)] == [160, 210, 255]  # an empty place stays white
    with pytest.raises(ValueError, match="at least one frame"):
        contact_sheet([])


@pytest.mark.parametrize("length", [0, 1, 5, 9, 10, 90, 1000])
def test_even_sample_spans_a_stream_of_unknown_length(length: int) -> None:
    sample = EvenSample(9)
    for index in range(length):
        sample.offer(np.full((1, 1, 3), index % 256, dtype=np.uint8))
    kept = sample.pictures()
    assert len(kept) == min(length, 9)
    if 9 < length <= 256:
        values = [int(picture[0, 0, 0]) for picture in kept]
        assert values[0] == 0
        assert values[-1] >= 0.75 * length
        assert max(np.diff(values)) <= 2 * length / 8

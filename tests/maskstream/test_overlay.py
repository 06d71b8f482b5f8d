"""Overlays: steady colours, untouched background; sheets and samples of them."""

import numpy as np
import pytest

from maskstream.overlay import (
    EvenSample,
    colour_table,
    contact_sheet,
    contrast,
    draw_overlay,
    text_colour,
    titled,
)


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


@pytest.mark.parametrize("object_id", range(1, 256))
def test_text_can_be_read_on_every_colour(object_id: int) -> None:
    patch = tuple(colour_table()[object_id, 0].tolist())
    assert contrast(text_colour(patch), patch) >= 4.5


def test_contrast_of_known_colours() -> None:
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21.0)
    assert contrast((119, 119, 119), (255, 255, 255)) == pytest.approx(4.48, abs=0.01)  # as web tools give it


@pytest.mark.parametrize("ground", [0, 90, 255])
def test_contour_stands_out_from_ground_of_any_brightness(ground: int) -> None:
    frame = np.full((120, 160, 3), ground, dtype=np.uint8)
    id_map = np.zeros((120, 160), dtype=np.uint8)
    id_map[50:90, 60:110] = 7
    drawn = draw_overlay(frame, id_map)
    colour = colour_table()[7, 0]
    np.testing.assert_array_equal(drawn[89, 70:100], np.broadcast_to(colour, (30, 3)))
    assert contrast(tuple(colour.tolist()), tuple(drawn[90, 80].tolist())) > 3  # the rim just outside
    np.testing.assert_array_equal(drawn[92:], frame[92:])


def test_objects_that_touch_keep_their_own_contours() -> None:
    id_map = np.zeros((120, 160), dtype=np.uint8)
    id_map[40:100, 20:80], id_map[40:100, 80:140] = 1, 2
    drawn = draw_overlay(grey_frame(), id_map)
    assert drawn[80, 79].tolist() == colour_table()[1, 0].tolist()
    assert drawn[80, 80].tolist() == colour_table()[2, 0].tolist()


def test_a_name_takes_the_place_of_the_id() -> None:
    id_map = np.zeros((120, 160), dtype=np.uint8)
    id_map[50:90, 60:110] = 7
    plain, named = draw_overlay(grey_frame(), id_map), draw_overlay(grey_frame(), id_map, {7: "left hand", 8: "other"})
    changed = np.flatnonzero((plain != named).any(axis=(0, 2)))
    assert changed.size > 30  # columns: the patch is as wide as its text
    assert changed.max() < 160
    np.testing.assert_array_equal(plain[60:], named[60:])


def test_names_of_any_kind_are_drawn_within_the_frame() -> None:
    id_map = np.full((40, 60), 3, dtype=np.uint8)
    for name in ("", "a" * 500, "Gro\u00dfe K\u00fcche", "\u732b"):
        assert draw_overlay(np.zeros((40, 60, 3), np.uint8), id_map, {3: name}).shape == (40, 60, 3)


def test_lost_objects_are_listed_at_the_lower_edge() -> None:
    frame, nothing = grey_frame(), np.zeros((120, 160), dtype=np.uint8)
    drawn = draw_overlay(frame, nothing, lost=[4, 5])
    np.testing.assert_array_equal(drawn[:90], frame[:90])
    for object_id in (4, 5):
        assert (drawn[90:] == colour_table()[object_id, 0]).all(axis=2).sum() > 100
    many = draw_overlay(frame, nothing, lost=range(1, 200))
    assert many.shape == frame.shape


def test_a_crumb_far_away_does_not_take_the_label_along() -> None:
    frame, whole = np.full((200, 300, 3), 90, np.uint8), np.zeros((200, 300), np.uint8)
    whole[100:160, 180:260] = 1
    torn = whole.copy()
    torn[40:48, 8:16] = 1
    drawn, with_crumb = draw_overlay(frame, whole), draw_overlay(frame, torn)
    np.testing.assert_array_equal(with_crumb[:, 100:], drawn[:, 100:])
    assert (with_crumb[:30, :40] == 90).all()


def test_labels_grow_with_the_frame() -> None:
    heights = []
    for scale in (1, 4):
        id_map = np.zeros((240 * scale, 320 * scale), dtype=np.uint8)
        id_map[120 * scale : 200 * scale, 100 * scale : 200 * scale] = 6
        drawn = draw_overlay(np.zeros((*id_map.shape, 3), np.uint8), id_map)
        above = drawn[: 118 * scale]
        heights.append(int(above.any(axis=(1, 2)).sum()))
    assert heights[1] > 1.8 * heights[0]


def test_title_stands_above_an_unchanged_picture() -> None:
    for width in (64, 800, 1920):
        picture = np.full((width // 2, width, 3), 90, dtype=np.uint8)
        tall = titled(picture, "frame 12  0.40 s")
        strip = tall.shape[0] - picture.shape[0]
        assert 0.06 * width < strip < 0.2 * width
        np.testing.assert_array_equal(tall[strip:], picture)
        assert tall[:strip].max() > 150

"""Masks in COCO's JSON: run-length strings against cases worked out by hand, and the file as a whole."""

import json
from pathlib import Path

import numpy as np
import pytest

from maskstream.followed import FollowedFrame
from maskstream.sinks.coco import CocoFile, packed, run_lengths, segmentation
from maskstream.tracker import ObjectState


def unpacked(counts: str) -> list[int]:
    """The definition read backwards: five bits a letter, lowest first, then the sums with the one before the last."""
    lengths: list[int] = []
    value = shift = 0
    for letter in counts:
        group = ord(letter) - 48
        value |= (group & 31) << shift
        shift += 5
        if not group & 32:
            value -= (1 << shift) if group & 16 else 0
            lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
            value = shift = 0
    return lengths


def filled(lengths: list[int], size: tuple[int, int]) -> np.ndarray:
    flat = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return flat.reshape(size[1], size[0]).T


@pytest.mark.parametrize(
    ("rows", "lengths"),
    [
        (["00", "00"], [4]),
        (["11", "11"], [0, 4]),
        (["10", "00"], [0, 1, 3]),
        (["01", "00"], [2, 1, 1]),  # down the columns: 0 0, then 1 0
        (["00", "10"], [1, 1, 2]),
        (["011", "010"], [2, 3, 1]),
    ],
)
def test_runs_go_down_the_columns_and_start_with_zeros(rows: list[str], lengths: list[int]) -> None:
    mask = np.array([[letter == "1" for letter in row] for row in rows])
    assert run_lengths(mask) == lengths


@pytest.mark.parametrize(
    ("lengths", "letters"),
    [
        ([4], "4"),
        ([0, 4], "04"),
        ([15], "?"),  # 01111: the highest number of one letter
        ([16], "`0"),  # 10000 alone would be negative: 110000 and 000000, and 48 is added to both
        ([31], "o0"),
        ([32], "P1"),
        ([5, 7, 9, 7], "5790"),  # the fourth is its difference to the second
        ([5, 7, 9, 6], "579O"),  # -1 is 11111: 31 + 48
        ([5, 30, 9, 7], "5n09YO"),  # 7 - 30 = -23 is ...11101001: 101001, then 11111
    ],
)
def test_packed_runs_worked_out_by_hand(lengths: list[int], letters: str) -> None:
    assert packed(lengths) == letters
    assert unpacked(letters) == lengths


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99, 1.0])
def test_any_mask_comes_back(share: float) -> None:
    rng = np.random.default_rng(3)
    for height, width in ((1, 1), (7, 1), (1, 9), (40, 33), (300, 500)):
        mask = rng.random((height, width)) < share
        found = segmentation(mask)
        assert found["size"] == [height, width]
        np.testing.assert_array_equal(filled(unpacked(found["counts"]), (height, width)), mask)


def frame(index: int, id_map: np.ndarray) -> FollowedFrame:
    objects = tuple(ObjectState(i, 0.5 + i / 100, 1.0, 1, None, False) for i in (1, 3, 200))
    return FollowedFrame(index, index / 10, np.zeros((*id_map.shape, 3), np.uint8), id_map, objects, {})


def no_picture() -> np.ndarray:
    raise AssertionError("nobody wants to see it")


def two_frames() -> list[FollowedFrame]:
    first, second = np.zeros((6, 8), np.uint8), np.zeros((6, 8), np.uint8)
    first[1:3, 2:6] = 3
    first[5, 7] = 200
    second[0, 0] = 3
    return [frame(0, first), frame(4, second)]


def test_file_has_images_annotations_and_tracks(tmp_path: Path) -> None:
    sink = CocoFile(tmp_path / "out/coco.json", "dog", 10.0)
    for followed in two_frames():
        sink.add(followed, no_picture)
    sink.close()
    found = json.loads((tmp_path / "out/coco.json").read_text())
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["coco.json"]  # and no part of it
    video = {"id": 1, "name": "dog", "width": 8, "height": 6, "length": 2, "frames_per_second": 10.0}
    assert found["videos"] == [video]
    assert [track["id"] for track in found["tracks"]] == [3, 200]
    assert [(image["id"], image["frame_id"], image["pts_seconds"]) for image in found["images"]] == [
        (1, 0, 0.0),
        (2, 4, 0.4),
    ]
    annotations = found["annotations"]
    assert [one["id"] for one in annotations] == [1, 2, 3]
    assert [(one["image_id"], one["track_id"]) for one in annotations] == [(1, 3), (1, 200), (2, 3)]
    assert [one["area"] for one in annotations] == [8, 1, 1]
    assert annotations[0]["bbox"] == [2, 1, 4, 2]
    assert [one["score"] for one in annotations] == [0.53, 2.5, 0.53]
    mask = filled(unpacked(annotations[0]["segmentation"]["counts"]), (6, 8))
    np.testing.assert_array_equal(mask, two_frames()[0].id_map == 3)
    categories = {category["id"] for category in found["categories"]}
    assert {one["category_id"] for one in annotations} == categories == {1}


def test_video_without_a_frame_is_still_json(tmp_path: Path) -> None:
    CocoFile(tmp_path / "coco.json", "dog", 10.0).close()
    found = json.loads((tmp_path / "coco.json").read_text())
    assert (found["images"], found["annotations"]) == ([], [])


def test_killed_before_its_end_it_leaves_its_lines_and_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "coco.json").write_text("the old one")
    sink = CocoFile(tmp_path / "coco.json", "dog", 10.0)
    sink.add(two_frames()[0], no_picture)
    lines = (tmp_path / "coco.json.annotations.part").read_text().splitlines()
    assert [json.loads(line)["track_id"] for line in lines] == [3, 200]
    assert (tmp_path / "coco.json").read_text() == "the old one"
    sink.close()
    assert len(json.loads((tmp_path / "coco.json").read_text())["annotations"]) == 2


def test_full_disk_at_the_end_leaves_the_lines_and_nothing_half(tmp_path: Path) -> None:
    sink = CocoFile(tmp_path / "coco.json", "dog", 10.0)
    sink.add(two_frames()[0], no_picture)
    (tmp_path / "coco.json.part").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        sink.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "coco.json.annotations.part",
        "coco.json.images.part",
    ]
    assert len((tmp_path / "coco.json.annotations.part").read_text().splitlines()) == 2


def test_line_cut_short_by_a_full_disk_is_left_out(tmp_path: Path) -> None:
    sink = CocoFile(tmp_path / "coco.json", "dog", 10.0)
    sink.add(two_frames()[0], no_picture)
    sink._annotations.write('{"id": 3, "image')
    sink.close()
    assert len(json.loads((tmp_path / "coco.json").read_text())["annotations"]) == 2

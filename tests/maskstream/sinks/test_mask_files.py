"""Mask trees as the benchmarks' tools find them, and as our own readers do."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from youtube_layout import squares

from maskstream.dataset import find_sequences
from maskstream.errors import VideoError
from maskstream.followed import FollowedFrame
from maskstream.pictures import read_id_map, write_jpeg
from maskstream.sinks.mask_files import DavisTree, YouTubeVosTree
from maskstream.youtube_vos import open_split

MAPS = [squares(1), squares(1, 2), squares(2), squares(1, 2)]


def followed(index: int, id_map: np.ndarray) -> FollowedFrame:
    return FollowedFrame(index, index / 24, np.full((*id_map.shape, 3), 90, np.uint8), id_map, (), {})


def no_picture() -> np.ndarray:
    raise AssertionError("nobody wants to see it")


def test_davis_tree_is_a_data_set_once_its_frames_are_there(tmp_path: Path) -> None:
    sink = DavisTree(tmp_path, "dog")
    for index, id_map in enumerate(MAPS):
        sink.add(followed(index, id_map), no_picture)
        write_jpeg(tmp_path / "JPEGImages/480p/dog" / f"{index:05d}.jpg", followed(index, id_map).frame)
    sink.close()
    (sequence,) = find_sequences(tmp_path, ["dog"])
    for step, id_map in zip(sequence.steps(), MAPS, strict=True):
        np.testing.assert_array_equal(step.truth, id_map)
    with Image.open(tmp_path / "Annotations/480p/dog/00001.png") as image:
        assert image.mode == "P"
        assert image.getpalette()[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]


def test_youtube_tree_is_a_split_once_its_frames_are_there(tmp_path: Path) -> None:
    sink = YouTubeVosTree(tmp_path, "dog")
    for index, id_map in enumerate(MAPS):
        sink.add(followed(index, id_map), no_picture)
        write_jpeg(tmp_path / "JPEGImages/dog" / f"{index:05d}.jpg", followed(index, id_map).frame)
    sink.close()
    video = open_split(tmp_path).video("dog")
    assert video.num_frames == len(MAPS)
    assert {one.object_id: (sorted(one.frames), one.prompt) for one in video.objects} == {
        1: (["00000", "00001", "00003"], "00000"),
        2: (["00001", "00002", "00003"], "00001"),
    }
    np.testing.assert_array_equal(read_id_map(tmp_path / "Annotations/dog/00002.png"), MAPS[2])


def listed(folder: Path) -> dict[str, dict[str, list[str]]]:
    videos = json.loads((folder / "meta.json").read_text())["videos"]
    return {name: {i: one["frames"] for i, one in video["objects"].items()} for name, video in videos.items()}


def test_meta_lists_a_new_object_at_once_and_never_lags_by_half(tmp_path: Path) -> None:
    sink = YouTubeVosTree(tmp_path, "dog")
    sink.add(followed(0, squares(1)), no_picture)
    assert listed(tmp_path) == {"dog": {"1": ["00000"]}}
    for index in range(1, 40):
        sink.add(followed(index, squares(1)), no_picture)
        assert len(listed(tmp_path)["dog"]["1"]) > (index + 1) / 2
    sink.add(followed(40, squares(1, 7)), no_picture)
    assert listed(tmp_path)["dog"]["7"] == ["00040"]


def test_a_second_video_joins_the_first(tmp_path: Path) -> None:
    for name in ("dog", "cat", "dog"):
        sink = YouTubeVosTree(tmp_path, name)
        sink.add(followed(0, squares(5)), no_picture)
        sink.close()
    assert listed(tmp_path) == {"dog": {"5": ["00000"]}, "cat": {"5": ["00000"]}}


@pytest.mark.parametrize("text", ["no json", "[]", '{"videos": 3}'])
def test_meta_of_somebody_else_is_not_overwritten(tmp_path: Path, text: str) -> None:
    (tmp_path / "meta.json").write_text(text)
    with pytest.raises(VideoError, match=r"meta\.json: .*(remove it|give another --out)"):
        YouTubeVosTree(tmp_path, "dog").add(followed(0, squares(5)), no_picture)
    assert (tmp_path / "meta.json").read_text() == text

"""Finding videos: what counts as one, what it is called, what tells a changed one."""

import os
from pathlib import Path

import numpy as np
import pytest

from maskstream.archive.jobs import ArchiveError
from maskstream.archive.videos import find_videos, identity
from maskstream.pictures import write_jpeg


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def names(root: Path, *leave_out: Path) -> list[str]:
    return [video.name for video in find_videos(root, leave_out)]


def test_files_and_folders_of_pictures_are_found_at_any_depth(tmp_path: Path) -> None:
    touch(
        tmp_path, "b.MP4", "a/c.mkv", "a/d/e.webm", "frames/00000.jpg", "frames/00001.jpg", "notes.txt", "x/readme.md"
    )
    assert names(tmp_path) == ["a/c", "a/d/e", "b", "frames"]


def test_pictures_beside_or_above_videos_are_thumbnails(tmp_path: Path) -> None:
    touch(tmp_path, "thumb.jpg", "a/b.mp4", "a/b.jpg", "c/poster.png", "c/d/e.mp4", "f/poster.png", "f/g/0.jpg")
    assert names(tmp_path) == ["a/b", "c/d/e", "f/g"]


def test_hidden_things_and_folders_left_out_are_not_searched(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", ".b.mp4", ".cache/c.mp4", "prompts/a.png", "out/a/masks/00000.png", "out/a/overlay.mp4")
    assert names(tmp_path, tmp_path / "prompts", tmp_path / "out") == ["a"]


def test_names_that_would_meet_keep_their_suffix(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "a.mkv", "a.mp4.avi", "b.mp4", "b/c.mp4", "d.mp4", "d/0.jpg", "E.mp4", "e.mkv", "v1.2.mp4")
    assert set(names(tmp_path)) == {
        *("a.mp4", "a.mkv", "a.mp4.avi"),  # three of one name, even when one suffix is gone
        *("b.mp4", "b/c"),  # the output of b would lie above that of b/c
        *("d.mp4", "d"),
        *("E.mp4", "e.mkv"),
        "v1.2",
    }


def test_a_video_cannot_take_the_place_of_the_manifest(tmp_path: Path) -> None:
    touch(tmp_path, "manifest.jsonl.mp4", "a.mp4")
    assert names(tmp_path) == ["a", "manifest.jsonl.mp4"]


def test_an_archive_may_be_one_folder_of_pictures(tmp_path: Path) -> None:
    touch(tmp_path, "camel/00000.jpg")
    assert names(tmp_path / "camel") == ["camel"]


@pytest.mark.parametrize("there", [True, False])
def test_nothing_to_find_is_said(tmp_path: Path, there: bool) -> None:
    folder = tmp_path if there else tmp_path / "missing"
    with pytest.raises(ArchiveError, match=f"{folder}: no (video in it|such folder)"):
        find_videos(folder)


def test_a_link_that_leads_nowhere_is_found_and_stops_nobody(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    (tmp_path / "b.mp4").symlink_to(tmp_path / "gone.mp4")
    assert names(tmp_path) == ["a", "b"]


def test_a_name_that_is_no_text_is_a_name(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.mp4"
    with open(path, "wb") as file:  # noqa: PTH123 - a path of bytes
        file.write(b"x")
    assert [os.fsencode(name) for name in names(tmp_path)] == [b"caf\xe9"]


def test_identity_changes_with_size_time_and_number(tmp_path: Path) -> None:
    for index in range(2):
        write_jpeg(tmp_path / f"{index}.jpg", np.zeros((8, 8, 3), np.uint8))
    before = identity(tmp_path)
    assert before["files"] == 2
    assert identity(tmp_path) == before
    os.utime(tmp_path / "1.jpg", ns=(0, 2**62))
    assert identity(tmp_path) != before
    (tmp_path / "1.jpg").unlink()
    assert identity(tmp_path)["files"] == 1

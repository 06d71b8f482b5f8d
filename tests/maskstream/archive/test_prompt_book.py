"""Prompts of an archive: where they are looked for, how words are read, and that a changed one is seen."""

import json
from pathlib import Path

import numpy as np
import pytest

from maskstream.archive.jobs import ArchiveError, PromptSource, Words
from maskstream.archive.prompt_book import PromptBook, identity, prompts_of
from maskstream.errors import InvalidPrompt, MaskFileError
from maskstream.pictures import write_id_map

FRAME = np.zeros((40, 60, 3), np.uint8)
FRAME[10:30, 10:30] = 255
BOX, OTHER_BOX = "10,10,20,20", "8,8,24,24"


def ids(source: PromptSource | None) -> list[int]:
    assert source is not None
    return [prompt.object_id for prompt in prompts_of(source, FRAME)]


def mask(path: Path, *object_ids: int) -> Path:
    id_map = np.zeros(FRAME.shape[:2], np.uint8)
    for place, object_id in enumerate(object_ids):
        id_map[place * 8 : place * 8 + 5, :20] = object_id
    write_id_map(path, id_map)
    return path


def test_a_mask_brings_its_own_ids(tmp_path: Path) -> None:
    mask(tmp_path / "a/b.png", 3, 7)
    assert ids(PromptBook(tmp_path).find("a/b")) == [3, 7]
    assert PromptBook(tmp_path).find("a/c") is None


def test_a_folder_of_masks_gives_its_first(tmp_path: Path) -> None:
    mask(tmp_path / "camel/00010.png", 2)
    mask(tmp_path / "camel/00002.png", 1)
    assert ids(PromptBook(tmp_path).find("camel")) == [1]


def test_lines_are_boxes_by_number_or_by_place(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(f"# two things\n\n5: {BOX}\n{OTHER_BOX}\n")
    assert ids(PromptBook(tmp_path).find("a")) == [5, 2]


def test_a_line_may_name_a_mask_file_beside_it(tmp_path: Path) -> None:
    mask(tmp_path / "v/first.png", 4)
    (tmp_path / "v/a.txt").write_text("first.png\n9: " + BOX)
    assert ids(PromptBook(tmp_path).find("v/a")) == [4, 9]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (BOX, [1]),
        ([10, 10, 20, 20], [1]),
        ([BOX, [8, 8, 24, 24]], [1, 2]),
        ({"3": BOX, "8": [8, 8, 24, 24]}, [3, 8]),
    ],
)
def test_json_has_four_ways_to_say_it(tmp_path: Path, value: object, expected: list[int]) -> None:
    (tmp_path / "a.json").write_text(json.dumps(value))
    assert ids(PromptBook(tmp_path).find("a")) == expected


def test_a_table_serves_many_videos_and_a_file_of_its_own_comes_first(tmp_path: Path) -> None:
    (tmp_path / "prompts.json").write_text(json.dumps({"a": BOX, "b/c": {"2": BOX}}))
    (tmp_path / "prompts.csv").write_text(f'video,object,prompt\nd,,"{BOX}"\nd,,"{OTHER_BOX}"\na,9,"{BOX}"\n')
    mask(tmp_path / "a.png", 6)
    book = PromptBook(tmp_path)
    assert [ids(book.find(name)) for name in ("a", "b/c", "d")] == [[6], [2], [1, 2]]
    assert ids(PromptBook(tmp_path / "prompts.csv").find("d")) == [1, 2]


def test_what_has_no_prompt_is_left_to_auto(tmp_path: Path) -> None:
    mask(tmp_path / "a.png", 1)
    book = PromptBook(tmp_path, auto=3)
    assert ids(book.find("a")) == [1]
    assert book.find("b") == PromptSource(auto=3)
    assert PromptBook(None, auto=2).find("b") == PromptSource(auto=2)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.json", "{"),
        ("p.json", "[1]"),
        ("p.json", '{"a": 5}'),
        ("p.csv", "name,prompt\n"),
        ("p.csv", "video,prompt\na,\n"),
        ("p.csv", "video,object,prompt\na,x,@1"),
    ],
)
def test_a_damaged_table_is_refused_at_once(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ArchiveError, match=f"{name}: cannot be read as a table"):
        PromptBook(tmp_path / name)


def test_a_missing_place_is_said(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="no such folder or file"):
        PromptBook(tmp_path / "none")


@pytest.mark.parametrize("text", ["", "# nothing", "1: here"])
def test_a_damaged_file_is_its_videos_error_and_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    source = PromptBook(tmp_path).find("a")
    assert source is not None
    with pytest.raises((InvalidPrompt, MaskFileError), match=r"a\.txt|here"):
        prompts_of(source, FRAME)


def test_identity_follows_the_file_and_the_masks_that_words_name(tmp_path: Path) -> None:
    by_file = PromptSource(file=mask(tmp_path / "a.png", 1))
    by_words = PromptSource(words=(Words(1, "a.png"),), folder=tmp_path)
    before = identity(by_file), identity(by_words)
    assert before == (identity(by_file), identity(by_words))
    mask(tmp_path / "a.png", 2)
    assert identity(by_file) != before[0]
    assert identity(by_words) != before[1]
    assert identity(PromptSource(auto=1)) != identity(PromptSource(auto=2))

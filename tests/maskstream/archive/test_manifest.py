"""The manifest: what is written is read again, torn ends are cut, other settings are refused, folders are adopted."""

import json
from pathlib import Path

import pytest

from maskstream.archive.jobs import DONE, FAILED, ArchiveError
from maskstream.archive.manifest import MANIFEST, Manifest, Record

SETTINGS = {"engine": "onnxruntime", "sinks": ["masks"]}
SOURCE = {"files": 1, "bytes": 10, "mtime_ns": 5}


def record(video: str, state: str = DONE, **more: object) -> Record:
    return Record(video, state, SOURCE, "hash", **more)


def test_the_last_record_of_a_video_counts(tmp_path: Path) -> None:
    manifest = Manifest.open(tmp_path, SETTINGS)
    manifest.add(record("a", FAILED, error="broken"))
    manifest.add(record("b", frames=7))
    manifest.add(record("a", frames=9))
    again = Manifest.open(tmp_path, SETTINGS)
    assert again.records == manifest.records
    assert (again.records["a"].state, again.records["a"].frames, again.records["b"].frames) == (DONE, 9, 7)


@pytest.mark.parametrize("kept", [1, 40, -2])
def test_a_torn_end_is_cut_off_and_the_next_line_stands_alone(tmp_path: Path, kept: int) -> None:
    manifest = Manifest.open(tmp_path, SETTINGS)
    manifest.add(record("a"))
    before = (tmp_path / MANIFEST).read_bytes()
    manifest.add(record("b"))
    whole = (tmp_path / MANIFEST).read_bytes()
    (tmp_path / MANIFEST).write_bytes(before + whole[len(before) :][:kept])
    again = Manifest.open(tmp_path, SETTINGS)
    assert list(again.records) == ["a"]
    again.add(record("c"))
    assert list(Manifest.open(tmp_path, SETTINGS).records) == ["a", "c"]


def test_other_settings_are_refused_and_named(tmp_path: Path) -> None:
    Manifest.open(tmp_path, SETTINGS).add(record("a"))
    with pytest.raises(ArchiveError, match=r"engine was 'onnxruntime' and is 'torch'.*--restart"):
        Manifest.open(tmp_path, {**SETTINGS, "engine": "torch"})
    assert list(Manifest.open(tmp_path, SETTINGS).records) == ["a"]


def test_beginning_again_forgets_everything(tmp_path: Path) -> None:
    Manifest.open(tmp_path, SETTINGS).add(record("a"))
    assert Manifest.begin(tmp_path, {"engine": "torch"}).records == {}
    assert Manifest.open(tmp_path, {"engine": "torch"}).records == {}


@pytest.mark.parametrize("text", ["", "hello\n", '{"format": "other", "version": 1}\n', "[]\n"])
def test_what_is_no_manifest_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(ArchiveError, match=r"manifest\.jsonl: not a manifest"):
        Manifest.open(tmp_path, SETTINGS)


def test_a_finished_folder_without_its_line_is_adopted(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    Manifest.open(tmp_path, SETTINGS).sign(folder, record("a", frames=12))
    manifest = Manifest.open(tmp_path, SETTINGS)
    manifest.adopt(folder)
    assert manifest.records["a"].frames == 12
    assert Manifest.open(tmp_path, SETTINGS).records["a"].frames == 12


def test_a_folder_of_another_archive_or_before_a_restart_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    Manifest.open(tmp_path, SETTINGS).sign(folder, record("a"))
    manifest = Manifest.begin(tmp_path, SETTINGS)
    manifest.adopt(folder)
    assert manifest.records == {}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"archive": 1}'])
def test_a_damaged_record_in_a_folder_is_none(tmp_path: Path, text: str) -> None:
    manifest = Manifest.open(tmp_path, SETTINGS)
    (tmp_path / "record.json").write_text(text)
    manifest.adopt(tmp_path)
    assert manifest.records == {}


def test_a_record_holds_while_source_and_prompt_are_the_same() -> None:
    done = record("a")
    assert done.holds_for(SOURCE, "hash")
    assert not done.holds_for({**SOURCE, "mtime_ns": 6}, "hash")
    assert not done.holds_for(SOURCE, "other")
    assert not record("a", FAILED).holds_for(SOURCE, "hash")


def test_fields_of_a_later_version_are_passed_over(tmp_path: Path) -> None:
    Manifest.open(tmp_path, SETTINGS)
    line = {"video": "a", "state": DONE, "source": SOURCE, "prompt": "hash", "colour": "blue"}
    with (tmp_path / MANIFEST).open("a") as file:
        file.write(json.dumps(line) + "\n")
    assert Manifest.open(tmp_path, SETTINGS).records["a"].holds_for(SOURCE, "hash")

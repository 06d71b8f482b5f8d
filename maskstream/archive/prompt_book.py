"""Which prompt belongs to which video of an archive, by the video's name.

For the video a/b under PROMPTS: a/b.png (a mask of the first frame), a/b.txt or a/b.json (words), the first PNG of the
folder a/b (as DAVIS keeps its masks), or its entry in PROMPTS/prompts.json or prompts.csv; the first of these counts.
Here files are only found. They are read by the worker, so that a damaged one costs its video alone.
"""

import csv
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maskstream.archive.jobs import ArchiveError, PromptSource, Words
from maskstream.errors import InvalidPrompt
from maskstream.prompt_kinds import RegionPrompt
from maskstream.prompts import parse_prompt
from maskstream.tracker import Frame
from maskstream.video import list_pictures

TABLES = ("prompts.json", "prompts.csv")
_FILES = (".png", ".txt", ".json")
_NUMBERED = re.compile(r"^\s*(\d+)\s*:\s*(.+)$")
_LINES = "expected lines such as '1: 310,120,180,240' (a box), '2: @120,80;130,95' (points) or '3: mask.png'"


class PromptBook:
    """Prompts of a folder, or of one table (.json or .csv). Raises ArchiveError for a table that cannot be read."""

    def __init__(self, place: Path | None, auto: int = 0) -> None:
        self._folder = place
        self._auto = auto
        self._table: Mapping[str, tuple[Words, ...]] = {}
        if place is None:
            return
        if place.is_file():
            self._folder, self._table = place.resolve().parent, _read_table(place)
        elif place.is_dir():
            self._folder = place.resolve()
            tables = [place / name for name in TABLES if (place / name).is_file()]
            self._table = {name: words for table in reversed(tables) for name, words in _read_table(table).items()}
        else:
            raise ArchiveError(f"{place}: no such folder or file; --prompts takes a folder, a .json or a .csv table")

    def find(self, video: str) -> PromptSource | None:
        """The prompt of the video of that name; None when it has none and none is to be found by itself."""
        file = self._file_of(video)
        if file is not None and self._folder is not None:
            return PromptSource(file=file, folder=file.parent)
        if video in self._table and self._folder is not None:
            return PromptSource(words=self._table[video], folder=self._folder)
        return PromptSource(auto=self._auto) if self._auto else None

    def _file_of(self, video: str) -> Path | None:
        if self._folder is None:
            return None
        for suffix in _FILES:
            file = self._folder / (video + suffix)
            if file.is_file() and file.name not in TABLES:
                return file
        masks = self._folder / video
        pictures = list_pictures(masks) if masks.is_dir() else []
        return next((picture for picture in pictures if picture.suffix.lower() == ".png"), None)


def identity(prompt: PromptSource) -> str:
    """A hash of all that the prompt says, so that a changed one is seen."""
    words = prompt.words
    digest = hashlib.sha256(json.dumps([prompt.auto, [[word.object_id, word.text] for word in words]]).encode())
    named = [prompt.folder / word.text for word in words if _is_mask(word.text)]
    for file in [*filter(None, [prompt.file]), *named]:
        digest.update(file.read_bytes() if file.is_file() else b"missing")
    return digest.hexdigest()


def prompts_of(source: PromptSource, frame: Frame) -> list[RegionPrompt]:
    """The prompts for the first `frame`. Raises InvalidPrompt or MaskFileError, naming the file at fault."""
    prompts: dict[int, RegionPrompt] = {}
    for words in _words(source):
        text = str(source.folder / words.text) if _is_mask(words.text) else words.text
        try:
            prompts |= {prompt.object_id: prompt for prompt in parse_prompt(text, frame, words.object_id)}
        except InvalidPrompt as error:
            raise InvalidPrompt(f"{source.file}: {error}" if source.file else str(error)) from error
    return list(prompts.values())


def _words(source: PromptSource) -> tuple[Words, ...]:
    if source.file is None:
        return source.words
    if source.file.suffix.lower() == ".png":
        return (Words(1, source.file.name),)
    try:
        text = source.file.read_text(encoding="utf-8")
        return _of_json(json.loads(text)) if source.file.suffix == ".json" else _of_lines(text)
    except (OSError, ValueError) as error:
        raise InvalidPrompt(f"{source.file}: cannot be read as prompts ({error}); {_LINES}") from error


def _is_mask(text: str) -> bool:
    return text.lower().endswith(".png")


def _of_lines(text: str) -> tuple[Words, ...]:
    """A prompt a line; one without a number has that of its place. Empty lines and those that begin with # are none."""
    lines = [line.strip() for line in text.splitlines()]
    words = tuple(_of_line(line, place) for place, line in enumerate(filter(_says, lines), start=1))
    if not words:
        raise ValueError("it has no line")
    return words


def _says(line: str) -> bool:
    return bool(line) and not line.startswith("#")


def _of_line(line: str, place: int) -> Words:
    numbered = _NUMBERED.match(line)
    return Words(int(numbered[1]), numbered[2].strip()) if numbered else Words(place, line)


def _of_json(value: Any) -> tuple[Words, ...]:
    """Text, a list of texts, or texts by object id; a list of four numbers is as good as the text of a box."""
    if isinstance(value, dict):
        words = tuple(Words(int(number), _text(one)) for number, one in value.items())
    elif isinstance(value, list) and not _is_box(value):
        words = tuple(Words(place, _text(one)) for place, one in enumerate(value, start=1))
    else:
        words = _of_lines(_text(value))
    if not words:
        raise ValueError("it names no object")
    return words


def _text(value: Any) -> str:
    if _is_box(value):
        return ",".join(str(number) for number in value)
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is neither text nor a box [x, y, width, height]")
    return value


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(type(number) is int for number in value)


def _read_table(file: Path) -> dict[str, tuple[Words, ...]]:
    try:
        text = file.read_text(encoding="utf-8-sig")
        if file.suffix.lower() == ".csv":
            return _of_rows(text)
        table = json.loads(text)
        if not isinstance(table, dict):
            raise ValueError("it is no object of names and prompts")
        return {str(name): _of_json(value) for name, value in table.items()}
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise ArchiveError(
            f"{file}: cannot be read as a table of prompts ({error}); expected JSON such as "
            '{"a/b": {"1": "310,120,180,240"}} or CSV with the columns video, object, prompt'
        ) from error


def _of_rows(text: str) -> dict[str, tuple[Words, ...]]:
    reader = csv.DictReader(text.splitlines())
    missing = {"video", "prompt"} - set(reader.fieldnames or ())
    if missing:
        raise ValueError(f"the column {' and '.join(sorted(missing))} is missing")
    found: dict[str, tuple[Words, ...]] = {}
    for row in reader:
        known = found.get(row["video"], ())
        prompt = row["prompt"]
        if not prompt:
            raise ValueError(f"line {reader.line_num} has no prompt")
        found[row["video"]] = (*known, Words(int(row.get("object") or len(known) + 1), prompt.strip()))
    return found

"""The manifest: what became of each video, one line of JSON for each time it came to an end, the last one counting.

A line is added by one write, so a killed run leaves whole lines and at most one torn end, which is cut off at the next
start. The same record lies in the video's finished folder, which gets its name only when all in it is written: a run
that is killed between the two finds the folder, and takes the record from there.
"""

import errno
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from maskstream.archive.jobs import DONE, ArchiveError

MANIFEST, RECORD = "manifest.jsonl", "record.json"
FORMAT, VERSION = "maskstream-archive", 1
_START_AGAIN = "give another --out, or --restart to follow all videos again"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Record:
    """What became of one video. `source` and `prompt` are identities, to see whether either has changed since."""

    video: str
    state: str  # jobs.DONE, FAILED or NO_PROMPT
    source: dict[str, Any]
    prompt: str = ""
    frames: int = 0
    seconds: float = 0.0
    attempts: int = 0
    reason: str = ""
    error: str = ""
    ended: str = field(default_factory=_now)

    def holds_for(self, source: Mapping[str, Any], prompt: str) -> bool:
        """Whether the video is done, and as its source and prompt are now."""
        return self.state == DONE and self.source == source and self.prompt == prompt


class Manifest:
    """An open manifest; `records` has the last record of each video. One process has it open: see out_lock."""

    def __init__(self, folder: Path, archive_id: str, records: dict[str, Record]) -> None:
        self._folder, self._archive_id = folder, archive_id
        self.records = records

    @classmethod
    def open(cls, folder: Path, settings: Mapping[str, Any]) -> "Manifest":
        """The manifest of an output folder, begun where there is none.

        Raises ArchiveError when it was begun with other `settings`, and when it is not a manifest at all.
        """
        path = folder / MANIFEST
        if not path.exists():
            return cls.begin(folder, settings)
        header, lines = _read(path)
        _refuse_others(path, header["settings"], dict(settings))
        return cls(folder, header["archive"], {record.video: record for record in lines})

    @classmethod
    def begin(cls, folder: Path, settings: Mapping[str, Any]) -> "Manifest":
        """An empty manifest in place of any other: nothing counts as done, whatever lies in the folder."""
        archive_id = secrets.token_hex(8)
        header = {"format": FORMAT, "version": VERSION, "archive": archive_id, "settings": dict(settings)}
        begun = folder / f"{MANIFEST}.begun"
        begun.write_text(json.dumps(header) + "\n", encoding="utf-8")
        begun.replace(folder / MANIFEST)
        return cls(folder, archive_id, {})

    def add(self, record: Record) -> None:
        """Write a record down; it is on the disk when this returns."""
        line = (json.dumps(asdict(record)) + "\n").encode()
        file = os.open(self._folder / MANIFEST, os.O_WRONLY | os.O_APPEND)
        try:
            if os.write(file, line) < len(line):  # the torn end is cut off at the next start
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._folder / MANIFEST))
            os.fsync(file)
        finally:
            os.close(file)
        self.records[record.video] = record

    def sign(self, folder: Path, record: Record) -> None:
        """Leave the record in a folder that is about to get its name."""
        text = json.dumps({"archive": self._archive_id, **asdict(record)}, indent=1) + "\n"
        (folder / RECORD).write_text(text, encoding="utf-8")

    def adopt(self, folder: Path) -> None:
        """Take over the record of a finished folder whose line was never written."""
        try:
            signed = json.loads((folder / RECORD).read_text(encoding="utf-8"))
            if signed["archive"] == self._archive_id:
                self.add(_record(signed))
        except (OSError, ValueError, KeyError, TypeError):
            return  # not one of ours, so the video is followed, and the folder replaced


def _read(path: Path) -> tuple[dict[str, Any], list[Record]]:
    """Header and records. Cuts off a torn last line, so that the next one does not join it."""
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        os.truncate(path, whole)
    try:
        header, *lines = [json.loads(line) for line in data[:whole].splitlines()]
        if (header["format"], header["version"]) != (FORMAT, VERSION):
            raise ValueError(f"its version is {header['version']}, expected {VERSION}")
        return {"archive": str(header["archive"]), "settings": dict(header["settings"])}, [
            _record(one) for one in lines
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise ArchiveError(f"{path}: not a manifest that can be gone on with ({error!r}); {_START_AGAIN}") from error


def _record(values: Mapping[str, Any]) -> Record:
    return Record(**{key.name: values[key.name] for key in fields(Record) if key.name in values})


def _refuse_others(path: Path, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    changed = [
        f"{key} was {then.get(key)!r} and is {now.get(key)!r}"
        for key in sorted({*then, *now})
        if then.get(key) != now.get(key)
    ]
    if changed:
        raise ArchiveError(f"{path} was begun with other settings ({'; '.join(changed)}); {_START_AGAIN}")

"""Progress in words and by bytes, and names that no terminal could print."""

from pathlib import Path

import pytest

from maskstream.archive import archive_progress as module
from maskstream.archive.archive_progress import archive_progress, shown
from maskstream.archive.jobs import DONE, FAILED, Beat, Job, PromptSource
from maskstream.archive.manifest import Record


def job(name: str) -> Job:
    return Job(name, Path(name), PromptSource(), Path())


def test_frames_under_way_count_and_ended_videos_are_not_counted_twice() -> None:
    with archive_progress({"a": 300, "b": 100}, quiet=True) as progress:
        progress.on_beat(job("a"), Beat("a", 5, 10))
        assert progress.line().startswith("0/2 videos, 5 frames, ")
        progress.on_record(Record("a", DONE, {}, frames=10))
        progress.on_beat(job("b"), Beat("b", 3, None))
        assert progress.line().startswith("1/2 videos, 13 frames, ")
        progress.on_record(Record("b", FAILED, {}, frames=3))
        assert progress.line().endswith(", 1 failed")


def test_a_log_gets_lines_with_the_time_that_is_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    with archive_progress({"a": 300, "b": 100}, quiet=False) as progress:
        now[0] = 9.0
        progress.on_beat(job("a"), Beat("a", 1, 10))
        assert capsys.readouterr().err == ""
        now[0] = 300.0
        progress.on_beat(job("a"), Beat("a", 5, 10))  # 150 of 400 bytes in 300 s: 500 s are left
        assert capsys.readouterr().err == "track-many: 0/2 videos, 5 frames, 0.0 frames/s, about 8 min left\n"
        progress.on_record(Record("a", FAILED, {}, frames=5, reason="STALLED", error="no frame"))
        assert capsys.readouterr().err == "a: failed, STALLED: no frame\n"


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with archive_progress({"a": 1}, quiet=True) as progress:
        progress.tell("hello")
        progress.on_record(Record("a", FAILED, {}))
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar_and_names_are_not_read_as_markup(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with archive_progress({"[red]a": 10}, quiet=False) as progress:
        progress.on_beat(job("[red]a"), Beat("[red]a", 2, 4))
        progress.tell("[red]a: it is tried once more")
    assert "[red]a: it is tried once more" in capsys.readouterr().err


def test_names_are_printable() -> None:
    assert shown("caf\udce9\n\x1b[2J") == "caf\\udce9\\n\\x1b[2J"
    assert shown("plain name") == "plain name"

"""The report of a run: counts that add up, and failures that are named."""

import sys
from pathlib import Path

import pytest

from maskstream.archive.archive_run import Plan, Todo
from maskstream.archive.jobs import DONE, FAILED, NO_PROMPT, PromptSource
from maskstream.archive.manifest import Record
from maskstream.archive.summary import Effort, print_summary, summarise
from maskstream.archive.videos import ArchivedVideo


def plan(todo: int) -> Plan:
    videos = [Todo(ArchivedVideo(str(i), Path(str(i)), {}), PromptSource(), "") for i in range(todo)]
    return Plan(videos, [Record("kept", DONE, {}, frames=1000)], [Record("bare", NO_PROMPT, {})])


def test_every_video_is_counted_once_and_only_frames_of_this_run(capsys: pytest.CaptureFixture[str]) -> None:
    records = [
        Record("0", DONE, {}, frames=30),
        Record("1", FAILED, {}, frames=7, reason="STALLED", error="no frame", attempts=2),
        Record("2", DONE, {}, frames=10),
    ]
    report = summarise(plan(5), records, Effort(8.0, 2, 1, "onnxruntime"), Path("out"), interrupted=True)
    assert report["videos"] == {"done": 2, "done before": 1, "failed": 1, "no prompt": 1, "not reached": 2}
    assert (report["frames"], report["seconds"], report["fps"], report["interrupted"]) == (40, 8.0, 5.0, True)
    assert report["failures"] == [{"video": "1", "reason": "STALLED", "error": "no frame", "attempts": 2}]
    assert report["without_prompt"] == ["bare"]
    print_summary(report, sys.stdout)
    printed = capsys.readouterr().out
    assert "  1: STALLED: no frame" in printed
    assert "  bare" in printed
    assert "40 frames in 8.0 s, 5.0 frames/s; 2 workers with 1 threads each" in printed
    assert str(Path("out/manifest.jsonl")) in printed


def test_a_thousand_failures_are_not_all_printed(capsys: pytest.CaptureFixture[str]) -> None:
    records = [Record(str(i), FAILED, {}, error="broken\nfile") for i in range(1000)]
    print_summary(summarise(plan(1000), records, Effort(1.0, 1, 1, "x"), Path("out")), sys.stdout)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 40
    assert any("and 980 more" in line for line in lines)

"""Percentiles, tables and JSON reports; provenance and progress beside them."""

import json
import platform
from pathlib import Path

import pytest

from maskstream.progress import progress
from maskstream.provenance import git_revision, hardware, versions
from maskstream.report import STDOUT, StageTimes, percentiles, stage_table, write_report


def test_percentiles_in_milliseconds() -> None:
    assert percentiles([index / 1000 for index in range(101)]) == {"p50_ms": 50.0, "p95_ms": 95.0, "p99_ms": 99.0}
    with pytest.raises(ValueError, match="no duration"):
        percentiles([])


def test_stages_come_in_the_order_of_a_frame() -> None:
    times = StageTimes()
    times.add({"total": 0.5, "segment": 0.2, "batch_wait": 0.1})
    times.add({"total": 0.7, "queue": 0.1})
    assert list(times.percentiles()) == ["queue", "segment", "total", "batch_wait"]
    assert times.percentiles()["total"]["p50_ms"] == 600.0


def test_stages_as_a_table() -> None:
    assert "p95 ms" in str(stage_table({"total": {"p50_ms": 1.0, "p95_ms": 2.0, "p99_ms": 3.0}}))


def test_report_holds_what_was_printed_and_where_it_comes_from(tmp_path: Path) -> None:
    write_report(tmp_path / "new" / "report.json", {"fps": 12.5})
    report = json.loads((tmp_path / "new" / "report.json").read_text())
    assert set(report) == {"fps", "versions", "hardware", "git_revision"}
    assert report["fps"] == 12.5
    assert report["versions"]["python"] == platform.python_version()
    assert "numpy" in report["versions"]


def test_report_is_valid_json_or_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_report(tmp_path / "report.json", {"fps": float("nan")})


def test_hardware_and_versions() -> None:
    found = hardware()
    assert found["cores"] >= 1
    assert found["memory_bytes"] > 2**28
    assert found["cpu"]
    assert "opencv-python-headless" in versions()
    revision = git_revision()
    assert revision is None or len(revision.removesuffix("-dirty")) in {40, 64}


def test_progress_is_plain_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("track", 2) as advance:
        advance()
        advance()
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("track: 2/2 frames, ")


def test_quiet_progress_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("track", 2, quiet=True) as advance:
        advance()
    assert tuple(capsys.readouterr()) == ("", "")


def test_report_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    write_report(STDOUT, {"fps": 12.5})
    assert json.loads(capsys.readouterr().out)["fps"] == 12.5
    assert not Path("-").exists()

"""What a batch tells while it runs, on a terminal and in a log."""

from pathlib import Path

import pytest
from rich.console import Console

from export.batch_report import PASSED, BatchReport, Lines, LiveTable, Result


def rows_of_a_long_batch(tmp_path: Path) -> BatchReport:
    results = [Result(f"build-{i}", {}, PASSED, seconds=1.0) for i in range(20)]
    results += [Result(f"build-{i}", {}) for i in range(20, 40)]
    return BatchReport(tmp_path, {}, results)


def test_the_table_on_a_terminal_shows_what_runs_however_long_it_is(tmp_path: Path) -> None:
    shown = LiveTable(rows_of_a_long_batch(tmp_path), height=16)
    shown.begin(20, 9)
    shown.step()
    console = Console(width=120, height=16, color_system=None)
    with console.capture() as captured:
        console.print(shown.render())
    lines = captured.get().splitlines()
    assert len(lines) <= 16
    assert any("build-20" in line and "1/9 steps" in line for line in lines)
    assert "20 passed, 20 pending" in captured.get()
    assert "build-23" in captured.get()


def test_a_log_gets_one_line_for_each_build(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(rows_of_a_long_batch(tmp_path))
    lines.begin(3, 2)
    lines.step()
    lines.end()
    assert capsys.readouterr().err == "[4/40] build-3: passed, 1.0 s\n"

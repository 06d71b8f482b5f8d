"""Tables: ruled on a terminal with room, whole and plain everywhere else."""

import io

import pytest

from maskstream.report import table
from maskstream.tables import plain_table, print_table

HEADERS, ROWS = ["engine", "precision", "fps"], [["torch", "fp32", 1.5], ["openvino", "int8", None]]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)


def test_plain_text_where_there_is_no_terminal() -> None:
    file = io.StringIO()
    print_table(HEADERS, ROWS, text_columns=2, file=file)
    assert file.getvalue().splitlines() == [
        "engine    precision   fps",
        "--------  ---------  ----",
        "torch     fp32       1.50",
        "openvino  int8          -",
    ]


def test_one_column_of_text_is_the_table_of_reports() -> None:
    assert plain_table(HEADERS, ROWS) == table(HEADERS, ROWS)
    assert plain_table(HEADERS, [], text_columns=2).splitlines()[0] == "engine  precision  fps"


def test_ruled_and_coloured_on_a_terminal() -> None:
    file = Terminal()
    print_table(HEADERS, ROWS, styles={"int8": "green"}, file=file)
    assert "\x1b[" in file.getvalue()
    assert "1.50" in file.getvalue()
    assert "---" not in file.getvalue()


def test_no_figure_is_cut_to_fit_a_narrow_terminal() -> None:
    file = Terminal()
    print_table(HEADERS, [["x" * 70, "fp32", 1.5]], file=file)
    assert file.getvalue() == plain_table(HEADERS, [["x" * 70, "fp32", 1.5]]) + "\n"

"""Tables: ruled on a terminal with room, whole and plain everywhere else."""

import io

import pytest

from maskstream.tables import Table, print_table

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
    print_table(Table(HEADERS, ROWS, text_columns=2), file=file)
    assert file.getvalue().splitlines() == [
        "engine    precision   fps",
        "--------  ---------  ----",
        "torch     fp32       1.50",
        "openvino  int8          -",
    ]


def test_numbers_line_up_to_the_right_and_nothing_is_a_dash() -> None:
    assert str(Table(["", "J"], [["a", 1.0], ["long name", None]])).splitlines() == [
        "              J",
        "---------  ----",
        "a          1.00",
        "long name     -",
    ]
    assert str(Table(HEADERS, [], text_columns=2)).splitlines()[0] == "engine  precision  fps"


def test_ruled_and_coloured_on_a_terminal() -> None:
    file = Terminal()
    print_table(Table(HEADERS, ROWS), styles={"int8": "green"}, file=file)
    assert "\x1b[" in file.getvalue()
    assert "1.50" in file.getvalue()
    assert "---" not in file.getvalue()


def test_no_figure_is_cut_to_fit_a_narrow_terminal() -> None:
    file = Terminal()
    wide = Table(HEADERS, [["x" * 70, "fp32", 1.5]])
    print_table(wide, file=file)
    assert file.getvalue() == f"{wide}\n"

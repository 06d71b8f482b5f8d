"""Tables for people: ruled and coloured on a terminal that is wide enough, plain lined-up text everywhere else.

One function for all commands, so that they look alike. Plain text is what `maskstream.report.table` gives: a figure is
never cut short to fit, and a log or a pipe gets no control characters.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from maskstream.report import table


def print_table(
    headers: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    text_columns: int = 1,
    styles: Mapping[str, str] | None = None,
    file: TextIO | None = None,
) -> None:
    """Print rows under their headers; the first `text_columns` stand to the left and the others to the right.

    `styles` gives cells with just these words a colour on a terminal. `file` is standard output by default.
    """
    file = file or sys.stdout
    console = Console(file=file, highlight=False)
    if console.is_terminal and not console.is_dumb_terminal:
        drawn = _ruled(headers, rows, text_columns, styles or {})
        if console.measure(drawn).minimum <= console.width and _widest(headers, rows) <= console.width:
            console.print(drawn)
            return
    print(plain_table(headers, rows, text_columns), file=file)


def plain_table(headers: Sequence[str], rows: Sequence[Sequence[object]], text_columns: int = 1) -> str:
    """The same as text, on any device."""
    cells = [[*headers[1:text_columns]], *([_shown(value) for value in row[1:text_columns]] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    padded = [[text.ljust(width) for text, width in zip(row, widths, strict=True)] for row in cells]
    joined = [[*row[:1], *texts, *row[text_columns:]] for row, texts in zip(rows, padded[1:], strict=True)]
    return table([*headers[:1], *padded[0], *headers[text_columns:]], joined)


def _ruled(
    headers: Sequence[str], rows: Sequence[Sequence[object]], text_columns: int, styles: Mapping[str, str]
) -> Table:
    drawn = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, show_edge=False)
    for place, header in enumerate(headers):
        drawn.add_column(header, justify="left" if place < text_columns else "right", no_wrap=True)
    for row in rows:
        drawn.add_row(*(Text(text, styles.get(text, "")) for text in map(_shown, row)))
    return drawn


def _widest(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> int:
    """Characters of a line with all columns whole."""
    columns = zip(headers, *(map(_shown, row) for row in rows), strict=True)
    return sum(max(map(len, column)) + 2 for column in columns)


def _shown(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)

"""Tables for people: ruled and coloured on a terminal that is wide enough, plain lined-up text everywhere else.

One type for all commands, so that they look alike. A figure is never cut short to fit, and a log or a pipe gets no
control characters.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.table import Table as Drawn


@dataclass(frozen=True)
class Table:
    """Rows under their headers; the first `text_columns` stand to the left and the others to the right.

    None is shown as a dash and a float with two decimals. `str` gives the table as plain text.
    """

    headers: Sequence[str]
    rows: Sequence[Sequence[object]]
    text_columns: int = 1

    def __str__(self) -> str:
        rows = [[*self.headers], *self.cells()]
        widths = self.widths()
        lines = [self._line(row, widths) for row in rows]
        lines.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join(lines)

    def cells(self) -> list[list[str]]:
        """The rows as they are shown."""
        return [[_shown(value) for value in row] for row in self.rows]

    def widths(self) -> list[int]:
        """Characters of each column."""
        return [max(map(len, column)) for column in zip(self.headers, *self.cells(), strict=True)]

    def _line(self, row: Sequence[str], widths: Sequence[int]) -> str:
        placed = [
            text.ljust(width) if place < self.text_columns else text.rjust(width)
            for place, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        return "  ".join(placed).rstrip()


def print_table(table: Table, *, styles: Mapping[str, str] | None = None, file: TextIO | None = None) -> None:
    """Print it to `file`, standard output by default.

    `styles` gives cells with just these words a colour on a terminal.
    """
    file = file or sys.stdout
    if not _drawn_on(file, table, styles or {}):
        print(table, file=file)


def _drawn_on(file: TextIO, table: Table, styles: Mapping[str, str]) -> bool:
    from rich.console import Console

    console = Console(file=file, highlight=False)
    if not console.is_terminal or console.is_dumb_terminal:
        return False
    drawn = _ruled(table, styles)
    whole = sum(width + 2 for width in table.widths())
    if max(console.measure(drawn).minimum, whole) > console.width:
        return False
    console.print(drawn)
    return True


def _ruled(table: Table, styles: Mapping[str, str]) -> "Drawn":
    from rich import box
    from rich.table import Table as Drawn
    from rich.text import Text

    drawn = Drawn(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, show_edge=False)
    for place, header in enumerate(table.headers):
        drawn.add_column(header, justify="left" if place < table.text_columns else "right", no_wrap=True)
    for row in table.cells():
        drawn.add_row(*(Text(text, styles.get(text, "")) for text in row))
    return drawn


def _shown(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)

"""Progress of a long command: a bar on a terminal, and plain lines, a few seconds apart, in a log or pipe.

It goes to stderr, so that stdout holds the results alone.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_LINE_SECONDS = 10.0


class Advance(Protocol):
    """Called once for each step that is done."""

    def __call__(self) -> None: ...


@contextmanager
def progress(label: str, total: int | None, unit: str = "frames", *, quiet: bool = False) -> Iterator[Advance]:
    """Shows how far `label` has come; `total` steps, None when nobody knows. `quiet` shows nothing."""
    if quiet:
        yield lambda: None
    elif sys.stderr.isatty():
        with _bar(label, total, unit) as advance:
            yield advance
    else:
        lines = _Lines(label, total, unit)
        yield lines
        lines.finish()


@contextmanager
def _bar(label: str, total: int | None, unit: str) -> Iterator[Advance]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit))
    console = Console(stderr=True)
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task(label, total=total)
        yield lambda: bar.advance(task)


class _Lines:
    def __init__(self, label: str, total: int | None, unit: str) -> None:
        self._label, self._unit = label, unit
        self._of = "" if total is None else f"/{total}"
        self._done, self._told = 0, -1
        self._started = self._shown = time.monotonic()

    def __call__(self) -> None:
        self._done += 1
        if time.monotonic() - self._shown >= _LINE_SECONDS:
            self.show()

    def finish(self) -> None:
        if self._told != self._done:
            self.show()

    def show(self) -> None:
        self._shown, self._told = time.monotonic(), self._done
        rate = self._done / max(1e-9, self._shown - self._started)
        print(f"{self._label}: {self._done}{self._of} {self._unit}, {rate:.1f}/s", file=sys.stderr, flush=True)

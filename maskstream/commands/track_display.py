"""What `maskstream track` shows while it runs: a live table on a terminal, plain lines a few seconds apart elsewhere.

One row an object, in the colour it has in the overlay: followed, or lost since how many frames. It goes to stderr, so
that stdout holds results alone.
"""

import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from maskstream.followed import FollowedFrame, SeenObject
from maskstream.overlay import colour_table

_LINE_SECONDS = 10.0
_RATE_FRAMES = 60  # the rate shown is that of so many frames at most
_REFRESHES = 4  # a second
_MOST_ROWS = 20
_BAR_LETTERS = 40


class Display(Protocol):
    """Told of each frame and of what happens to the source."""

    def show(self, followed: FollowedFrame) -> None:
        """A frame is done."""
        ...

    def say(self, text: str) -> None:
        """Something a user should know, once."""
        ...


class Progress:
    """Where a run stands, in numbers and words."""

    def __init__(self, total: int | None) -> None:
        self.total, self.frames, self.dropped = total, 0, 0
        self.age_seconds: float | None = None
        self.objects: tuple[SeenObject, ...] = ()
        self._lost_since: dict[int, int] = {}  # frames done when an object was last seen, by id
        self._times: deque[float] = deque([time.monotonic()], maxlen=_RATE_FRAMES + 1)

    def add(self, followed: FollowedFrame) -> None:
        """Count a frame."""
        self.frames += 1
        self.dropped += followed.dropped
        self.age_seconds, self.objects = followed.age_seconds, followed.objects
        self._times.append(time.monotonic())
        for seen in followed.objects:
            if not seen.lost or seen.object_id not in self._lost_since:
                self._lost_since[seen.object_id] = self.frames - seen.lost

    @property
    def frames_per_second(self) -> float:
        """Of the last frames."""
        return (len(self._times) - 1) / max(1e-9, self._times[-1] - self._times[0])

    def state_of(self, seen: SeenObject) -> str:
        """followed, or lost and since when."""
        if not seen.lost:
            return "followed"
        since = self.frames - self._lost_since[seen.object_id]
        return f"lost since {since} frame{'s' if since != 1 else ''}"

    def headline(self) -> str:
        """Frames, rate, and for a live source age and drops."""
        parts = [f"{self.frames}{'' if self.total is None else f'/{self.total}'} frames"]
        parts.append(f"{self.frames_per_second:.1f}/s")
        if self.age_seconds is not None:
            parts += [f"age {self.age_seconds:.2f} s", f"{self.dropped} dropped"]
        return ", ".join(parts)

    def line(self) -> str:
        """All of it in one line."""
        objects = [f"{seen.object_id} {self.state_of(seen)} {seen.score:.2f}" for seen in self.objects]
        return "; ".join([f"track: {self.headline()}", *objects])


@contextmanager
def display(total: int | None, *, quiet: bool = False) -> Iterator[Display]:
    """The display that fits: none when `quiet`, live on a terminal, else lines. `total` frames, None: nobody knows."""
    if quiet:
        yield _Nothing()
    elif sys.stderr.isatty():
        with _Table(total) as table:
            yield table
    else:
        lines = _Lines(total)
        try:
            yield lines
        finally:
            lines.finish()


class _Nothing:
    def show(self, followed: FollowedFrame) -> None:
        """Nothing is shown."""

    def say(self, text: str) -> None:
        """Nothing is said."""


class _Lines:
    def __init__(self, total: int | None) -> None:
        self._progress = Progress(total)
        self._told, self._told_at = 0, time.monotonic()

    def show(self, followed: FollowedFrame) -> None:
        self._progress.add(followed)
        if time.monotonic() - self._told_at >= _LINE_SECONDS:
            self._tell()

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def finish(self) -> None:
        if self._told != self._progress.frames:
            self._tell()

    def _tell(self) -> None:
        self._told, self._told_at = self._progress.frames, time.monotonic()
        self.say(self._progress.line())


class _Table:
    def __init__(self, total: int | None) -> None:
        self._progress = Progress(total)
        self._console = Console(stderr=True)
        self._live = Live(console=self._console, refresh_per_second=_REFRESHES, get_renderable=self._drawn)

    def __enter__(self) -> "_Table":
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()
        self._console.print()  # the report begins below

    def show(self, followed: FollowedFrame) -> None:
        self._progress.add(followed)

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False)

    def _drawn(self) -> Group:
        progress = self._progress
        table = Table("object", "state", box=None, padding=(0, 2, 0, 0))
        table.add_column("score", justify="right")
        table.add_column("area", justify="right")
        for seen in progress.objects[:_MOST_ROWS]:
            red, green, blue = colour_table()[seen.object_id, 0].tolist()
            name = Text(f"\u25a0 {seen.object_id}", style=f"rgb({red},{green},{blue})")
            style = "bold red" if seen.lost else ""
            table.add_row(name, Text(progress.state_of(seen), style=style), f"{seen.score:.2f}", f"{seen.area} px")
        more = len(progress.objects) - _MOST_ROWS
        rest = [Text(f"and {more} more")] if more > 0 else []
        return Group(Text(progress.headline()), *self._bar(), table, *rest)

    def _bar(self) -> list[Table]:
        """In a table of its own: a bar alone does not end its line."""
        if not self._progress.total:
            return []
        alone = Table.grid()
        alone.add_row(ProgressBar(self._progress.total, self._progress.frames, width=_BAR_LETTERS))
        return [alone]

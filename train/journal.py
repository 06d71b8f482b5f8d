"""What a run leaves behind to read: TensorBoard scalars and pictures, picture files, and lines in the terminal.

A full disk costs curves and pictures, said once, and never the run.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from maskstream.pictures import write_jpeg

Report = Callable[[int, dict[str, float]], None]
RETRY_SECONDS = 60.0
Picture = npt.NDArray[np.uint8]  # [H, W, 3] RGB


class Record(Protocol):
    """Where a run tells what it does."""

    def scalars(self, values: dict[str, float], step: int) -> None:
        """One point on each curve."""

    def picture(self, name: str, image: Picture) -> None:
        """A picture for people."""

    def say(self, line: str) -> None:
        """A line in the terminal."""

    @contextmanager
    def stage(self, name: str, steps: int) -> Iterator[Report]:
        """Reports of the steps of a stage."""
        yield lambda step, losses: None

    def close(self) -> None:
        """Nothing more will be told."""


class Journal:
    """Writes under `out`: events for TensorBoard, and pictures/ as JPEG files."""

    def __init__(self, out: Path, line_steps: int = 20) -> None:
        self._out, self._line_steps = out, line_steps
        out.mkdir(parents=True, exist_ok=True)
        self._writer: SummaryWriter | None = None
        self._failed_at = -RETRY_SECONDS

    def scalars(self, values: dict[str, float], step: int) -> None:
        """See `Record.scalars`."""

        def add(writer: SummaryWriter) -> None:
            for name, value in values.items():
                writer.add_scalar(name, value, step)

        self._write(add)

    def picture(self, name: str, image: Picture) -> None:
        """An RGB picture, to TensorBoard and to pictures/NAME.jpg."""
        self._write(lambda writer: writer.add_image(name, image, dataformats="HWC"))
        path = self._out / "pictures" / f"{name}.jpg"
        try:
            write_jpeg(path, image)
        except OSError as error:
            print(f"no picture {path}: {error.strerror}", file=sys.stderr)

    def say(self, line: str) -> None:
        """See `Record.say`."""
        print(line, flush=True)

    @contextmanager
    def stage(self, name: str, steps: int) -> Iterator[Report]:
        """A progress bar on a terminal, a line now and then elsewhere; every step on the curves."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, disable=not sys.stdout.isatty()) as progress:
            task = progress.add_task(name, total=steps)

            def report(step: int, losses: dict[str, float]) -> None:
                text = "  ".join(f"{key} {value:.3f}" for key, value in losses.items())
                progress.update(task, completed=step, description=f"{name}  {text}")
                self.scalars({f"{name}/{key}": value for key, value in losses.items()}, step)
                if progress.disable and (step % self._line_steps == 0 or step == steps):
                    print(f"{name} {step}/{steps}  {text}", flush=True)

            yield report
        self._write(lambda writer: writer.flush())

    def close(self) -> None:
        """Flush everything."""
        self._write(lambda writer: writer.close())
        self._writer = None

    def _write(self, act: Callable[[SummaryWriter], object]) -> None:
        """The writer's thread dies of a full disk and says so at the next call; later a new one begins a new file."""
        if time.monotonic() - self._failed_at < RETRY_SECONDS:
            return
        try:
            self._writer = self._writer or SummaryWriter(str(self._out / "tensorboard"))
            act(self._writer)
        except OSError as error:
            print(f"a piece of the curves in {self._out / 'tensorboard'} is lost: {error.strerror}", file=sys.stderr)
            self._writer, self._failed_at = None, time.monotonic()


class NoJournal:
    """For the processes that follow: process 0 tells it all."""

    def scalars(self, values: dict[str, float], step: int) -> None:
        """Nothing."""

    def picture(self, name: str, image: Picture) -> None:
        """Nothing."""

    def say(self, line: str) -> None:
        """Nothing."""

    @contextmanager
    def stage(self, name: str, steps: int) -> Iterator[Report]:
        """Nothing is shown."""
        yield lambda step, losses: None

    def close(self) -> None:
        """Nothing is open."""

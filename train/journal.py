"""What a run leaves behind to read: TensorBoard scalars and pictures, picture files, and lines in the terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

Report = Callable[[int, dict[str, float]], None]


class Journal:
    """Writes under `out`: events for TensorBoard, and pictures/ as JPEG files."""

    def __init__(self, out: Path, line_steps: int = 20) -> None:
        self._out, self._line_steps = out, line_steps
        out.mkdir(parents=True, exist_ok=True)
        self._writer = SummaryWriter(str(out / "tensorboard"))

    def scalars(self, values: dict[str, float], step: int) -> None:
        """One point on each curve."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def picture(self, name: str, image: npt.NDArray[np.uint8]) -> None:
        """An RGB picture, to TensorBoard and to pictures/NAME.jpg."""
        path = self._out / "pictures" / f"{name}.jpg"
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        self._writer.add_image(name, image, dataformats="HWC")

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
        self._writer.flush()

    def close(self) -> None:
        """Flush everything."""
        self._writer.close()

"""The one look of all plots: colours, grid, files. Drawn by matplotlib, an extra of its own, imported when it is used.

No window is opened and nothing global is set: a figure is made, drawn on and written.
"""

import importlib.util
from pathlib import Path
from typing import Any

from maskstream.errors import MaskstreamError

SUFFIXES = (".png", ".svg")
INK, GRID = "#30343b", "#d9dce1"
BLUE, ORANGE, RED, GREEN = "#2a6fbb", "#e07b28", "#c0392b", "#3c8d5a"
SERIES = (BLUE, ORANGE, GREEN, RED, "#7a5bb5", "#8a6d4b", "#d0679d", "#5f6b7a")


class PlotError(MaskstreamError):
    """The picture cannot be drawn."""

    reason = "PLOT_FAILED"


def check_plot(path: Path) -> None:
    """Before a long run. Raises PlotError when the picture could not be drawn at its end."""
    if path.suffix.lower() not in SUFFIXES:
        raise PlotError(f"{path}: a plot is a {' or '.join(SUFFIXES)} file")
    if importlib.util.find_spec("matplotlib") is None:
        raise PlotError("a plot needs matplotlib; install maskstream[plot]")


def new_figure(width: float, height: float) -> Any:
    """An empty figure, in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def tidy(axes: Any) -> None:
    """Grid behind, two spines, the colour of ink."""
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK)


def save(figure: Any, path: Path, title: str) -> None:
    """Into a .png or .svg file with this title; the same figure gives the same bytes."""
    figure.suptitle(title, color=INK, fontsize=12)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix.lower() == ".svg" else None)

"""Latency and drops against the offered load, as a picture: what a sweep is made for.

Drawn by matplotlib, an extra of its own: a server needs no plotting library, and a curve drawn by hand is no better.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maskstream.plot_look import BLUE, GREEN, GRID, INK, ORANGE, RED, PlotError, check_plot, new_figure, save, tidy

__all__ = ["PlotError", "check_plot", "plot_loads"]


def plot_loads(path: Path, loads: Sequence[dict[str, Any]], title: str) -> None:
    """Loads of one sweep (as load_report gives them, with the same number of streams) into a .png or .svg file."""
    loads = sorted(loads, key=lambda load: load["offered_fps"])
    figure = new_figure(8.0, 7.0)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    _draw_latency(above, loads)
    _draw_rates(below, loads)
    _mark_capacity((above, below), loads)
    for axes in (above, below):
        tidy(axes)
    save(figure, path, title)


def _draw_latency(axes: Any, loads: Sequence[dict[str, Any]]) -> None:
    answered = [load for load in loads if load["latency"]]
    offered = [load["offered_fps"] for load in answered]
    for rank, colour in (("p50", BLUE), ("p99", ORANGE)):
        axes.plot(offered, [load["latency"][f"{rank}_ms"] for load in answered], "o-", color=colour, label=rank)
    axes.set_ylabel("latency, due to answered (ms)", color=INK)
    axes.set_ylim(0, 1.15 * max((load["latency"]["p99_ms"] for load in answered), default=1.0))
    axes.legend(frameon=False, loc="upper left")


def _draw_rates(axes: Any, loads: Sequence[dict[str, Any]]) -> None:
    offered = [load["offered_fps"] for load in loads]
    axes.plot(offered, [load["answered_fps"] for load in loads], "o-", color=GREEN, label="answered (frames/s)")
    axes.plot(offered, offered, ":", color=GRID, label="offered", zorder=0)
    axes.set_ylabel("answered (frames/s)", color=INK)
    axes.set_xlabel("offered load, all streams (frames/s)", color=INK)
    axes.set_ylim(bottom=0)
    shares = axes.twinx()
    shares.plot(offered, [100 * load["drop_share"] for load in loads], "s--", color=RED, label="not answered (%)")
    shares.set_ylim(0, 100)
    shares.set_ylabel("not answered (%)", color=RED)
    shares.tick_params(colors=RED)
    shares.spines[["top", "left"]].set_visible(False)
    lines = [*axes.get_lines(), *shares.get_lines()]
    axes.legend(lines, [line.get_label() for line in lines], frameon=False, loc="upper left")


def _mark_capacity(panels: Sequence[Any], loads: Sequence[dict[str, Any]]) -> None:
    known = [load["offered_fps"] / load["load"] for load in loads if load["load"]]
    if not known:
        return
    capacity = sum(known) / len(known)
    for axes in panels:
        axes.axvline(capacity, color=INK, linewidth=0.8, linestyle="--")
        axes.set_xlim(left=0)
    note = {"xytext": (4, -4), "textcoords": "offset points", "va": "top", "fontsize": 8, "color": INK}
    panels[0].annotate(f"closed loop: {capacity:.1f}/s", (capacity, 1), xycoords=("data", "axes fraction"), **note)

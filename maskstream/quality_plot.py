"""Quality and speed as pictures: J&F of each sequence with J along its frames, and frames/s of each engine."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from maskstream.plot_look import BLUE, GRID, INK, ORANGE, SERIES, new_figure, save, tidy

Timeline = Sequence[float | None]  # J of each frame, 0..1; None where nothing is scored

_ROW, _LEAST = 0.32, 3.0  # inches
_MOST_LINES = 12  # sequences along time; more lines than that cannot be told apart
_BAR = 0.38


def plot_quality(path: Path, sequences: Mapping[str, Mapping[str, Any]], times: Mapping[str, Timeline]) -> None:
    """J&F and its coarse part as bars, a row a sequence ("jf" and "coarse" in 0..100), and J over time below.

    Where more sequences were followed than lines can be told apart, the worst are drawn.
    """
    bars_height = max(_LEAST, 1.0 + _ROW * len(sequences))
    figure = new_figure(8.0, bars_height + 3.5)
    above, below = figure.subplots(2, 1, height_ratios=(bars_height, 3.5))
    _draw_bars(above, sequences)
    _draw_times(below, sequences, times)
    for axes in (above, below):
        tidy(axes)
    mean = sum(one["jf"] for one in sequences.values()) / max(1, len(sequences))
    save(figure, path, f"J&F of {len(sequences)} sequences, their mean {mean:.1f}")


def plot_speed(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Frames/s of each row of `maskstream bench`, a panel a case (size, objects, streams)."""
    cases = list(dict.fromkeys((row["size"], row["objects"], row["streams"]) for row in rows))
    engines = list(dict.fromkeys((row["engine"], row["precision"]) for row in rows))
    colours = {engine: SERIES[place % len(SERIES)] for place, engine in enumerate(engines)}
    figure = new_figure(8.0, max(_LEAST, 0.8 * len(cases) + _ROW * len(rows) + 1.0))
    panels = figure.subplots(len(cases), 1, sharex=True, squeeze=False)[:, 0]
    for axes, case in zip(panels, cases, strict=True):
        own = [row for row in rows if (row["size"], row["objects"], row["streams"]) == case]
        names = [f"{row['engine']}, {row['precision']}" for row in own]
        bars = axes.barh(names, [row["fps"] for row in own])
        for bar, row in zip(bars, own, strict=True):
            bar.set_color(colours[row["engine"], row["precision"]])
        axes.bar_label(bars, [f"{row['fps']:.1f}" for row in own], padding=3, fontsize=8, color=INK)
        axes.invert_yaxis()
        axes.set_title(f"{case[0]}, {_number(case[1], 'object')}, {_number(case[2], 'stream')}", fontsize=9, color=INK)
        tidy(axes)
    panels[-1].set_xlabel("frames/s over all streams", color=INK)
    save(figure, path, "Speed of the tracker")


def _draw_bars(axes: Any, sequences: Mapping[str, Mapping[str, Any]]) -> None:
    places = range(len(sequences))
    for shift, label, colour, values in (
        (-_BAR / 2, "J&F", BLUE, [one["jf"] for one in sequences.values()]),
        (_BAR / 2, "coarse", ORANGE, [one["coarse"]["jf"] for one in sequences.values()]),
    ):
        bars = axes.barh([place + shift for place in places], values, _BAR, color=colour, label=label)
        axes.bar_label(bars, fmt="%.1f", padding=3, fontsize=8, color=INK)
    axes.set_yticks(list(places), list(sequences))
    axes.invert_yaxis()
    axes.set_xlim(0, 108)
    axes.set_xlabel("J&F (0..100)", color=INK)
    axes.legend(frameon=False, loc="lower right")


def _draw_times(axes: Any, sequences: Mapping[str, Mapping[str, Any]], times: Mapping[str, Timeline]) -> None:
    shown = sorted(times, key=lambda name: float(sequences[name]["jf"]))[:_MOST_LINES]
    for place, name in enumerate(shown):
        known = [(index, 100 * j) for index, j in enumerate(times[name]) if j is not None]
        style = {"color": SERIES[place % len(SERIES)], "linestyle": "-" if place < len(SERIES) else "--"}
        axes.plot([index for index, _ in known], [j for _, j in known], linewidth=1.2, label=name, **style)
    axes.axhline(50, color=GRID, linewidth=1.2, zorder=0)
    axes.set_ylim(0, 100)
    axes.set_ylabel("J, mean over objects", color=INK)
    axes.set_xlabel("frame", color=INK)
    if shown:
        axes.legend(frameon=False, loc="lower left", ncols=3, fontsize=8)


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count != 1 else ''}"

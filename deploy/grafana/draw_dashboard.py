"""The dashboard as a picture, drawn from what a Prometheus answers: for a report, or where there is no Grafana.

`python deploy/grafana/draw_dashboard.py --prometheus http://127.0.0.1:9090 --minutes 60 --out dashboard.png`

Each query of the dashboard is asked as Grafana asks it, with its variables filled in, and drawn where its panel stands.
It shows the figures, not Grafana's looks. A panel without an answer says so, on the picture and on standard error.
"""

import argparse
import json
import math
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskstream.errors import MaskstreamError
from maskstream.plot_look import BLUE, GRID, INK, SERIES, check_plot, new_figure, save, tidy

DASHBOARD = Path(__file__).with_name("maskstream.json")
COLUMNS, UNIT_INCHES, WIDTH_INCHES = 24, 0.25, 13.0  # of Grafana's grid
TITLE_INCHES, LEGEND_INCHES = 0.5, 0.75
POINTS = 240  # along time, about what a panel of that width can show
LEGEND_LINES, LEGEND_LETTERS = 4, 26  # entries upon each other, and letters where two stand side by side
BYTES, SECONDS = ("B", "KiB", "MiB", "GiB", "TiB"), ((1.0, "s", 1), (1e-3, "ms", 1e3), (0.0, "us", 1e6))


class DashboardError(MaskstreamError):
    """A file that is no dashboard of ours, or a Prometheus that does not answer."""


@dataclass(frozen=True)
class Series:
    """One line: its legend and (seconds since 1970, value) pairs, without the values that are not numbers."""

    legend: str
    labels: dict[str, str]
    times: list[float]
    values: list[float]


@dataclass(frozen=True)
class Span:
    """What is asked for: a stretch of time and the values of the dashboard's variables."""

    end: float
    seconds: float
    scrape_seconds: float
    job: str
    instance: str

    @property
    def step(self) -> float:
        """Seconds between points; never more often than the figures change."""
        return max(self.seconds / POINTS, self.scrape_seconds)

    def fill(self, expression: str) -> str:
        """The expression with its variables; `$__rate_interval` as Grafana works it out."""
        rate = max(self.step + self.scrape_seconds, 4 * self.scrape_seconds)
        filled = expression.replace("$job", self.job).replace("$instance", self.instance)
        return filled.replace("$__rate_interval", f"{math.ceil(rate)}s")


class Prometheus:
    """The query API at `address`."""

    def __init__(self, address: str) -> None:
        self._address = address.rstrip("/")

    def range(self, expression: str, span: Span) -> list[dict[str, Any]]:
        """Prometheus's `result` of a range query. Raises DashboardError with Prometheus's own words."""
        question = {
            "query": span.fill(expression),
            "start": span.end - span.seconds,
            "end": span.end,
            "step": span.step,
        }
        try:
            address = f"{self._address}/api/v1/query_range?{urllib.parse.urlencode(question)}"
            with urllib.request.urlopen(address, timeout=30) as answer:
                found = json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as error:
            raise DashboardError(f"{question['query']}: {_said(error)}") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DashboardError(f"no Prometheus answers at {self._address}: {error}") from error
        return list(found)


def read(path: Path) -> dict[str, Any]:
    """A dashboard of the shape that make_dashboard.py writes. Raises DashboardError."""
    try:
        dashboard = json.loads(path.read_text())
        panels = dashboard["panels"]
        figures = [panel for panel in panels if panel["type"] != "row"]
        if not figures or not all({"targets", "fieldConfig"} <= panel.keys() for panel in figures):
            raise ValueError("no panels, or one without targets and fieldConfig")
        if not all({"title", "gridPos"} <= panel.keys() for panel in panels):
            raise ValueError("a panel has no title or no gridPos")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DashboardError(f"{path}: expected a Grafana dashboard with panels: {error}") from error
    return dict(dashboard)


def ask(panel: dict[str, Any], prometheus: Prometheus, span: Span) -> list[Series]:
    """All series of a panel. Raises DashboardError with the panel's title."""
    found = []
    for target in panel.get("targets", []):
        try:
            results = prometheus.range(target["expr"], span)
        except DashboardError as error:
            raise DashboardError(f"panel {panel['title']!r}: {error}") from error
        for result in results:
            pairs = [(float(at), float(value)) for at, value in result["values"] if math.isfinite(float(value))]
            legend = _legend(target.get("legendFormat", ""), result["metric"])
            if pairs:
                found.append(Series(legend, result["metric"], *map(list, zip(*pairs, strict=True))))
    return found


def draw(dashboard: dict[str, Any], prometheus: Prometheus, span: Span, out: Path) -> list[str]:
    """Ask all, write the picture, and give the titles of panels that had no answer. Raises DashboardError, OSError."""
    panels = dashboard["panels"]
    answers = [ask(panel, prometheus, span) for panel in panels]
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    figure = new_figure(WIDTH_INCHES, rows * UNIT_INCHES + TITLE_INCHES)
    figure.set_layout_engine("none")  # panels stand where the dashboard says
    empty = []
    for panel, series in zip(panels, answers, strict=True):
        if panel["type"] == "row":
            _draw_row(figure, panel, rows)
            continue
        axes = figure.add_axes(_place(panel["gridPos"], rows))
        axes.set_title(panel["title"], fontsize=8, color=INK, loc="left", fontweight="bold")
        if not series:
            empty.append(panel["title"])
            axes.text(0.5, 0.5, "no answer", transform=axes.transAxes, ha="center", color=INK)
            axes.set_axis_off()
            continue
        DRAWN_AS.get(panel["type"], draw_lines)(axes, panel, series, span)
    end = time.strftime("%Y-%m-%d %H:%M", time.gmtime(span.end))
    title = f"{dashboard.get('title', 'dashboard')}: {span.seconds / 60:g} minutes until {end} UTC, job {span.job}"
    save(figure, out, title)
    return empty


def draw_lines(axes: Any, panel: dict[str, Any], series: Sequence[Series], span: Span) -> None:
    """Lines, or areas upon each other, with a legend below; those that say something come first in it."""
    defaults = panel["fieldConfig"]["defaults"]
    shown = sorted(series, key=lambda one: -max(map(abs, one.values)))
    colours = [SERIES[place % len(SERIES)] for place in range(len(shown))]
    minutes = [[(at - span.end) / 60 for at in one.times] for one in shown]
    if defaults.get("custom", {}).get("stacking", {}).get("mode") == "normal":
        moments = sorted({at for line in minutes for at in line})
        held = [dict(zip(line, one.values, strict=True)) for line, one in zip(minutes, shown, strict=True)]
        heights = [[values.get(at, 0.0) for at in moments] for values in held]
        axes.stackplot(moments, heights, colors=colours, alpha=0.7, labels=[one.legend for one in shown])
    else:
        for line, one, colour in zip(minutes, shown, colours, strict=True):
            axes.plot(line, one.values, color=colour, linewidth=1.2, label=one.legend)
    _scale(axes, defaults, span)
    _legend_below(axes)


def _legend_below(axes: Any) -> None:
    """As many entries as fit under a panel; the last says how many are left out."""
    handles, labels = axes.get_legend_handles_labels()
    columns = 2 if max(map(len, labels)) <= LEGEND_LETTERS else 1
    kept = LEGEND_LINES * columns
    if len(labels) > kept:
        labels[kept - 1] = f"and {len(labels) - kept + 1} more"
    axes.legend(
        handles[:kept], labels[:kept], loc="upper center", bbox_to_anchor=(0.5, -0.16), fontsize=5.5,
        ncol=columns, frameon=False, labelcolor=INK,
    )  # fmt: skip


def draw_heatmap(axes: Any, panel: dict[str, Any], series: Sequence[Series], span: Span) -> None:
    """How many fell between two bounds of a histogram's buckets; the bounds are the rows."""
    ordered = sorted(series, key=lambda one: float(one.labels["le"]))
    moments = sorted({at for one in ordered for at in one.times})
    below, cells = [0.0] * len(moments), []
    for one in ordered:
        held = dict(zip(one.times, one.values, strict=True))
        upto = [held.get(at, 0.0) for at in moments]
        cells.append([max(0.0, now - before) for now, before in zip(upto, below, strict=True)])
        below = upto
    minutes = [(at - span.end) / 60 for at in moments]
    axes.pcolormesh(minutes, range(len(cells)), cells, cmap="Blues", shading="nearest")
    unit = formatter(panel["fieldConfig"]["defaults"].get("unit", "short"))
    bounds = [float(one.labels["le"]) for one in ordered]
    kept = range(0, len(bounds), max(1, len(bounds) // 10))
    axes.set_yticks(list(kept), [unit(bounds[place]) if bounds[place] < math.inf else "more" for place in kept])
    _along_time(axes, span)


def draw_stat(axes: Any, panel: dict[str, Any], series: Sequence[Series], span: Span) -> None:
    """The newest figure, large, over its course."""
    one = series[0]
    unit = formatter(panel["fieldConfig"]["defaults"].get("unit", "short"))
    axes.text(0.5, 0.6, unit(one.values[-1]), transform=axes.transAxes, ha="center", fontsize=24, color=BLUE)
    axes.text(0.5, 0.48, one.legend, transform=axes.transAxes, ha="center", fontsize=7, color=INK)
    axes.fill_between([(at - span.end) / 60 for at in one.times], one.values, color=BLUE, alpha=0.25)
    axes.set_ylim(0, 3 * max(1e-9, *one.values))
    axes.set_xlim(-span.seconds / 60, 0)
    axes.set_axis_off()


DRAWN_AS: dict[str, Callable[[Any, dict[str, Any], Sequence[Series], Span], None]] = {
    "timeseries": draw_lines,
    "heatmap": draw_heatmap,
    "stat": draw_stat,
}


def formatter(unit: str) -> Callable[[float], str]:
    """How a figure of Grafana's `unit` is written: s, percentunit, ops, bytes; anything else as a number."""
    return {
        "s": _seconds,
        "percentunit": lambda v: f"{100 * v:.3g}%",
        "ops": lambda v: f"{v:.3g}/s",
        "bytes": _bytes,
    }.get(unit, lambda v: f"{v:.4g}")


def _seconds(value: float) -> str:
    if value == 0:
        return "0"
    _, unit, times = next(each for each in SECONDS if abs(value) >= each[0])
    return f"{value * times:.3g} {unit}"


def _bytes(value: float) -> str:
    power = min(len(BYTES) - 1, int(math.log(abs(value), 1024))) if abs(value) >= 1 else 0
    return f"{value / 1024**power:.3g} {BYTES[power]}"


def _scale(axes: Any, defaults: dict[str, Any], span: Span) -> None:
    tidy(axes)
    unit = formatter(defaults.get("unit", "short"))
    axes.yaxis.set_major_formatter(lambda value, _: unit(value))
    axes.set_ylim(defaults.get("min"), defaults.get("max"))
    if defaults.get("unit") == "bytes":  # round in powers of 2
        axes.yaxis.set_major_locator(_every(2 ** math.floor(math.log2(max(1.0, axes.get_ylim()[1]) / 3))))
    _along_time(axes, span)


def _every(distance: float) -> Any:
    from matplotlib.ticker import MultipleLocator

    return MultipleLocator(distance)


def _along_time(axes: Any, span: Span) -> None:
    axes.set_xlim(-span.seconds / 60, 0)
    axes.locator_params(axis="x", nbins=5)
    axes.xaxis.set_major_formatter(lambda minutes, _: f"{minutes:g} min" if minutes else "now")
    axes.tick_params(labelsize=6, colors=INK)


def _place(grid: dict[str, int], rows: int) -> tuple[float, float, float, float]:
    """Left, bottom, width and height of the axes within a panel's place, of the whole figure."""
    height = rows * UNIT_INCHES + TITLE_INCHES
    bottom = (rows - grid["y"] - grid["h"]) * UNIT_INCHES + LEGEND_INCHES
    left, wide = grid["x"] / COLUMNS + 0.036, grid["w"] / COLUMNS - 0.046
    return left, bottom / height, wide, (grid["h"] * UNIT_INCHES - LEGEND_INCHES - 0.3) / height


def _draw_row(figure: Any, panel: dict[str, Any], rows: int) -> None:
    height = rows * UNIT_INCHES + TITLE_INCHES
    at = (rows - panel["gridPos"]["y"] - 0.5) * UNIT_INCHES / height
    figure.text(0.008, at, panel["title"], fontsize=10, color=INK, fontweight="bold", va="center")
    rule = figure.add_axes((0.14, at, 0.85, 0.0001))
    rule.set_axis_off()
    rule.axhline(0, color=GRID, linewidth=1, clip_on=False)


def _legend(template: str, labels: dict[str, str]) -> str:
    filled = re.sub(r"{{\s*(\w+)\s*}}", lambda found: labels.get(found[1], ""), template)
    return " ".join(filled.split()) or ", ".join(f"{name}={value}" for name, value in sorted(labels.items()))


def _said(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["error"])
    except (OSError, ValueError, KeyError, TypeError):
        return str(error)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--prometheus", default="http://127.0.0.1:9090", metavar="URL", help="where it answers")
    made.add_argument("--dashboard", type=Path, default=DASHBOARD, metavar="FILE", help="default: the one beside this")
    made.add_argument("--job", default="maskstream", help="of the servers in Prometheus")
    made.add_argument("--instance", default=".*", metavar="REGEX", help="replicas; default: all")
    made.add_argument("--minutes", type=float, default=60.0, help="until now; default: 60")
    made.add_argument("--scrape-interval", type=float, default=15.0, metavar="SECONDS", help="as in prometheus.yml")
    made.add_argument("--out", type=Path, default=Path("dashboard.png"), metavar="FILE", help="a .png or .svg")
    return made


def main(words: Sequence[str] | None = None) -> int:
    """0, or 2 with what is wrong."""
    given = parser().parse_args(words)
    if not (given.minutes > 0 and given.scrape_interval > 0):
        parser().error("--minutes and --scrape-interval are positive numbers")
    span = Span(time.time(), 60 * given.minutes, given.scrape_interval, given.job, given.instance)
    try:
        check_plot(given.out)
        empty = draw(read(given.dashboard), Prometheus(given.prometheus), span, given.out)
    except (MaskstreamError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for title in empty:
        print(f"no answer for panel {title!r} in these {given.minutes:g} minutes of job {given.job!r}", file=sys.stderr)
    print(given.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())

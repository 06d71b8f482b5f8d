"""Bars from docs/plots/*.json, as SVG inside the page: they take its colours, light or dark, and need no script.

The figures are those of the tables in README.md and docs/, once more and by hand; a test holds the two together.
"""

import json
from dataclasses import dataclass
from html import escape

from generate import ROOT

FOLDER = ROOT / "docs/plots"
ROW, GAP, LABELS, BARS, WIDTH = 22, 10, 240, 400, 720  # pixels
INK = ("var(--md-primary-fg-color, #4051b5)", "var(--md-default-fg-color--light, #777)")


@dataclass(frozen=True)
class Plot:
    """What one JSON file holds."""

    title: str
    unit: str
    command: str
    machine: str
    source: str  # the document whose tables hold the figures
    bars: list[list[str | float]]  # label, value, and 1 for a bar to compare with, else 0


def load(name: str) -> Plot:
    """The plot `name`. Raises FileNotFoundError, or TypeError for a file of another shape."""
    return Plot(**json.loads((FOLDER / f"{name}.json").read_text()))


def svg(plot: Plot) -> str:
    """One bar a row, from 0; its value stands at its end."""
    most = max(float(value) for _, value, _ in plot.bars)
    height = len(plot.bars) * ROW + GAP
    rows = "".join(_bar(i * ROW + GAP, str(b[0]), float(b[1]), most, int(b[2])) for i, b in enumerate(plot.bars))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" width="100%" '
        f'aria-label="{escape(plot.title)}" font-size="13" fill="currentColor">{rows}</svg>'
    )


def figure(name: str) -> str:
    """The plot with its caption, HTML for a page."""
    plot = load(name)
    said = f"{plot.title}, {plot.unit}. {plot.machine} <code>{escape(plot.command)}</code>"
    return f'<figure style="width: 100%">{svg(plot)}<figcaption>{said}</figcaption></figure>'


def _bar(top: int, label: str, value: float, most: float, compared: int) -> str:
    length = round(BARS * value / most, 1)
    base = top + 12
    return (
        f'<text x="{LABELS - 8}" y="{base}" text-anchor="end">{escape(label)}</text>'
        f'<rect x="{LABELS}" y="{top}" width="{length}" height="{ROW - 6}" fill="{INK[compared]}"/>'
        f'<text x="{LABELS + length + 6}" y="{base}">{value:g}</text>'
    )

"""Plots of quality and speed: what stands in them, read back from the SVG; and the clear refusals."""

import re
from pathlib import Path

import pytest

from maskstream.plot_look import PlotError, check_plot
from maskstream.quality_plot import plot_quality, plot_speed

PNG = b"\x89PNG\r\n"


def scores(jf: float, coarse: float) -> dict[str, object]:
    return {"jf": jf, "coarse": {"jf": coarse}}


def words(file: Path) -> set[str]:
    """Text of an SVG by matplotlib, which draws letters as shapes and says in a comment what they are."""
    return set(re.findall(r"<!-- (.*?) -->", file.read_text()))


def test_quality_shows_every_sequence_and_figure(tmp_path: Path) -> None:
    sequences = {"camel": scores(73.9, 73.3), "libby": scores(77.1, 76.2)}
    times = {"camel": [None, 0.7, 0.8, None], "libby": [None, 0.9, 0.6, None]}
    plot_quality(tmp_path / "a" / "q.svg", sequences, times)
    assert {"camel", "libby", "73.9", "73.3", "77.1", "76.2"} <= words(tmp_path / "a" / "q.svg")
    assert "J&amp;F of 2 sequences, their mean 75.5" in words(tmp_path / "a" / "q.svg")
    plot_quality(tmp_path / "q.png", sequences, times)
    assert (tmp_path / "q.png").read_bytes().startswith(PNG)


def test_only_the_worst_of_many_are_drawn_along_time(tmp_path: Path) -> None:
    sequences = {f"seq{place}": scores(90.0 - place, 50.0) for place in range(30)}
    plot_quality(tmp_path / "q.svg", sequences, {name: [0.5, 0.6] for name in sequences})
    text = (tmp_path / "q.svg").read_text()
    assert (text.count("<!-- seq0 -->"), text.count("<!-- seq29 -->")) == (1, 2)  # a bar each; a line for the worst


def test_speed_has_a_panel_for_each_case(tmp_path: Path) -> None:
    rows = [
        {"engine": engine, "precision": "fp32", "size": "96x160", "objects": objects, "streams": 1, "fps": fps}
        for engine, objects, fps in (("torch", 1, 3.2), ("openvino", 1, 6.4), ("torch", 4, 1.7))
    ]
    plot_speed(tmp_path / "s.svg", rows)
    found = words(tmp_path / "s.svg")
    assert {"96x160, 1 object, 1 stream", "96x160, 4 objects, 1 stream"} <= found
    assert {"openvino, fp32", "3.2", "6.4", "1.7"} <= found


def test_refusals_come_before_a_long_run(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PlotError, match=r"\.png or \.svg"):
        check_plot(Path("plot.pdf"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(PlotError, match=r"install maskstream\[plot\]"):
        check_plot(Path("plot.png"))

"""The picture of a sweep."""

from pathlib import Path
from typing import Any

import cv2
import pytest

from maskstream.load.load_plot import PlotError, check_plot, plot_loads


def load(offered: float, answered: float, p50: float, p99: float) -> dict[str, Any]:
    return {
        "offered_fps": offered, "answered_fps": answered, "load": offered / 20, "drop_share": 1 - answered / offered,
        "latency": {"p50_ms": p50, "p99_ms": p99},
    }  # fmt: skip


SWEEP = [load(5, 5, 60, 90), load(20, 19, 80, 160), load(40, 19.5, 90, 170)]


def test_a_picture_of_either_kind_is_written(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plot_loads(tmp_path / "new" / "sweep.png", SWEEP, "title")
    picture = cv2.imread(str(tmp_path / "new" / "sweep.png"))
    assert picture is not None
    assert picture.shape[0] > 800
    colours = {tuple(int(value) for value in pixel) for pixel in picture[::3, ::3].reshape(-1, 3)}
    assert any(abs(b - 0xBB) + abs(g - 0x6F) + abs(r - 0x2A) < 12 for b, g, r in colours), "the line of p50 is blue"
    plot_loads(tmp_path / "sweep.svg", [*SWEEP, {**SWEEP[0], "latency": None}], "title of it")
    assert "<svg" in (tmp_path / "sweep.svg").read_text()


def test_what_cannot_be_drawn_is_said_before_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PlotError, match=r"\.png or \.svg"):
        check_plot(tmp_path / "sweep.pdf")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(PlotError, match=r"maskstream\[plot\]"):
        check_plot(tmp_path / "sweep.png")

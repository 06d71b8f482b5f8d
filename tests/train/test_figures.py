"""What a run says of itself in a line."""

from typing import Any

import pytest

from train.figures import Figures, log_line

ORIGIN: dict[str, Any] = {
    "clips": ["a", "b"],
    "frames": 6420,
    "computed": "fp32 on cpu, 1 process",
    "hardware": {"cores": 2, "cpu": "Some CPU", "gpus": ["Some GPU"]},
    "git_revision": "abc123",
}


def test_a_short_stage_ends_with_its_mean_and_a_long_one_with_what_is_recent() -> None:
    figures = Figures()
    for value in (4.0, 2.0, 3.0):
        figures.add("masks1", {"ce": value})
    assert figures.lines() == ["masks1  ce 4.000 to 3.000"]
    for _ in range(400):
        figures.add("masks1", {"ce": 1.0})
    assert figures.lines() == ["masks1  ce 4.000 to 1.000"]


def test_figures_go_on_from_their_state() -> None:
    whole, first = Figures(), Figures()
    for step in range(10):
        whole.add("masks1", {"ce": float(step)})
    for step in range(5):
        first.add("masks1", {"ce": float(step)})
    second = Figures(first.state())
    for step in range(5, 10):
        second.add("masks1", {"ce": float(step)})
    assert second.state() == whole.state()


@pytest.mark.parametrize("outcome", ["done", "stopped by SIGTERM (masks1, step 3 of 900)"])
def test_the_line_for_the_log_says_what_ran_on_what_and_what_came_out(outcome: str) -> None:
    figures = Figures()
    figures.add("correspondence", {"walk": 2.5})
    figures.gates.append({"stage": 0, "name": "correspondence", "decoded": 55.7})
    line = log_line(["maskstream-train", "--data", "my videos"], ORIGIN, outcome, 12.34, figures)
    assert line.count("\n") == 1
    for part in (
        "`maskstream-train --data 'my videos'`",
        "2 clips, 6,420 frames",
        f"{outcome} after 12.3 min, fp32 on cpu, 1 process",
        "correspondence walk 2.500 to 2.500",
        "J&F after correspondence: decoded 55.7",
        "2 cores Some CPU, Some GPU",
        "revision abc123",
    ):
        assert part in line

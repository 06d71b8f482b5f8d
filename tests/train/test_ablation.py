"""The ablation: cells are measured once, share their trainings, and make tables whose means can be worked out."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from moving_square import moving_square

from maskstream.steps import Step
from maskstream.tracker import Prompt
from train import ablation
from train.ablation import Ablation, Material, group_table, main, markdown, rows_of
from train.ablation_cells import Cell, cells_of
from train.clips import Clip
from train.evaluate import ShortSequence
from train.recipes import Recipe, tiny

ROWS = ("with fine keys", "+ mask embedding", "3 slots")  # correspondence, masks after it, and the same read anew


def small(recipe: Recipe) -> list[Cell]:
    return [cell for cell in cells_of(recipe) if cell.row in ROWS]


def short_recipe() -> Recipe:
    return replace(
        tiny(),
        correspondence_stage=replace(tiny().correspondence_stage, steps=1),
        mask_stage=replace(tiny().mask_stage, steps=1),
        clustering=replace(tiny().clustering, windows_per_clip=1),
    )


@pytest.fixture(scope="module")
def material(clips: list[Clip]) -> Material:
    steps = []
    for index, frame in enumerate(moving_square(frames=3)):
        truth = np.zeros(frame.shape[:2], np.uint8)
        truth[30:66, 5 + 4 * index : 41 + 4 * index] = 1
        steps.append(Step(str(index), frame, (Prompt(1, truth),) if index == 0 else (), truth))
    return Material(clips[:1], [ShortSequence("square", tuple(steps))])


def record(row: str, seed: int, **scores: float) -> ablation.Record:
    return {"group": "learners", "row": row, "seed": seed, "scores": {"copied": 20.0, **scores}}


def test_cells_are_done_once_and_what_they_share_is_trained_once(
    material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = small(short_recipe())
    Ablation(cells, [0], material, tmp_path).run(["command"])
    said = capsys.readouterr().out
    assert "3 cells, 0 of them done before" in said
    assert "[3/3]" in said
    assert len(list((tmp_path / "cells").iterdir())) == 3
    assert len(list((tmp_path / "weights").iterdir())) == 2
    assert not (tmp_path / "running").exists()
    report = json.loads((tmp_path / "ablation.json").read_text())
    by_row = {row["row"]: row for row in report["rows"]}
    assert by_row["with fine keys"]["decoded"] is None, "no decoder has learnt yet"
    assert by_row["+ mask embedding"]["decoded"]["mean"] > 0
    assert report["command"] == ["command"]
    page = (tmp_path / "ablation.md").read_text()

    def fail(*given: object) -> None:
        raise AssertionError("nothing is left to be done")

    monkeypatch.setattr(ablation, "Run", fail)
    monkeypatch.setattr(ablation, "held_out_scores", fail)
    Ablation(cells, [0], material, tmp_path).run(["command"])
    assert "3 cells, 3 of them done before" in capsys.readouterr().out
    assert (tmp_path / "ablation.md").read_text() == page
    with pytest.raises(AssertionError, match="nothing is left"):
        Ablation(small(replace(short_recipe(), ema_decay=0.5)), [0], material, tmp_path).run(["command"])


def test_rows_give_mean_and_spread_over_seeds() -> None:
    records = [record("walk", 0, coarse=40.0, decoded=41.0), record("walk", 1, coarse=43.0, decoded=46.0)]
    (row,) = rows_of(records)
    assert row["seeds"] == 2
    assert row["coarse"] == {"mean": 41.5, "least": 40.0, "greatest": 43.0}
    assert row["decoded"] == {"mean": 43.5, "least": 41.0, "greatest": 46.0}


def test_tables_show_the_spread_and_a_dash_for_what_was_not_measured() -> None:
    records = [record("walk", 0, coarse=40.0), record("walk", 1, coarse=43.0)]
    page = markdown(records)
    assert "| learners | coarse J&F | decoded J&F | seeds |" in page
    assert "| walk | 41.5 (40.0 to 43.0) | - | 2 |" in page
    assert page.endswith("Copying the first mask: 20.0.\n")
    assert "41.5 (40.0 to 43.0)" in str(group_table("learners", records))
    assert markdown([]) == "\n"


def test_the_time_that_is_left_counts_each_training_once(material: Material, tmp_path: Path) -> None:
    cells = small(short_recipe())
    waiting = Ablation(cells, [0, 1], material, tmp_path)
    waiting._learnt_steps, waiting._learnt_seconds = 10, 20.0  # two seconds a step
    waiting._measured, waiting._measured_seconds = 1, 5.0
    missing = [(cell, 0) for cell in cells]
    assert waiting._seconds_left(missing) == 2 * 2.0 + 3 * 5.0, "two trainings of one step"


def test_cells_of_other_material_are_other_cells(material: Material, tmp_path: Path) -> None:
    cell = small(short_recipe())[0]
    longer = replace(material, clips=[Clip("longer", moving_square(frames=20))])
    paths = [Ablation([cell], [0], one, tmp_path).cell_path(cell, 0) for one in (material, longer)]
    assert paths[0] != paths[1]


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--frames", "2"], "--frames 2: at least 3"),
        (["--set", "speed=9"], "no setting 'speed'"),
        ([], "expected the DAVIS layout"),
    ],
)
def test_wrong_input_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], extra: list[str], message: str
) -> None:
    given = ["--data", str(tmp_path), "--held-out", str(tmp_path / "none"), "--out", str(tmp_path / "out")]
    assert main([*given, *extra]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said

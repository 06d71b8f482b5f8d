"""A run: every stage on the tiny recipe, and a stop that leaves no trace."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from maskstream.checkpoint import Checkpoint
from train.clips import Clip
from train.journal import Journal
from train.loop import Run, learning_rate
from train.recipes import Recipe, StageSettings, tiny


def run_in(folder: Path, clips: list[Clip], recipe: Recipe | None = None) -> Run:
    return Run(recipe or tiny(), clips, folder, seed=3, journal=Journal(folder))


def test_a_run_leaves_a_checkpoint_curves_and_pictures(clips: list[Clip], tmp_path: Path) -> None:
    run_in(tmp_path, clips).learn({"note": "test"})
    checkpoint = Checkpoint.load(tmp_path / "checkpoint.pt")
    assert checkpoint.config == tiny().model
    assert checkpoint.provenance == {"note": "test"}
    assert list((tmp_path / "tensorboard").iterdir())
    for name in ("pseudo_masks_1", "propagated_masks_1"):
        assert (tmp_path / "pictures" / f"{name}.jpg").stat().st_size > 1000


class StopAfter(Journal):
    """Interrupts the run at one step of one stage, as Ctrl-C would."""

    def __init__(self, out: Path, stage: str, step: int) -> None:
        super().__init__(out)
        self._stop_stage, self._stop_step = stage, step

    def scalars(self, values: dict[str, float], step: int) -> None:
        super().scalars(values, step)
        if step == self._stop_step and any(name.startswith(self._stop_stage) for name in values):
            raise KeyboardInterrupt


@pytest.mark.parametrize(("stage", "step"), [("correspondence", 2), ("masks1", 3)])
def test_a_run_stopped_and_resumed_ends_bit_for_bit_like_one_that_was_not(
    clips: list[Clip], tmp_path: Path, stage: str, step: int
) -> None:
    run_in(tmp_path / "whole", clips).learn({})
    stopped = Run(tiny(), clips, tmp_path / "stopped", 3, StopAfter(tmp_path / "stopped", stage, step))
    with pytest.raises(KeyboardInterrupt):
        stopped.learn({})
    resumed = run_in(tmp_path / "stopped", clips)
    resumed.resume()
    assert resumed.position.step == step
    resumed.learn({})
    whole, again = (Checkpoint.load(tmp_path / name / "checkpoint.pt").weights for name in ("whole", "stopped"))
    assert [name for name in whole if not torch.equal(whole[name], again[name])] == []


def test_the_mask_stage_leaves_keys_and_batch_statistics_alone(clips: list[Clip], tmp_path: Path) -> None:
    recipe = replace(tiny(), correspondence_stage=StageSettings(steps=1, learning_rate=1e-3))
    run = run_in(tmp_path, clips, recipe)
    run.recipe = replace(recipe, rounds=0)
    run.learn({})
    before = {n: t.clone() for n, t in run.segmenter.frame_encoder.state_dict().items()}
    run.recipe = recipe
    run.learn({})
    after = run.segmenter.frame_encoder.state_dict()
    learnt = ("context_head", "skip8_head", "skip4_head")
    assert all(torch.equal(before[n], after[n]) for n in before if not n.startswith(learnt))
    assert any(not torch.equal(before[n], after[n]) for n in before if n.startswith(learnt))


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_its_state(clips: list[Clip], tmp_path: Path) -> None:
    run = run_in(tmp_path, clips)
    with torch.no_grad():
        run.segmenter.frame_encoder.stem[0].weight.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        run.learn({})
    assert run.state_path.exists()


def test_learning_rate_warms_up_and_falls() -> None:
    settings = StageSettings(steps=100, learning_rate=1.0, warmup_steps=10)
    rates = [learning_rate(step, settings) for step in range(100)]
    assert rates[0] == pytest.approx(0.1, rel=0.01)
    assert max(rates) == pytest.approx(1.0, rel=0.05)
    assert rates[-1] == pytest.approx(0.01, rel=0.3)

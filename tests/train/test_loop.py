"""A run: every stage on the tiny recipe, and a stop that leaves no trace wherever it falls."""

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from maskstream.checkpoint import Checkpoint
from maskstream.errors import CheckpointError
from train import loop
from train.clips import Clip
from train.compute import Compute
from train.distributed import Group
from train.interruption import Stopped
from train.journal import Journal
from train.loop import Diverged, Place, Run
from train.recipes import Recipe, StageSettings, tiny
from train.saving import SaveFailed

SHORT = StageSettings(steps=3, learning_rate=1e-3, warmup_steps=1)
# Two rounds with everything on: correspondence between the rounds, and beside the masks, which move the keys too.
FULL = replace(
    tiny(),
    correspondence_stage=SHORT,
    mask_stage=replace(SHORT, steps=2),
    rounds=2,
    correspondence_between_rounds=2,
    masks=replace(tiny().masks, encoder_rate=0.5),
    masks_correspondence_weight=0.5,
    masks_correspondence_clips=2,
)
KEYS = ("frame_encoder.stem.", "frame_encoder.stages.", "frame_encoder.key_head.")


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take half of a short run; the run that nobody stopped has drawn them before this comes into force."""
    for name in ("propagated_sheet", "pseudo_mask_sheet"):
        monkeypatch.setattr(loop, name, lambda *given: np.zeros((8, 8, 3), np.uint8))


def run_in(folder: Path, clips: list[Clip], recipe: Recipe = FULL, journal: Journal | None = None) -> Run:
    return Run(recipe, clips, folder, seed=3, journal=journal or Journal(folder))


@pytest.fixture(scope="module")
def whole(clips: list[Clip], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with everything on that nobody stopped."""
    folder = tmp_path_factory.mktemp("whole")
    run_in(folder, clips).learn({"note": "test"})
    return folder


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """All values of nested dicts and lists by their path."""
    if isinstance(value, dict | list):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        return {path: leaf for key, part in parts for path, leaf in flat(part, f"{name}/{key}").items()}
    return {name: value}


def same(first: Any, second: Any) -> bool:
    return torch.equal(first, second) if isinstance(first, torch.Tensor) else bool(first == second)


def differing(first: Path, second: Path) -> list[str]:
    """What differs between the states and checkpoints of two runs."""
    states = [flat(torch.load(folder / "state.pt", weights_only=True)) for folder in (first, second)]
    weights = [flat(Checkpoint.load(folder / "checkpoint.pt").weights) for folder in (first, second)]
    found = []
    for one, other in (states, weights):
        found += sorted(one.keys() ^ other.keys())
        shared = one.keys() & other.keys() - {"/seconds"}
        found += [name for name in shared if not same(one[name], other[name])]
    return found


def test_a_run_leaves_a_checkpoint_curves_and_pictures(whole: Path) -> None:
    checkpoint = Checkpoint.load(whole / "checkpoint.pt")
    assert checkpoint.config == tiny().model
    assert checkpoint.provenance == {"note": "test"}
    assert list((whole / "tensorboard").iterdir())
    for name in ("pseudo_masks_1", "propagated_masks_1", "pseudo_masks_2", "propagated_masks_2"):
        assert (whole / "pictures" / f"{name}.jpg").stat().st_size > 1000
    assert not list(whole.glob("*.partial"))


class StopAt(Journal):
    """Sends this process a signal at one step of one stage."""

    def __init__(self, out: Path, stage: str, step: int, signal_number: int = signal.SIGTERM) -> None:
        super().__init__(out)
        self._where, self._signal = (stage, step), signal_number

    def scalars(self, values: dict[str, float], step: int) -> None:
        super().scalars(values, step)
        stage = next(iter(values)).partition("/")[0]
        if (stage, step) == self._where:
            self._where = ("", 0)
            os.kill(os.getpid(), self._signal)


def stopped_and_resumed(folder: Path, clips: list[Clip], journal: Journal) -> int:
    """Number of the signal that stopped the run; afterwards it is at its end."""
    run = run_in(folder, clips, journal=journal)
    with pytest.raises(Stopped) as stop, run.interruption.listening():
        run.learn({"note": "test"})
    resumed = run_in(folder, clips)
    resumed.resume()
    assert (resumed.position, resumed.figures.state()) == (run.position, run.figures.state())
    resumed.learn({"note": "test"})
    return stop.value.signal_number


@pytest.mark.parametrize(
    ("stage", "step"),
    [("correspondence", 2), ("masks1", 1), ("correspondence2", 1), ("masks2", 2)],
)
def test_a_run_stopped_and_resumed_ends_bit_for_bit_like_one_that_was_not(
    whole: Path, clips: list[Clip], tmp_path: Path, stage: str, step: int
) -> None:
    assert stopped_and_resumed(tmp_path, clips, StopAt(tmp_path, stage, step)) == signal.SIGTERM
    assert differing(whole, tmp_path) == []


def interrupting(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, sending this process a Ctrl-C the first time it is called."""
    calls = []

    def called(*given: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return function(*given, **named)

    return called


@pytest.mark.parametrize("name", ["pseudo_windows", "propagated_sheet"])
def test_a_stop_within_clustering_or_drawing_leaves_no_trace_either(
    whole: Path, clips: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(loop, name, interrupting(getattr(loop, name)))
    assert stopped_and_resumed(tmp_path, clips, Journal(tmp_path)) == signal.SIGINT
    assert differing(whole, tmp_path) == []


def test_pseudo_masks_that_were_deleted_are_made_again_the_same(whole: Path, clips: list[Clip], tmp_path: Path) -> None:
    run = run_in(tmp_path, clips, journal=StopAt(tmp_path, "masks1", 1))
    with pytest.raises(Stopped), run.interruption.listening():
        run.learn({"note": "test"})
    for path in (tmp_path / "pseudo_masks").iterdir():
        path.unlink()
    resumed = run_in(tmp_path, clips)
    resumed.resume()
    resumed.learn({"note": "test"})
    assert differing(whole, tmp_path) == [], "the encoder has moved on since, and they must not move with it"


def test_a_process_killed_between_two_saves_goes_on_from_the_last(
    whole: Path, clips: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        """Nothing of ours sees a SIGKILL: here, no save comes after it."""

    run = run_in(tmp_path, clips)
    step = run._step

    def dying(*given: Any) -> dict[str, float]:
        if (run.position.stage, run.position.step) == (1, 1):
            monkeypatch.setattr(run, "save", lambda: None)
            raise Killed
        return step(*given)

    monkeypatch.setattr(run, "_step", dying)
    with pytest.raises(Killed):
        run.learn({"note": "test"})
    resumed = run_in(tmp_path, clips)
    resumed.resume()
    assert (resumed.position.stage, resumed.position.step) == (1, 0), "the end of a stage is saved"
    resumed.learn({"note": "test"})
    assert differing(whole, tmp_path) == []


def test_a_step_that_fails_is_not_saved(clips: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = replace(FULL, save_seconds=0.0)
    run = run_in(tmp_path, clips, recipe)
    losses = loop.Correspondence.losses

    def poisoned(self: Any, segmenter: Any, batch: Any, step: int) -> dict[str, torch.Tensor]:
        terms = losses(self, segmenter, batch, step)  # which moves the norms' statistics
        return {name: value * float("nan") for name, value in terms.items()} if step == 2 else terms

    monkeypatch.setattr(loop.Correspondence, "losses", poisoned)
    with pytest.raises(Diverged, match=r"not finite at step 2 of correspondence .*lower the learning rate"):
        run.learn({})
    resumed = run_in(tmp_path, clips, recipe)
    resumed.resume()
    assert resumed.position.step == 2
    counts = {n: int(t) for n, t in resumed.segmenter.state_dict().items() if n.endswith("num_batches_tracked")}
    assert counts["frame_encoder.stem.1.num_batches_tracked"] == 2


def test_a_full_disk_on_the_way_is_a_warning_and_at_the_end_an_error(
    clips: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = replace(FULL, rounds=0, save_seconds=0.0)
    run_in(tmp_path / "whole", clips, recipe).learn({})
    real, states = torch.save, []

    def nearly_full_disk(record: Any, path: Path) -> None:
        states.append(path) if "state" in Path(path).name else None
        if "state" in Path(path).name and len(states) in (2, 3):
            Path(path).write_bytes(b"half of it")
            raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0")
        real(record, path)

    monkeypatch.setattr(torch, "save", nearly_full_disk)
    run_in(tmp_path / "run", clips, recipe).learn({})
    said = capsys.readouterr().err
    assert f"free space in {tmp_path / 'run'} and continue with --resume; learning goes on" in said
    assert differing(tmp_path / "whole", tmp_path / "run") == [], "some saves failed, later ones did not"

    def full_disk(record: Any, path: Path) -> None:
        Path(path).write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    again = run_in(tmp_path / "run", clips, recipe)
    again.resume()
    with pytest.raises(SaveFailed, match=r"cannot write .*checkpoint\.pt \(No space left on device\)"):
        again.learn({})
    monkeypatch.undo()
    assert differing(tmp_path / "whole", tmp_path / "run") == [], "what was there is still there"
    assert not list((tmp_path / "run").glob("*.partial"))


def test_the_mask_stage_leaves_keys_and_batch_statistics_alone(clips: list[Clip], tmp_path: Path) -> None:
    recipe = replace(tiny(), correspondence_stage=replace(SHORT, steps=1))
    run_in(tmp_path, clips, replace(recipe, rounds=0)).learn({})
    run = run_in(tmp_path, clips, recipe)
    run.resume()
    before = {n: t.clone() for n, t in run.segmenter.state_dict().items()}
    run.learn({})
    after = run.segmenter.state_dict()
    assert run.position.stage == 2, "rounds can be added to a run that is done"
    resting = [n for n in before if n.startswith(KEYS)]
    assert resting
    assert all(torch.equal(before[n], after[n]) for n in resting)
    assert any(not torch.equal(before[n], after[n]) for n in before if n.startswith("mask_decoder."))


def test_with_correspondence_beside_it_the_mask_stage_moves_the_keys(clips: list[Clip], tmp_path: Path) -> None:
    run = run_in(tmp_path, clips, replace(FULL, rounds=1))
    seen: dict[str, float] = {}
    real = run._step

    def watched(*given: Any) -> dict[str, float]:
        seen.update(
            {n: float(t.detach().double().sum()) for n, t in run.segmenter.named_parameters()} if not seen else {}
        )
        figures = real(*given)
        if run.position.stage == 1:
            assert {"ce", "iou_decoded", "correspondence_walk"} <= figures.keys()
        return figures

    run._step = watched  # type: ignore[method-assign]
    run.learn({})
    assert run.figures.state()["losses"]["masks1"]["correspondence_walk"][2] == 2
    moved = [
        n
        for n, t in run.segmenter.named_parameters()
        if n.startswith(KEYS) and float(t.detach().double().sum()) != seen[n]
    ]
    assert moved


def test_the_average_is_slow_and_its_decay_is_a_setting(clips: list[Clip], tmp_path: Path) -> None:
    recipe = replace(tiny(), rounds=0, correspondence_stage=replace(SHORT, steps=2))
    fast = run_in(tmp_path / "fast", clips, replace(recipe, ema_decay=0.0))
    fast.learn({})
    assert all(torch.equal(a, b) for a, b in zip(fast.average.parameters(), fast.segmenter.parameters(), strict=True))
    slow = run_in(tmp_path / "slow", clips, replace(recipe, ema_decay=0.1))
    start = slow.segmenter.state_dict()["frame_encoder.stem.0.weight"].clone()
    slow.learn({})
    between, end = (net.state_dict()["frame_encoder.stem.0.weight"] for net in (slow.average, slow.segmenter))
    assert 0 < float((between - end).norm()) < float((between - start).norm())


def test_bf16_learns_the_same_and_resumes_bit_for_bit(clips: list[Clip], tmp_path: Path) -> None:
    recipe = replace(FULL, rounds=1)
    place = Place(Compute(torch.device("cpu"), "bf16"))
    exact = run_in(tmp_path / "fp32", clips, recipe)
    exact.learn({})
    run = Run(recipe, clips, tmp_path / "whole", 3, Journal(tmp_path / "whole"), place)
    run.learn({})
    for stage, losses in exact.figures.state()["losses"].items():
        for name, (first, _, _) in losses.items():
            assert run.figures.state()["losses"][stage][name][0] == pytest.approx(first, rel=0.1, abs=0.05)
    assert {t.dtype for t in run.segmenter.parameters()} == {torch.float32}
    stopped = Run(recipe, clips, tmp_path / "again", 3, StopAt(tmp_path / "again", "masks1", 1), place)
    with pytest.raises(Stopped), stopped.interruption.listening():
        stopped.learn({})
    resumed = Run(recipe, clips, tmp_path / "again", 3, Journal(tmp_path / "again"), place)
    resumed.resume()
    resumed.learn({})
    assert differing(tmp_path / "whole", tmp_path / "again") == []


def test_a_state_that_cannot_be_read_is_one_clear_error(whole: Path, clips: list[Clip], tmp_path: Path) -> None:
    (tmp_path / "state.pt").write_bytes(b"no state")
    with pytest.raises(CheckpointError, match=r"state\.pt: this recipe cannot go on from it"):
        run_in(tmp_path, clips).resume()
    wide = replace(FULL, model=replace(FULL.model, key_channels=8))
    with pytest.raises(CheckpointError, match="resume with the recipe it was made with"):
        run_in(whole, clips, wide).resume()


def test_a_batch_that_processes_cannot_share_evenly_names_the_numbers(clips: list[Clip], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"correspondence\.clips=2 cannot be shared evenly by 3 processes.*clips=3"):
        Run(FULL, clips, tmp_path, 0, Journal(tmp_path), Place(group=Group(rank=1, size=3)))


def test_more_threads_prepare_the_same_batches(clips: list[Clip], tmp_path: Path) -> None:
    recipe = replace(FULL, rounds=1)
    run_in(tmp_path / "one", clips, recipe).learn({})
    Run(recipe, clips, tmp_path / "four", 3, Journal(tmp_path / "four"), Place(threads=4)).learn({})
    assert differing(tmp_path / "one", tmp_path / "four") == []
    assert np.isfinite(list(flat(torch.load(tmp_path / "one" / "state.pt")["figures"]).values())).all()

"""Adaptation: what is held out is not learnt from, and the report says plainly when learning made it worse."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes import FakeNetworks
from moving_square import moving_square

from maskstream.checkpoint import Checkpoint
from maskstream.model.segmenter import Segmenter
from maskstream.networks import FrameFeatures, MemoryView, SoftMasks
from maskstream.pictures import read_picture
from maskstream.video import VideoWriter
from train import adaptation
from train.__main__ import main
from train.adaptation import (
    AdaptationSettings,
    compare,
    markdown,
    probes,
    report_adaptation,
    scores_of,
    split,
    verdict,
)
from train.clips import Clip
from train.recipes import tiny


@pytest.fixture(scope="module")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("long")
    with VideoWriter(folder / "long.mp4") as writer:
        for frame in moving_square(frames=40, seed=1):
            writer.write(frame)
    return folder


def test_a_run_from_other_weights_ends_with_the_report(
    long_video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, out = tmp_path / "shipped.pt", tmp_path / "run"
    torch.manual_seed(0)
    Checkpoint(Segmenter(tiny().model).state_dict(), tiny().model).save(weights)
    steps = ["--set", "correspondence_stage.steps=1", "--set", "rounds=0"]
    given = ["--recipe", "tiny", "--data", str(long_video), "--out", str(out), "--threads", "1", *steps]
    assert main([*given, "--resume-from", str(weights)]) == 0
    said = capsys.readouterr().out
    assert "1 clips, 32 frames; 0 videos skipped" in said, "eight frames are not learnt from"
    assert "the end of 1 of the clips is held out" in said
    assert "cycle consistency" in said
    first = (out / "adaptation.json").read_text()
    assert json.loads(first)["clips"][0]["frames"] == 8
    kept = Checkpoint.load(out / "before.pt").weights
    assert all(torch.equal(kept[name], tensor) for name, tensor in Checkpoint.load(weights).weights.items())
    (out / "adaptation.json").unlink()
    weights.unlink()
    assert main([*given, "--resume"]) == 0, "a run that goes on needs only its own folder"
    assert (out / "adaptation.json").read_text() == first


def test_a_run_from_nothing_learns_from_all_and_reports_nothing(long_video: Path, tmp_path: Path) -> None:
    steps = ["--set", "correspondence_stage.steps=1", "--set", "rounds=0"]
    assert main(["--recipe", "tiny", "--data", str(long_video), "--out", str(tmp_path), "--threads", "1", *steps]) == 0
    assert json.loads((tmp_path / "config.json").read_text())["frames"] == 40
    assert not (tmp_path / "adaptation.json").exists()


def clip_of(frames: int, name: str = "clip") -> Clip:
    return Clip(name, moving_square(frames=frames, seed=1))


def test_the_end_of_a_clip_is_held_out_and_only_of_a_long_one() -> None:
    long, short = clip_of(40, "long"), clip_of(39, "short")
    learnt, held_out = split([long, short], AdaptationSettings())
    assert [len(clip.frames) for clip in learnt] == [32, 39]
    assert [(clip.name, len(clip.frames)) for clip in held_out] == [("long", 8)]
    assert np.array_equal(np.concatenate((learnt[0].frames, held_out[0].frames)), long.frames)


def test_how_much_is_held_out_is_a_setting() -> None:
    assert len(split([clip_of(40)], AdaptationSettings(held_out_share=0.5))[1][0].frames) == 20
    assert split([clip_of(40)], AdaptationSettings(held_out_share=0.0))[1] == []
    with pytest.raises(ValueError, match=r"held_out_share=0\.7; expected 0 to 0\.5"):
        AdaptationSettings(held_out_share=0.7)


def test_probes_are_few_short_and_show_something() -> None:
    still = Clip("nothing in it", np.full((8, 96, 128, 3), 90, np.uint8))
    made = probes([still, clip_of(10, "a"), clip_of(10, "b")], AdaptationSettings(clips=2, frames=5))
    assert [(probe.clip.name, len(probe.clip.frames)) for probe in made] == [("b", 5)]


def test_worse_is_what_falls_by_more_than_the_tolerance() -> None:
    before = {"cycle": 80.0, "stability": 70.0, "decoded": 50.0, "copied": 10.0}
    after = {"cycle": 78.0, "stability": 67.9, "decoded": 55.0, "copied": 10.0}
    measured = compare(before, after, 2.0)
    assert [(one.name, one.change, one.worse) for one in measured] == [
        ("cycle", -2.0, False),
        ("stability", -2.1, True),
        ("decoded", 5.0, False),
    ]
    said = verdict(measured, 2.0)
    assert said == "keep the old weights: temporal stability fell by 2.10, more than the 2 points that are allowed"
    assert verdict(measured[:1], 2.0) == "no measure fell by more than the 2 points that are allowed"
    assert "nothing could be measured" in verdict([], 2.0)


def test_without_anything_to_measure_the_report_still_says_so(tmp_path: Path) -> None:
    segmenter = Segmenter(tiny().model)
    table, said = report_adaptation(tmp_path, segmenter, segmenter, [], [], AdaptationSettings())
    assert table is None
    assert said.startswith("nothing could be measured")
    assert json.loads((tmp_path / "adaptation.json").read_text())["recommended"] is None
    assert "Nothing could be measured" in (tmp_path / "adaptation.md").read_text()
    assert scores_of([]) == {}


class Losing(FakeNetworks):
    """Finds nothing on any frame; the fake itself leaves every mask where it is."""

    def segment(self, features: FrameFeatures, memory: MemoryView) -> SoftMasks:
        soft = np.zeros_like(super().segment(features, memory).decoded)
        return SoftMasks(soft, soft)


def test_the_report_has_both_weights_their_difference_and_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, broken = Segmenter(tiny().model), Segmenter(tiny().model)
    monkeypatch.setattr(adaptation, "TorchNetworks", lambda one, device: FakeNetworks() if one is before else Losing())
    table, said = report_adaptation(tmp_path, before, broken, [clip_of(8)], [], AdaptationSettings())
    record = json.loads((tmp_path / "adaptation.json").read_text())
    measures = record["measures"]
    assert measures["cycle"]["before"] > 75, (
        "what never moves comes home, but for its edges, which are cells of the fake"
    )
    assert 20 < measures["stability"]["before"] < 95, "while the thing moves away from under it"
    assert measures["cycle"]["after"] == measures["stability"]["after"] == 0
    assert measures["stability"]["worse"]
    assert record["recommended"] == "before"
    assert record["clips"][0]["before"]["cycle"] == measures["cycle"]["before"], "one clip is the mean"
    assert "keep the old weights" in said
    assert "cycle consistency" in str(table)
    page = (tmp_path / "adaptation.md").read_text()
    assert "Keep the old weights" in page
    assert f"| clip | 8 | {record['clips'][0]['objects']} |" in page
    assert read_picture(tmp_path / "adaptation.jpg").shape[1] == 1200


def test_a_page_without_clips_shows_scores_alone() -> None:
    measured = compare({"decoded": 50.0}, {"decoded": 51.5}, 2.0)
    page = markdown(measured, verdict(measured, 2.0), {"clips": []})
    assert "| J&F | 50.00 | 51.50 | +1.50 |" in page
    assert "adaptation.jpg" not in page

"""Adaptation: did learning from a user's own videos help? The same measures before and after, on a part held out.

The end of every clip that is long enough is kept from learning. On it, masks drawn without any network
(train.start_masks) are followed by the weights that the run began with and by those it ended with. Both are measured at
the end, the first from OUT/before.pt, so that a run which was interrupted needs to remember nothing else.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from maskstream.consistency import Consistency, consistency, mean_of
from maskstream.engines.torch_networks import TorchNetworks
from maskstream.masks import IdMap, object_ids
from maskstream.model.segmenter import Segmenter
from maskstream.networks import Networks
from maskstream.overlay import Picture, contact_sheet, draw_overlay
from maskstream.pictures import write_jpeg
from maskstream.progress import progress
from maskstream.steps import StepSequence
from maskstream.tables import Table
from train.clips import Clip
from train.evaluate import held_out_scores
from train.saving import write_whole
from train.start_masks import start_masks

FEWEST_HELD_OUT = 8  # frames; over fewer nothing has time to go wrong
SHOWN_CLIPS, SHOWN_FRAMES = 4, 4  # of the picture
SHEET_WIDTH, TITLE_HEIGHT = 1200, 28  # pixels
TITLES = {
    "cycle": "cycle consistency",
    "stability": "temporal stability",
    "decoded": "J&F",
    "coarse": "J&F, coarse",
}

Scores = dict[str, float]  # 0..100 by the names in TITLES


@dataclass(frozen=True)
class AdaptationSettings:
    """What is held out of the clips, and when a measure counts as worse.

    Raises ValueError for a share that leaves too little to learn from.
    """

    held_out_share: float = 0.2  # of every clip, its end; 0 holds nothing out
    clips: int = 8  # measured at most, spread evenly over all
    frames: int = 24  # of each of them at most
    tolerance: float = 2.0  # points of 100 that a measure may lose before the old weights are recommended

    def __post_init__(self) -> None:
        if not 0 <= self.held_out_share <= 0.5:
            raise ValueError(f"adaptation.held_out_share={self.held_out_share}; expected 0 to 0.5")


@dataclass(frozen=True)
class Probe:
    """Frames that were held out, and the masks of the first of them that are followed through the others."""

    clip: Clip
    start: IdMap


@dataclass(frozen=True)
class Measured:
    """One measure under both sets of weights, 0..100."""

    name: str
    before: float
    after: float
    worse: bool  # by more than the tolerance

    @property
    def change(self) -> float:
        """Points gained; negative when lost."""
        return round(self.after - self.before, 2)


def split(clips: Sequence[Clip], settings: AdaptationSettings) -> tuple[list[Clip], list[Clip]]:
    """What is learnt from, and the ends that are not. A clip whose end would be too short is learnt from whole."""
    learnt, held_out = [], []
    for clip in clips:
        count = int(settings.held_out_share * len(clip.frames) + 1e-6)
        if count < FEWEST_HELD_OUT:
            learnt.append(clip)
        else:
            learnt.append(replace(clip, frames=clip.frames[:-count]))
            held_out.append(replace(clip, frames=clip.frames[-count:]))
    return learnt, held_out


def probes(held_out: Sequence[Clip], settings: AdaptationSettings) -> list[Probe]:
    """Held-out frames with start masks; a clip in which nothing stands out is left out."""
    places = np.linspace(0, len(held_out) - 1, min(settings.clips, len(held_out))).round().astype(int)
    chosen = [replace(held_out[place], frames=held_out[place].frames[: settings.frames]) for place in places]
    made = [Probe(clip, start_masks(list(clip.frames))) for clip in chosen]
    return [probe for probe in made if probe.start.any()]


def measure(networks: Networks, wanted: Sequence[Probe]) -> list[Consistency]:
    """Both measures of every probe."""
    found = []
    with progress("measuring", len(wanted), "clips") as advance:
        for probe in wanted:
            found.append(consistency(networks, list(probe.clip.frames), probe.start))
            advance()
    return found


def scores_of(found: Sequence[Consistency]) -> Scores:
    """Means over clips of the means over their objects, 0..100; empty without any clip."""
    if not found:
        return {}
    return {
        "cycle": round(100 * float(np.mean([mean_of(one.cycle) for one in found])), 2),
        "stability": round(100 * float(np.mean([mean_of(one.stability) for one in found])), 2),
    }


def compare(before: Mapping[str, float], after: Mapping[str, float], tolerance: float) -> list[Measured]:
    """The measures that both have, in the order of TITLES; `tolerance` in points."""
    names = [name for name in TITLES if name in before and name in after]
    return [Measured(name, before[name], after[name], after[name] < before[name] - tolerance) for name in names]


def verdict(measured: Sequence[Measured], tolerance: float) -> str:
    """One line of advice."""
    if not measured:
        return (
            "nothing could be measured: no clip is long enough to hold a part out, or nothing stands out in it; "
            "give longer videos, raise adaptation.held_out_share, or add --held-out"
        )
    worse = [f"{TITLES[one.name]} fell by {-one.change:.2f}" for one in measured if one.worse]
    if worse:
        return f"keep the old weights: {' and '.join(worse)}, more than the {tolerance:g} points that are allowed"
    return f"no measure fell by more than the {tolerance:g} points that are allowed"


def report_adaptation(
    out: Path,
    before: Segmenter,
    after: Segmenter,
    held_out: Sequence[Clip],
    sequences: Sequence[StepSequence],
    settings: AdaptationSettings,
) -> tuple[Table | None, str]:
    """Measure both, write adaptation.json, adaptation.md and adaptation.jpg into `out`; a table and advice to print.

    `sequences` have masks and give J&F; there may be none. Raises SaveFailed when a file cannot be written.
    """
    wanted = probes(held_out, settings)
    networks = [TorchNetworks(one, str(one.frame_encoder.pixel_mean.device)) for one in (before, after)]
    found = [measure(one, wanted) for one in networks]
    scores: list[Scores] = [scores_of(one) for one in found]
    if sequences:
        scores = [old | held_out_scores(one, sequences) for old, one in zip(scores, (before, after), strict=True)]
    measured = compare(scores[0], scores[1], settings.tolerance)
    advice = verdict(measured, settings.tolerance)
    if wanted:
        sheet = picture(wanted, found[0], found[1])
        write_whole(out / "adaptation.jpg", lambda path: write_jpeg(path, sheet))
    record = _record(measured, advice, wanted, found, settings)
    _write(out / "adaptation.json", json.dumps(record, indent=2) + "\n")
    _write(out / "adaptation.md", markdown(measured, advice, record))
    return _table(measured) if measured else None, advice


def markdown(measured: Sequence[Measured], advice: str, record: Mapping[str, Any]) -> str:
    """The report as a page: what was measured, the advice, each clip, and the picture."""
    lines = ["# Before and after", "", f"{advice[0].upper()}{advice[1:]}.", ""]
    if measured:
        lines += ["| 0..100 | before | after | change |", "|---|---|---|---|"]
        lines += [
            f"| {TITLES[one.name]} | {one.before:.2f} | {one.after:.2f} | {one.change:+.2f} |" for one in measured
        ]
    if record["clips"]:
        lines += ["", "| held out of | frames | masks | cycle | | stability | |", "|---|---|---|---|---|---|---|"]
        for clip in record["clips"]:
            pairs = [f"{clip['before'][name]:.1f} | {clip['after'][name]:.1f}" for name in ("cycle", "stability")]
            lines.append(f"| {clip['name']} | {clip['frames']} | {clip['objects']} | {' | '.join(pairs)} |")
        lines += ["", "![before and after](adaptation.jpg)"]
    return "\n".join(lines) + "\n"


def picture(wanted: Sequence[Probe], before: Sequence[Consistency], after: Sequence[Consistency]) -> Picture:
    """Two rows of overlays for each of the first clips, uint8 [H, SHEET_WIDTH, 3]."""
    rows: list[Picture] = []
    for probe, *both in list(zip(wanted, before, after, strict=True))[:SHOWN_CLIPS]:
        shown = np.linspace(0, len(probe.clip.frames) - 1, SHOWN_FRAMES).round().astype(int)
        for when, found in zip(("before", "after"), both, strict=True):
            drawn = [draw_overlay(np.asarray(probe.clip.frames[i]), found.answers[i]) for i in shown]
            rows += [_title(f"{probe.clip.name}, {when}"), contact_sheet(drawn, SHOWN_FRAMES, SHEET_WIDTH)]
    return np.concatenate(rows)


def _title(text: str) -> Picture:
    strip = np.full((TITLE_HEIGHT, SHEET_WIDTH, 3), 255, np.uint8)
    plain = text.encode("ascii", "replace").decode()  # all that OpenCV's fonts hold
    cv2.putText(strip, plain, (4, TITLE_HEIGHT - 9), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0, 0, 0), 1, cv2.LINE_AA)
    return strip


def _table(measured: Sequence[Measured]) -> Table:
    rows = [[TITLES[one.name], one.before, one.after, f"{one.change:+.2f}"] for one in measured]
    return Table(["held out, 0..100", "before", "after", "change"], rows)


def _record(
    measured: Sequence[Measured],
    advice: str,
    wanted: Sequence[Probe],
    found: Sequence[Sequence[Consistency]],
    settings: AdaptationSettings,
) -> dict[str, Any]:
    clips = [
        {
            "name": probe.clip.name,
            "frames": len(probe.clip.frames),
            "objects": len(object_ids(probe.start)),
            "before": scores_of([before]),
            "after": scores_of([after]),
        }
        for probe, before, after in zip(wanted, *found, strict=True)
    ]
    measures = {one.name: asdict(one) | {"change": one.change} for one in measured}
    keep = "before" if any(one.worse for one in measured) else "after"
    recommended = keep if measured else None
    return {"recommended": recommended, "verdict": advice, "measures": measures, "clips": clips} | {
        "settings": asdict(settings)
    }


def _write(path: Path, text: str) -> None:
    write_whole(path, lambda partial: _filled(partial, text))


def _filled(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")

"""fp32 graphs -> int8 graphs: calibrate on clips, quantise, leave in float what the masks need. The files are replaced.

Everything is judged by masks: the real tracker runs over the clips with float32 graphs, which calibrates and gives what
to compare with, then with quantised ones. The record says on what it was calibrated and which blocks stayed in float.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import onnx
from onnx import ModelProto

from export.following import Answer, follow, overlaps
from export.int8.calibration import CalibrationClip, CalibrationSettings, calibration_clips
from export.int8.float_layers import choose_float_blocks
from export.int8.quantise import Range, folded, layers, quantise
from export.int8.ranges import Ranges, RangeSettings, observed_run
from export.int8.trial_networks import Run, TrialNetworks, run_of
from maskstream.networks import NetworkSpec


@dataclass(frozen=True)
class Int8Settings:
    """How int8 is made. `mask_iou` is what the masks along the worst clip, in the mean, must keep."""

    mask_iou: float = 0.98
    calibration: CalibrationSettings = field(default_factory=CalibrationSettings)
    ranges: RangeSettings = field(default_factory=RangeSettings)
    ranking_clips: int = 2  # what blocks are ranked on
    ranking_frames: int = 4


def count_int8_steps(settings: Int8Settings | None = None) -> int:
    """How often `quantise_files` calls `done` at least: two runs over all frames, when there are enough clips."""
    chosen = (settings or Int8Settings()).calibration
    return 2 * chosen.clips * chosen.frames


def quantise_files(
    files: Mapping[str, Path],
    spec: NetworkSpec,
    videos: Sequence[Path],
    done: Callable[[], None],
    say: Callable[[str], None],
    settings: Int8Settings | None = None,
) -> dict[str, Any]:
    """Replace the ONNX file of each graph by its int8 form; the record, for the manifest.

    `videos` are calibrated on; without any the drawn clip is. `done` is called after each frame, `say` gets what the
    user should know. Raises CalibrationError or VideoError.
    """
    chosen = settings or Int8Settings()
    if not videos:
        say("int8 is calibrated on drawn clips; frames of your own cameras do better: --calibration VIDEO_OR_FOLDER")
    clips = calibration_clips(videos, chosen.calibration)
    models = {name: folded(onnx.load(file)) for name, file in files.items()}
    search = _Search(spec, models, clips, chosen, done)
    blocks = list(dict.fromkeys(layer.block for model in models.values() for layer in layers(model)))
    choice = choose_float_blocks(blocks, chosen.mask_iou, search.score, search.quick_score, say)
    for name, file in files.items():
        onnx.save(search.quantised(name, frozenset(choice.float_blocks)), file)
    return {
        "scheme": "static, QDQ; activations uint8 by tensor, weights int8 by channel",
        "calibration": {
            "clips": [clip.name for clip in clips],
            "frames": sum(len(clip.frames) for clip in clips),
            "drawn": not videos,
            **asdict(chosen.ranges),
        },
        "mask_iou": round(choice.mask_iou, 5),
        "mask_iou_needed": chosen.mask_iou,
        "blocks": blocks,
        "float_blocks": list(choice.float_blocks),
        "losses": {block: round(loss, 5) for block, loss in choice.losses.items()},
    }


class _Search:
    """Overlap with float32 of any mixture of quantised and float blocks, over the same clips."""

    def __init__(
        self,
        spec: NetworkSpec,
        models: Mapping[str, ModelProto],
        clips: Sequence[CalibrationClip],
        settings: Int8Settings,
        done: Callable[[], None],
    ) -> None:
        self._spec, self._models, self._clips, self._settings = spec, models, clips, settings
        self._done = done
        ranges = {name: Ranges(settings.ranges) for name in models}
        observed = {name: observed_run(model, ranges[name]) for name, model in models.items()}
        networks = TrialNetworks(spec, observed, "fp32")
        self._expected = [follow(networks, clip.frames, clip.prompts, done) for clip in clips]
        self._ranges: dict[str, dict[str, Range]] = {name: seen.all() for name, seen in ranges.items()}
        self._runs: dict[tuple[str, frozenset[str]], Run] = {}

    def quantised(self, name: str, float_blocks: frozenset[str]) -> ModelProto:
        return quantise(self._models[name], self._ranges[name], float_blocks)

    def score(self, float_blocks: frozenset[str]) -> float:
        """Mean overlap along the worst clip."""
        return min(self._overlaps(float_blocks, len(self._clips), self._settings.calibration.frames))

    def quick_score(self, float_blocks: frozenset[str]) -> float:
        """Mean overlap over a few frames."""
        found = self._overlaps(float_blocks, self._settings.ranking_clips, self._settings.ranking_frames)
        return sum(found) / len(found)

    def _overlaps(self, float_blocks: frozenset[str], clips: int, frames: int) -> list[float]:
        runs = {name: self._run(name, float_blocks) for name in self._models}
        networks = TrialNetworks(self._spec, runs, "int8")
        found = []
        for clip, expected in zip(self._clips[:clips], self._expected, strict=False):
            answers = follow(networks, clip.frames[:frames], clip.prompts, self._done)
            found.append(_mean_overlap(expected[: len(answers)], answers, clip))
        return found

    def _run(self, name: str, float_blocks: frozenset[str]) -> Run:
        """A graph is made and opened once for each set of its own blocks that stay in float."""
        within = float_blocks & {layer.block for layer in layers(self._models[name])}
        if (name, within) not in self._runs:
            self._runs[name, within] = run_of(self.quantised(name, within))
        return self._runs[name, within]


def _mean_overlap(expected: Sequence[Answer], found: Sequence[Answer], clip: CalibrationClip) -> float:
    return float(overlaps(expected, found, [prompt.object_id for prompt in clip.prompts]).mean())

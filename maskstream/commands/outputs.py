"""What following a video leaves in its output folder: masks, overlay video, one line of JSON a frame, a contact sheet.

Everything is written as it comes, so that a run that is stopped leaves all it had done.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from maskstream import masks
from maskstream.overlay import EvenSample, contact_sheet, draw_overlay
from maskstream.pictures import write_id_map, write_jpeg
from maskstream.report import StageTimes, score_table, stage_table
from maskstream.scores import SequenceScorer, sequence_as_percent
from maskstream.tracker import Frame
from maskstream.video import VideoWriter

_SHEET_PICTURES = 9


class SeenObject(Protocol):
    """What tracker and client both say of one object in one frame."""

    @property
    def object_id(self) -> int: ...
    @property
    def score(self) -> float: ...
    @property
    def visible(self) -> float: ...
    @property
    def area(self) -> int: ...
    @property
    def box(self) -> masks.Box | None: ...
    @property
    def lost(self) -> bool: ...


@dataclass(frozen=True)
class FollowedFrame:
    """One frame with its answer, whoever gave it."""

    index: int  # of the frame in its source; some are missing where a live source was too fast
    pts_seconds: float
    frame: Frame
    id_map: masks.IdMap
    objects: tuple[SeenObject, ...]
    stage_seconds: Mapping[str, float]


class FollowOutputs:
    """Writes followed frames under a folder and keeps what the report needs. Use it in a `with`."""

    def __init__(self, folder: Path, frames_per_second: float) -> None:
        self._masks = folder / "masks"
        self._sheet = folder / "sheet.jpg"
        self._overlay = folder / "overlay.mp4"
        self._lines = folder / "objects.jsonl"
        self._masks.mkdir(parents=True, exist_ok=True)
        self._line_file = self._lines.open("w", encoding="utf-8")
        self._video = VideoWriter(self._overlay, frames_per_second)
        self._sample = EvenSample(_SHEET_PICTURES)
        self._scorer: SequenceScorer | None = None
        self._stages = StageTimes()
        self._frames = 0
        self._started = self._ended = time.perf_counter()

    def add(self, followed: FollowedFrame, truth: masks.IdMap | None = None) -> None:
        """Write one frame; `truth`, an id map, has it scored too."""
        self._ended = time.perf_counter()
        self._frames += 1
        self._stages.add(followed.stage_seconds)
        write_id_map(self._masks / f"{followed.index:05d}.png", followed.id_map)
        self._line_file.write(json.dumps(_line(followed)) + "\n")
        self._line_file.flush()
        drawn = draw_overlay(followed.frame, followed.id_map)
        self._video.write(drawn)
        self._sample.offer(drawn)
        if truth is not None:
            self._scorer = self._scorer or SequenceScorer()
            self._scorer.add(followed.id_map, truth)

    def close(self) -> None:
        """Finish the files."""
        self._line_file.close()
        self._video.close()
        if self._frames:
            write_jpeg(self._sheet, contact_sheet(self._sample.pictures()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def report(self) -> dict[str, Any]:
        """Keys "scores" (None without truth), "frames", "fps", "stages", "outputs" of `maskstream demo` and `track`."""
        elapsed = self._ended - self._started
        return {
            "scores": sequence_as_percent(self._scorer.finish()) if self._scorer else None,
            "frames": self._frames,
            "fps": round(self._frames / elapsed, 2) if elapsed > 0 else 0.0,
            "stages": self._stages.percentiles(),
            "outputs": {
                "masks": str(self._masks),
                "overlay": str(self._overlay),
                "objects": str(self._lines),
                "sheet": str(self._sheet),
            },
        }


def print_report(report: Mapping[str, Any]) -> None:
    """Scores, latency, speed, and where things are."""
    if report["scores"]:
        print(score_table(report["scores"]) + "\n")
    if report["stages"]:
        print(stage_table(report["stages"]) + "\n")
    print(f"{report['frames']} frames, {report['fps']} frames/s")
    for name, place in report["outputs"].items():
        print(f"{name:8} {place}")


def _line(followed: FollowedFrame) -> dict[str, Any]:
    return {
        "frame": followed.index,
        "pts_seconds": round(followed.pts_seconds, 6),
        "objects": [
            {
                "id": seen.object_id,
                "score": round(seen.score, 4),
                "visible": round(seen.visible, 4),
                "area": seen.area,
                "box": list(seen.box) if seen.box else None,
                "lost": seen.lost,
            }
            for seen in followed.objects
        ],
    }

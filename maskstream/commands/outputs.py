"""What following a video leaves in its output folder, by the sinks that were asked for, and what is reported of it.

Everything is written as it comes, so that a run that is stopped leaves all it had done. Each sink is closed whatever
happens to the others.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from maskstream import masks
from maskstream.errors import MaskstreamError
from maskstream.followed import FollowedFrame, SeenObject
from maskstream.overlay import draw_overlay
from maskstream.report import StageTimes, score_table, stage_table
from maskstream.scores import SequenceScorer, sequence_as_percent
from maskstream.sinks.coco import CocoFile
from maskstream.sinks.json_lines import JsonLines
from maskstream.sinks.mask_files import DavisTree, MaskFolder, YouTubeVosTree
from maskstream.sinks.overlays import OverlayVideo, Sheet
from maskstream.sinks.sink import OutputError, Sink, clear_errors
from maskstream.tables import print_table

__all__ = ["DEFAULT_SINKS", "SINKS", "FollowOutputs", "FollowedFrame", "OutputError", "SeenObject", "parse_sinks"]

SINKS = ("masks", "overlay", "jsonl", "sheet", "coco", "davis", "youtube-vos")
DEFAULT_SINKS = ("masks", "overlay", "jsonl", "sheet")


class FollowOutputs:
    """Writes followed frames under a folder and keeps what the report needs. Use it in a `with`."""

    def __init__(
        self,
        folder: Path,
        frames_per_second: float,
        sinks: Sequence[str] = DEFAULT_SINKS,
        *,
        video: str = "video",
        more: Sequence[Sink] = (),
    ) -> None:
        """`sinks` are names out of SINKS; `video` is how the data sets among them call it; `more` are written too.

        Raises OutputError when the folder cannot be written, ValueError for a sink that is unknown.
        """
        self._place, self._sinks = str(folder), list(more)
        try:
            with clear_errors(self._place):
                for place, name in enumerate(sinks):
                    self._sinks.insert(place, _sink(name, folder, frames_per_second, video))
        except BaseException:
            self._close_all()
            raise
        self._scorer: SequenceScorer | None = None
        self._stages = StageTimes()
        self._frames = 0
        self._started = self._ended = time.perf_counter()

    def add(self, followed: FollowedFrame, truth: masks.IdMap | None = None) -> None:
        """Write one frame; `truth`, an id map, has it scored too. Raises OutputError."""
        self._ended = time.perf_counter()
        self._frames += 1
        self._stages.add(followed.stage_seconds)
        lost = [seen.object_id for seen in followed.objects if seen.lost]
        draw = cache(partial(draw_overlay, followed.frame, followed.id_map, lost=lost))
        with clear_errors(self._place):
            for sink in self._sinks:
                sink.add(followed, draw)
        if truth is not None:
            self._scorer = self._scorer or SequenceScorer()
            self._scorer.add(followed.id_map, truth)

    def close(self) -> None:
        """Finish the files, all that can be; then raises the first OutputError."""
        failures = self._close_all()
        if failures:
            raise failures[0]

    def _close_all(self) -> list[MaskstreamError]:
        return [failure for sink in self._sinks if (failure := _close(sink, self._place))]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self.close()
        except MaskstreamError:
            if not isinstance(error, MaskstreamError):  # the first error is the cause of those after it
                raise

    def report(self) -> dict[str, Any]:
        """Keys "scores" (None without truth), "frames", "fps", "stages", "outputs" of `maskstream demo` and `track`."""
        elapsed = self._ended - self._started
        places: dict[str, str] = {}
        for sink in self._sinks:
            places |= sink.outputs
        return {
            "scores": sequence_as_percent(self._scorer.finish()) if self._scorer else None,
            "frames": self._frames,
            "fps": round(self._frames / elapsed, 2) if elapsed > 0 else 0.0,
            "stages": self._stages.percentiles(),
            "outputs": places,
        }


def parse_sinks(text: str) -> tuple[str, ...]:
    """Names between commas, as --sinks takes them. Raises argparse.ArgumentTypeError for one that is unknown."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in names if name not in SINKS]
    if unknown or not names:
        raise argparse.ArgumentTypeError(f"unknown sink {', '.join(unknown) or text!r}; known: {','.join(SINKS)}")
    return names


def print_report(report: Mapping[str, Any], file: TextIO | None = None) -> None:
    """Scores, latency, speed, and where things are; to standard output, or to `file`."""
    say = partial(print, file=file or sys.stdout)
    if report["scores"]:
        print_table(score_table(report["scores"]), file=file)
        say()
    if report["stages"]:
        print_table(stage_table(report["stages"]), file=file)
        say()
    say(f"{report['frames']} frames, {report['fps']} frames/s")
    for name, place in report["outputs"].items():
        say(f"{name:8} {place}")


def _sink(name: str, folder: Path, frames_per_second: float, video: str) -> Sink:
    makers: dict[str, Callable[[], Sink]] = {
        "masks": lambda: MaskFolder("masks", folder / "masks"),
        "overlay": lambda: OverlayVideo(folder / "overlay.mp4", frames_per_second),
        "jsonl": lambda: JsonLines("objects", folder / "objects.jsonl"),
        "sheet": lambda: Sheet(folder / "sheet.jpg"),
        "coco": lambda: CocoFile(folder / "coco.json", video, frames_per_second),
        "davis": lambda: DavisTree(folder / "davis", video),
        "youtube-vos": lambda: YouTubeVosTree(folder / "youtube-vos", video),
    }
    if name not in makers:
        raise ValueError(f"unknown sink {name!r}; known: {', '.join(SINKS)}")
    return makers[name]()


def _close(sink: Sink, place: str) -> MaskstreamError | None:
    try:
        with clear_errors(place):
            sink.close()
    except MaskstreamError as error:
        return error
    return None

"""The unit of work: one video, its prompt, its outputs. The same whether a process of this machine or Ray runs it.

Whatever goes wrong with a video is an answer, not an end: the next video finds the same networks, which keep no state.
"""

import errno
import re
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version

from maskstream.archive.jobs import DISK_FULL, DONE, FAILED, Beat, Job, Outcome, WorkSettings
from maskstream.archive.prompt_book import prompts_of
from maskstream.commands.follow import follow_locally
from maskstream.commands.networks import describe
from maskstream.commands.outputs import FollowOutputs
from maskstream.errors import MaskstreamError
from maskstream.networks import Networks
from maskstream.prompt_kinds import AnyPrompt, AutoPrompt
from maskstream.tracker import Frame
from maskstream.video import FrameSource, open_source

OnBeat = Callable[[Beat], None]
_FULL = {errno.ENOSPC, errno.EDQUOT}
_NO_NAME = re.compile(r"[^A-Za-z0-9._-]+")  # what data sets do not have in the name of a video


class Follower:
    """Follows one video after the other with networks that are loaded once."""

    def __init__(self, networks: Networks, sinks: tuple[str, ...]) -> None:
        self._networks, self._sinks = networks, sinks

    @classmethod
    def load(cls, settings: WorkSettings) -> "Follower":
        """Load the networks. Raises MaskstreamError when they, or this place, are not fit for the work."""
        from maskstream.engines import load_networks

        if settings.version != version("maskstream"):
            raise MaskstreamError(
                f"this worker has maskstream {version('maskstream')}, the command {settings.version}; install the same"
            )
        if not settings.scratch.is_dir():
            raise MaskstreamError(
                f"this worker does not see {settings.scratch}; videos, prompts and --out have to lie on a file system "
                "that all workers share"
            )
        _limit_threads(settings.threads)
        return cls(load_networks(settings.artifact, settings.engine, settings.threads), settings.sinks)

    @property
    def what(self) -> str:
        """One line on what runs."""
        return describe(self._networks)

    def follow(self, job: Job, on_beat: OnBeat) -> Outcome:
        """Follow one video into `job.scratch`; `on_beat` hears of every frame."""
        started, frames = time.perf_counter(), 0
        reason = error_text = ""
        try:
            for beat in self._frames(job):
                frames = beat.frames
                on_beat(beat)
        except MaskstreamError as error:
            reason, error_text = _reason(error, error.reason), str(error)
        except Exception as error:  # noqa: BLE001 - of a library, most likely; it is the video's, and goes into its record
            reason, error_text = _reason(error, "UNEXPECTED"), f"{type(error).__name__}: {error}"
        seconds = time.perf_counter() - started
        return Outcome(job, FAILED if reason else DONE, frames, round(seconds, 3), reason, error_text)

    def _frames(self, job: Job) -> Iterator[Beat]:
        def prompts_for(frame: Frame) -> Sequence[AnyPrompt]:
            return [AutoPrompt(job.prompt.auto)] if job.prompt.auto else prompts_of(job.prompt, frame)

        with open_source(job.source) as source, self._outputs(job, source) as outputs:
            for count, followed in enumerate(follow_locally(self._networks, source, prompts_for), start=1):
                outputs.add(followed)
                yield Beat(job.video, count, source.num_frames)

    def _outputs(self, job: Job, source: FrameSource) -> FollowOutputs:
        name = _NO_NAME.sub("-", job.video).strip("-.") or "video"
        return FollowOutputs(job.scratch, source.frames_per_second, self._sinks, video=name)


def _limit_threads(threads: int | None) -> None:
    import cv2

    if threads is not None:
        cv2.setNumThreads(threads)


def _reason(error: BaseException, otherwise: str) -> str:
    """DISK_FULL for what a full disk caused, however deep: no other video would fare better."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _FULL:
            return DISK_FULL
        cause = cause.__cause__ or cause.__context__
    return otherwise

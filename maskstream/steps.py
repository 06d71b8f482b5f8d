"""What a benchmark gives for one frame: the picture, the objects it hands out there, and the truth to score against.

Layouts differ (maskstream.dataset, maskstream.youtube_vos); evaluation and reports know nothing but sequences of these
steps. They come one at a time, so that a long clip takes no more memory than a short one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from maskstream.masks import IdMap
from maskstream.tracker import Frame, Prompt


@dataclass(frozen=True)
class Step:
    """One frame: uint8 [H, W, 3], and masks and truth of the same H and W."""

    name: str  # of the frame in its dataset, hence of its mask file
    frame: Frame
    prompts: tuple[Prompt, ...] = ()
    truth: IdMap | None = None  # uint8 [H, W]; None where there is nothing to score against
    scored_ids: frozenset[int] | None = None  # the objects that `truth` speaks of; None is all
    expected: bool = True  # whether the benchmark takes a mask of this frame


class StepSequence(Protocol):
    """A sequence of any layout, read from its beginning each time `steps` is called."""

    @property
    def name(self) -> str: ...

    @property
    def num_frames(self) -> int: ...

    @property
    def num_expected(self) -> int: ...

    @property
    def last_is_scored(self) -> bool: ...

    def steps(self) -> Iterator[Step]: ...

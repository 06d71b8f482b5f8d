"""What travels between the parts of the server: requests in, answers out, none of them protobuf.

Decoding is work, so a request carries it as a function that the decode pool calls; the event loop never does.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from maskstream.errors import MaskstreamError
from maskstream.prompt_kinds import AnyPrompt, AutoPrompt, BoxPrompt, PointPrompt
from maskstream.tracker import Frame, Segmentation
from maskstream.tracker_state import TrackerState

Region = npt.NDArray[np.uint8] | npt.NDArray[np.bool_]  # [H, W], non-zero inside


class Delivery(StrEnum):
    """What happens to frames that come faster than they are answered."""

    LOSSLESS = "lossless"
    LATEST = "latest"


class DropReason(StrEnum):
    """Why a frame has no result."""

    SUPERSEDED = "superseded"
    TOO_OLD = "too_old"
    CLOSED = "closed"


@dataclass(frozen=True)
class OpenRequest:
    """How a client wants its stream; 0 and None leave the choice to the server."""

    session_id: str
    model: str
    delivery: Delivery
    max_in_flight: int
    max_frame_age_seconds: float | None
    idle_timeout_seconds: float | None
    encoding: int
    output_size: tuple[int, int] | None  # height, width
    wants_stats: bool
    wants_timings: bool
    initial_credit: int = 0  # results that may be sent before more is granted; 0: no credit is kept
    resume_state: bytes = b""  # a sealed snapshot


@dataclass(frozen=True)
class MaskPrompt:
    """A region that is still encoded. `decode` raises InvalidPrompt."""

    object_id: int
    decode: Callable[[], Region]


EncodedPrompt = MaskPrompt | BoxPrompt | PointPrompt | AutoPrompt


def _count(prompts: tuple[EncodedPrompt, ...]) -> int:
    return sum(prompt.max_objects if isinstance(prompt, AutoPrompt) else 1 for prompt in prompts)


@dataclass(kw_only=True, eq=False)
class Request:
    """One thing the client asked, in its place in the order. `received` is on the monotonic clock of perf_counter."""

    seq: int
    received: float

    @property
    def droppable(self) -> bool:
        """Whether a newer frame may take its place."""
        return False

    @property
    def num_prompts(self) -> int:
        """Objects that it prompts or removes."""
        return 0


@dataclass(kw_only=True, eq=False)
class FrameRequest(Request):
    """A picture; what decoding adds is filled in on the way to the engine."""

    decode: Callable[[], Frame]  # raises InvalidFrame
    encoded_prompts: tuple[EncodedPrompt, ...] = ()
    pts: tuple[int, int] | None = None  # seconds and nanoseconds as they came; they are echoed, not read
    capture_time: float | None = None  # seconds of the Unix clock
    suppress_output: bool = False
    may_drop: bool = False

    frame: Frame | None = None
    prompts: list[AnyPrompt] = field(default_factory=list)
    error: MaskstreamError | None = None
    decode_seconds: float = 0.0

    @property
    def droppable(self) -> bool:
        """Whether a newer frame may take its place: never when it carries the client's word or an error."""
        return self.may_drop and not self.encoded_prompts and not self.prompts and self.error is None

    @property
    def num_prompts(self) -> int:
        """Objects that it prompts or has found."""
        return _count(self.encoded_prompts)


@dataclass(kw_only=True, eq=False)
class SetObjectsRequest(Request):
    """Prompts for the next processed frame."""

    encoded_prompts: tuple[EncodedPrompt, ...]
    error: MaskstreamError | None = None

    @property
    def num_prompts(self) -> int:
        """Objects that it prompts or has found."""
        return _count(self.encoded_prompts)


@dataclass(kw_only=True, eq=False)
class RemoveObjectsRequest(Request):
    """Objects to forget, those among them that were prompted and still wait for a frame."""

    object_ids: tuple[int, ...]
    error: MaskstreamError | None = None

    @property
    def num_prompts(self) -> int:
        """Objects that it removes."""
        return len(self.object_ids)


@dataclass(kw_only=True, eq=False)
class ResetRequest(Request):
    """Forget everything, keep the stream."""


@dataclass(kw_only=True, eq=False)
class CloseRequest(Request):
    """The last request of a stream; a half-close is one too. Without `drain`, what is queued is dropped."""

    drain: bool = True


@dataclass(kw_only=True, eq=False)
class SnapshotRequest(Request):
    """The stream's state is wanted, as all requests before this one have left it."""


@dataclass(kw_only=True, eq=False)
class RefusedRequest(Request):
    """Something that cannot be done, answered in its place in the order."""

    error: MaskstreamError
    is_frame: bool = False


@dataclass(frozen=True)
class Answered:
    """Masks of one frame. `seconds` has queue, decode and the tracker's stages."""

    request: FrameRequest
    segmentation: Segmentation
    seconds: dict[str, float]
    batch_size: int = 1


@dataclass(frozen=True)
class Acked:
    """A request was taken and has no other answer."""

    seq: int


@dataclass(frozen=True)
class Refused:
    """A request failed; the stream is as if it had not been made."""

    seq: int
    error: MaskstreamError


@dataclass(frozen=True)
class Dropped:
    """Frames that will have no result."""

    seqs: tuple[int, ...]
    reason: DropReason


@dataclass(frozen=True)
class SnapshotTaken:
    """The stream's state; sealing it is work for the decode pool."""

    seq: int
    state: TrackerState


@dataclass(frozen=True)
class DrainNotice:
    """The server is going away within these seconds."""

    grace_seconds: float


@dataclass
class FrameCounts:
    """Frames of one stream by what became of them."""

    received: int = 0
    answered: int = 0
    dropped: int = 0
    refused: int = 0


@dataclass(frozen=True)
class Closed:
    """The last answer of a stream."""

    counts: FrameCounts


Answer = Answered | Acked | Refused | Dropped | SnapshotTaken | DrainNotice | Closed

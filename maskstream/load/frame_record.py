"""What became of each frame that a load offered: exactly one of a few ends, with its times.

    answered | dropped and refused, with the server's reason | not sent, with ours | lost

A frame that was sent and has no end when its stream is over is lost: the one thing that no server may do in silence.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from maskstream.report import STAGES
from maskstream.v1 import maskstream_pb2 as pb

_STEP = slice(STAGES.index("resize"), STAGES.index("finish") + 1)  # the stages inside the tracker
WAITING, ANSWERED, DROPPED, REFUSED, NOT_SENT, LOST = "waiting", "answered", "dropped", "refused", "not_sent", "lost"


@dataclass(slots=True)
class FrameRecord:
    """One frame. Times are of time.perf_counter, in seconds."""

    due: float
    sent: float | None = None
    ended: float | None = None  # when the answer or the notice was there
    outcome: str = WAITING
    reason: str = ""
    stages: tuple[float, ...] = ()  # seconds, in the order of report.STAGES
    batch_size: int = 0

    @property
    def latency(self) -> float:
        """From the time it was due until its answer was there; only of an answered frame."""
        assert self.ended is not None, "an answered frame has a time"
        return self.ended - self.due

    @property
    def step(self) -> float:
        """Seconds inside the tracker, as the server says; only of an answered frame."""
        return sum(self.stages[_STEP])

    def end(self, outcome: str, reason: str = "", now: float | None = None) -> None:
        """The one thing that becomes of it."""
        self.outcome, self.reason, self.ended = outcome, reason, now


@dataclass
class StreamRecord:
    """One stream: its frames in the order they were due, and how it ended."""

    frames: list[FrameRecord] = field(default_factory=list)
    error: str = ""  # reason of the status that ended it, "" for OK
    closed: pb.Closed | None = None  # the server's own count
    surplus_answers: int = 0  # to frames that were not waiting for one
    disorder: int = 0  # results that came after that of a later frame
    draining: bool = False  # whether the server said that it goes away

    def count(self, outcome: str) -> int:
        """Frames with this end."""
        return sum(frame.outcome == outcome for frame in self.frames)

    def reasons(self, outcome: str) -> Counter[str]:
        """Frames with this end, by reason."""
        return Counter(frame.reason for frame in self.frames if frame.outcome == outcome)

    def settle(self, reason: str) -> None:
        """The stream is over for this reason: what was sent and has no answer is lost."""
        for frame in self.frames:
            if frame.outcome == WAITING:
                frame.end(LOST if frame.sent is not None else NOT_SENT, reason)

    @property
    def disagreement(self) -> str:
        """How the server's own count of this stream differs from ours; "" when it does not."""
        if self.closed is None:
            return ""
        theirs = {
            "frames_in": self.closed.frames_in,
            ANSWERED: self.closed.frames_answered,
            DROPPED: self.closed.frames_dropped,
            REFUSED: self.closed.frames_refused,
        }
        ours = {"frames_in": sum(frame.sent is not None for frame in self.frames)}
        ours |= {outcome: self.count(outcome) for outcome in (ANSWERED, DROPPED, REFUSED)}
        return "" if ours == theirs else f"the server counts {theirs}, the client {ours}"


def frames_due(records: Iterable[StreamRecord], since: float, until: float) -> Iterator[FrameRecord]:
    """Frames of all streams that were due in a window."""
    for record in records:
        yield from (frame for frame in record.frames if since <= frame.due < until)

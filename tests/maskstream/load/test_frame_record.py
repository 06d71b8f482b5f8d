"""What becomes of a frame, and where the server's count of a stream differs."""

from maskstream.load.frame_record import ANSWERED, DROPPED, LOST, NOT_SENT, FrameRecord, StreamRecord, frames_due
from maskstream.v1 import maskstream_pb2 as pb


def record_of(*outcomes: str) -> StreamRecord:
    record = StreamRecord()
    for index, outcome in enumerate(outcomes):
        frame = FrameRecord(due=float(index), sent=None if outcome == NOT_SENT else index + 0.1)
        frame.end(outcome, "WHY", index + 0.5)
        record.frames.append(frame)
    return record


def test_what_was_sent_and_never_answered_is_lost() -> None:
    record = StreamRecord(frames=[FrameRecord(1.0, sent=1.0), FrameRecord(2.0), FrameRecord(3.0, sent=3.0)])
    record.frames[2].end(ANSWERED, now=3.2)
    record.settle("ENGINE_FAILED")
    assert [frame.outcome for frame in record.frames] == [LOST, NOT_SENT, ANSWERED]
    assert record.reasons(LOST) == {"ENGINE_FAILED": 1}
    assert round(record.frames[2].latency, 6) == 0.2


def test_counts_of_both_sides_are_compared() -> None:
    record = record_of(ANSWERED, ANSWERED, DROPPED, NOT_SENT)
    assert record.disagreement == "", "a stream that ended badly has no count of the server's"
    record.closed = pb.Closed(frames_in=3, frames_answered=2, frames_dropped=1)
    assert record.disagreement == ""
    record.closed = pb.Closed(frames_in=3, frames_answered=3)
    assert "'dropped': 0" in record.disagreement
    assert "'dropped': 1" in record.disagreement


def test_a_window_is_of_due_times() -> None:
    records = [record_of(ANSWERED, ANSWERED, DROPPED), record_of(NOT_SENT, ANSWERED)]
    assert [frame.due for frame in frames_due(records, 1.0, 2.0)] == [1.0, 1.0]

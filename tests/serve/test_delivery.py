"""The queue's drop policy, without a server: what is dropped, what never is, and that everything is bounded."""

import time

from hypothesis import given
from hypothesis import strategies as st

from maskstream.errors import InvalidFrame
from serve.delivery import MAX_READY, FrameQueue
from serve.messages import FrameRequest, Request, ResetRequest


def frame(seq: int, may_drop: bool = True) -> FrameRequest:
    return FrameRequest(seq=seq, received=time.perf_counter(), decode=lambda: None, may_drop=may_drop)


def decode_next(queue: FrameQueue) -> list[int]:
    request = queue.next_to_decode()
    return queue.put_ready(request, request.droppable)


def test_a_newer_waiting_frame_replaces_the_older_one():
    queue = FrameQueue(4)
    assert queue.put(frame(1)) == []
    assert queue.put(frame(2)) == [1]
    assert queue.next_to_decode().seq == 2


def test_a_decoded_frame_yields_only_to_a_decoded_one():
    queue = FrameQueue(4)
    queue.put(frame(1))
    assert decode_next(queue) == []
    assert queue.put(frame(2)) == []
    assert decode_next(queue) == [1]
    request, too_old = queue.take()
    assert (request.seq, too_old) == (2, [])


def test_controls_neither_yield_nor_make_room():
    queue = FrameQueue(4)
    queue.put(frame(1))
    assert queue.put(ResetRequest(seq=2, received=0.0)) == []
    assert queue.put(frame(3)) == [1]
    assert [queue.next_to_decode().seq for _ in range(2)] == [2, 3]


def test_a_frame_that_turned_out_bad_is_kept_to_be_answered():
    queue = FrameQueue(1)
    queue.put(frame(1))
    request = queue.next_to_decode()
    request.error = InvalidFrame("damaged")
    assert queue.put_ready(request, was_droppable=True) == []
    assert queue.full
    queue.put(frame(2))
    assert decode_next(queue) == []
    assert queue.take()[0].seq == 1
    queue.answered(request)
    assert not queue.full


def test_lossless_is_full_at_max_in_flight_until_an_answer_was_written():
    queue = FrameQueue(2)
    first = frame(1, may_drop=False)
    queue.put(first)
    queue.put(frame(2, may_drop=False))
    assert queue.full
    decode_next(queue)
    assert queue.take()[0] is first
    assert queue.full
    queue.answered(first)
    assert not queue.full


def test_few_frames_are_decoded_ahead():
    queue = FrameQueue(8)
    for seq in range(8):
        queue.put(frame(seq, may_drop=False))
    decoded = 0
    while queue.may_decode:
        decode_next(queue)
        decoded += 1
    assert decoded == MAX_READY


def test_a_client_that_does_not_read_gets_no_more_turns():
    queue = FrameQueue(1)
    for seq in (1, 2):
        queue.put(frame(seq))
        decode_next(queue)
        if seq == 1:
            taken, _ = queue.take()
    assert not queue.ready
    queue.answered(taken)
    assert queue.ready


def test_old_frames_are_passed_over():
    queue = FrameQueue(4, max_frame_age_seconds=0.01)
    queue.put(frame(1))
    decode_next(queue)
    time.sleep(0.02)
    assert queue.take() == (None, [1])


@given(st.lists(st.sampled_from(["frame", "prompted", "control", "decode", "take", "write"]), max_size=60))
def test_nothing_is_lost_twice_answered_or_out_of_order(events):
    queue, in_flight = FrameQueue(3), 3
    sent: list[int] = []
    dropped: list[int] = []
    taken: list[Request] = []
    written: list[int] = []
    undroppable = set()
    for seq, event in enumerate(events):
        if event in ("frame", "prompted", "control") and not queue.full:
            request = ResetRequest(seq=seq, received=0.0) if event == "control" else frame(seq, event == "frame")
            undroppable |= set() if event == "frame" else {seq}
            sent.append(seq)
            dropped += queue.put(request)
        elif event == "decode" and queue.may_decode:
            dropped += decode_next(queue)
        elif event == "take" and queue.ready:
            taken.append(queue.take()[0])
        elif event == "write" and len(written) < len(taken):
            request = taken[len(written)]
            queue.answered(request)
            written.append(request.seq)
        assert queue.unanswered <= 2 * in_flight + 2
    while queue.may_decode or queue.ready or len(written) < len(taken):
        if len(written) < len(taken):
            queue.answered(taken[len(written)])
            written.append(taken[len(written)].seq)
        elif queue.ready:
            taken.append(queue.take()[0])
        else:
            dropped += decode_next(queue)
    assert sorted(written + dropped) == sent
    assert written == sorted(written)
    assert undroppable <= set(written)
    assert queue.unanswered == 0
    assert not queue.full

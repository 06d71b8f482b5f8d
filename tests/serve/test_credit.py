"""Credit: a client that takes results one by one is sent no more than it granted, and can always grant more."""

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from served import assert_shows, eventually, prompt, square

from maskstream.v1 import maskstream_pb2 as pb

A = square(16, 16)


def test_results_wait_for_credit_and_none_is_lost(running):
    stream = running.stream(initial_credit=2, max_in_flight=8)
    stream.frame(prompts=[prompt(1, A)])
    for _ in range(4):
        stream.frame()
    assert [stream.receive("result").seq for _ in range(2)] == [2, 3]
    eventually(lambda: running.sample("ready_frames") == 0)
    acked = stream.frame(suppress_output=True)
    for seq in (4, 5, 6):
        stream.send(credit=pb.Credit(results=1))
        assert stream.receive("result").seq == seq
    assert stream.receive("ack").seq == acked, "in order, and free of charge"
    stream.half_close()
    assert stream.receive("closed").frames_answered == 6


def test_grants_are_read_however_full_the_queue_is(running):
    stream = running.stream(initial_credit=1, max_in_flight=2)
    stream.frame(prompts=[prompt(1, A)])
    seqs = [stream.frame() for _ in range(10)]
    assert stream.receive("result").seq == 2
    stream.send(credit=pb.Credit(results=10))
    assert [stream.receive("result").seq for _ in seqs] == seqs


def test_a_refused_frame_costs_no_credit(running):
    stream = running.stream(initial_credit=1)
    stream.frame()
    assert stream.receive("error").reason == "NO_OBJECTS"
    stream.frame(image={"jpeg": b"nonsense"})
    assert stream.receive("error").reason == "FRAME_UNDECODABLE"
    stream.frame(prompts=[prompt(1, A)])
    assert_shows(stream.receive("result"), {1: A})


def test_a_live_stream_without_credit_drops_what_is_superseded_and_says_so(running):
    stream = running.stream(initial_credit=1, delivery=pb.DELIVERY_POLICY_LATEST)
    stream.frame(prompts=[prompt(1, A)])
    stream.receive("result")
    seqs = [stream.frame() for _ in range(6)]
    dropped: list[int] = []
    while len(dropped) < 5:
        notice = stream.receive("dropped")
        assert notice.reason == pb.DROP_REASON_SUPERSEDED
        dropped += notice.seqs
    stream.send(credit=pb.Credit(results=1))
    assert stream.receive("result").seq == (set(seqs) - set(dropped)).pop() == seqs[-1]


def test_a_grant_where_no_account_is_kept_is_refused(running):
    stream = running.stream()
    stream.send(credit=pb.Credit(results=3))
    error = stream.receive("error")
    assert (error.reason, "initial_credit" in error.message) == ("UNIMPLEMENTED", True)


def test_a_client_that_never_grants_loses_its_stream(running):
    stream = running.stream(initial_credit=1, idle_timeout=Duration(nanos=300_000_000))
    stream.frame(prompts=[prompt(1, A)])
    stream.receive("result")
    stream.frame()
    with pytest.raises(grpc.RpcError) as caught:
        stream.receive()
    assert caught.value.code() is grpc.StatusCode.ABORTED
    assert "Credit" in caught.value.details()


def test_a_client_that_floods_a_stream_with_credit_is_cut_off(running):
    stream = running.stream(initial_credit=1, max_in_flight=2)
    stream.frame(prompts=[prompt(1, A)])
    for _ in range(200):
        stream.frame()
    with pytest.raises(grpc.RpcError) as caught:
        stream.rest()
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    eventually(lambda: running.sample("streams_active") == 0)

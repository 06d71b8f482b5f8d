"""The life of a stream: what is answered, what is dropped, and what every way to end leaves behind."""

import threading

import grpc
import pytest
from fakes import FakeNetworks
from google.protobuf.duration_pb2 import Duration
from grpc_status import rpc_status
from served import TIMEOUT, assert_shows, eventually, prompt, square

from maskstream.v1 import maskstream_pb2 as pb
from serve.config import Limits

A, B = square(16, 16), square(32, 64)


def test_close_ends_like_a_half_close(running):
    stream = running.stream()
    stream.frame(prompts=[prompt(1, A)])
    stream.send(close=pb.Close(drain=True))
    assert [answer.WhichOneof("kind") for answer in stream.rest()] == ["result", "closed"]
    assert stream.rpc.code() is grpc.StatusCode.OK


def test_lossless_answers_every_frame_in_order(running):
    stream = running.stream(delivery=pb.DELIVERY_POLICY_LOSSLESS, max_in_flight=3)
    seqs = [stream.frame(prompts=[prompt(1, A)])] + [stream.frame() for _ in range(60)]
    stream.half_close()
    *results, closed = stream.rest()
    assert [answer.result.seq for answer in results] == seqs
    assert closed.closed.frames_answered == len(seqs)


def test_lossless_stops_reading_while_max_in_flight_requests_are_unanswered(start):
    networks = FakeNetworks()
    running = start(networks)
    networks.gate.clear()
    stream = running.stream(max_in_flight=2)
    for _ in range(10):
        stream.frame(prompts=[prompt(1, A)])
    session = next(iter(running.server._service.streams.values()))
    eventually(lambda: session.counts.received == 2)
    assert session.queue.full
    networks.gate.set()
    stream.half_close()
    assert len(stream.rest()) == 11


def test_latest_keeps_the_newest_frame_and_reports_the_others_at_once(start):
    networks = FakeNetworks()
    running = start(networks)
    stream = running.stream(delivery=pb.DELIVERY_POLICY_LATEST)
    prompted = stream.frame(prompts=[prompt(1, A)])
    assert stream.receive("result").seq == prompted
    networks.gate.clear()
    while networks.entered.acquire(blocking=False):
        pass
    busy = stream.frame()
    assert networks.entered.acquire(timeout=TIMEOUT)
    later = [stream.frame() for _ in range(5)]
    dropped: list[int] = []
    while len(dropped) < 4:  # the engine still holds the first one
        notice = stream.receive("dropped")
        assert notice.reason == pb.DROP_REASON_SUPERSEDED
        dropped += notice.seqs
    assert sorted(dropped) == later[:4]
    networks.gate.set()
    result = stream.receive("result")
    assert (result.seq, result.dropped_since_last) == (busy, 4)
    assert stream.receive("result").seq == later[4]
    stream.half_close()
    closed = stream.receive("closed")
    assert (closed.frames_in, closed.frames_answered, closed.frames_dropped) == (7, 3, 4)
    assert running.sample("frames_dropped_total", reason="superseded") == 4


def test_latest_never_drops_prompts_and_controls(start):
    networks = FakeNetworks()
    running = start(networks)
    networks.gate.clear()
    stream = running.stream(delivery=pb.DELIVERY_POLICY_LATEST, max_in_flight=8)
    kept = [stream.frame(prompts=[prompt(1, A)])]
    stream.frame()
    kept.append(stream.frame(prompts=[prompt(2, B)]))
    stream.frame()
    kept.append(stream.send(remove_objects=pb.RemoveObjects(object_ids=[1])))
    kept.append(stream.send(set_objects=pb.SetObjects(objects=[prompt(3, square(0, 80))])))
    stream.frame()
    kept.append(stream.frame())
    session = next(iter(running.server._service.streams.values()))
    eventually(lambda: session.counts.received == 6)
    networks.gate.set()
    stream.half_close()
    answers = stream.rest()
    results = {answer.result.seq: answer.result for answer in answers if answer.HasField("result")}
    acks = {answer.ack.seq for answer in answers if answer.HasField("ack")}
    assert set(kept) <= {*results, *acks}
    assert_shows(results[kept[-1]], {2: B, 3: square(0, 80)})


def test_latest_drops_what_has_become_too_old(start):
    networks = FakeNetworks()
    running = start(networks)
    stream = running.stream(delivery=pb.DELIVERY_POLICY_LATEST, max_frame_age=Duration(seconds=1))
    stream.frame(prompts=[prompt(1, A)])
    stream.receive("result")
    networks.gate.clear()
    while networks.entered.acquire(blocking=False):
        pass
    busy = stream.frame()
    assert networks.entered.acquire(timeout=TIMEOUT)
    old = stream.frame()
    threading.Event().wait(1.2)
    networks.gate.set()
    answers = [stream.receive(), stream.receive()]
    assert answers[0].result.seq == busy
    assert (list(answers[1].dropped.seqs), answers[1].dropped.reason) == ([old], pb.DROP_REASON_TOO_OLD)


def test_close_without_drain_drops_what_is_queued(start):
    networks = FakeNetworks()
    running = start(networks)
    networks.gate.clear()
    stream = running.stream(max_in_flight=8)
    for _ in range(5):
        stream.frame(prompts=[prompt(1, A)])
    assert networks.entered.acquire(timeout=TIMEOUT)
    stream.send(close=pb.Close(drain=False))
    notice = stream.receive("dropped")
    assert notice.reason == pb.DROP_REASON_CLOSED
    networks.gate.set()
    closed = stream.rest()[-1].closed
    assert closed.frames_in == 5 == closed.frames_answered + closed.frames_dropped
    assert closed.frames_dropped == len(notice.seqs) > 0


def test_drain_tells_clients_and_answers_what_is_queued(start):
    networks = FakeNetworks()
    running = start(networks, grace_seconds=15.0)
    stream = running.stream(max_in_flight=8)
    networks.gate.clear()
    seqs = [stream.frame(prompts=[prompt(1, A)]) for _ in range(4)]
    session = next(iter(running.server._service.streams.values()))
    eventually(lambda: session.counts.received == 4)
    drained = running.start_drain()
    assert stream.receive("draining").grace.seconds == 15
    refused = running.stream(opened=False)
    refused.send(open=pb.Open())
    with pytest.raises(grpc.RpcError) as caught:
        refused.receive()
    assert rpc_status.from_call(caught.value).message.startswith("this server is going away")
    networks.gate.set()
    stream.half_close()
    *results, closed = stream.rest()
    assert [answer.result.seq for answer in results] == seqs
    assert closed.closed.frames_answered == 4
    drained.result(TIMEOUT)


def test_drain_closes_streams_that_stay_and_still_answers_their_frames(start):
    running = start(grace_seconds=2.5)
    stream = running.stream()
    seq = stream.frame(prompts=[prompt(1, A)])
    drained = running.start_drain()
    kinds: list[str] = []
    with pytest.raises(grpc.RpcError) as caught:
        kinds.extend(answer.WhichOneof("kind") for answer in stream.rpc)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert sorted(kinds) == ["closed", "draining", "result"]
    assert kinds[-1] == "closed"
    drained.result(TIMEOUT)
    assert seq == 2
    assert running.sample("streams_total", end_reason="draining") == 1


def test_a_client_gone_mid_frame_frees_its_slot_and_its_memory(start):
    networks = FakeNetworks()
    running = start(networks, max_streams=1)
    stream = running.stream()
    stream.frame(prompts=[prompt(1, A)])
    stream.receive("result")
    held = running.sample("memory_bank_bytes")
    assert held > 0
    assert running.sample("objects_active") == 1
    networks.gate.clear()
    while networks.entered.acquire(blocking=False):
        pass
    stream.frame()
    assert networks.entered.acquire(timeout=TIMEOUT)
    stream.rpc.cancel()
    networks.gate.set()
    eventually(lambda: running.sample("memory_bank_bytes") == 0)
    eventually(lambda: running.sample("streams_active") == 0)
    assert running.sample("streams_total", end_reason="client_gone") == 1
    again = running.stream()
    again.frame(prompts=[prompt(1, A)])
    assert_shows(again.receive("result"), {1: A})


def test_many_streams_leave_nothing_behind(running):
    for i in range(30):
        stream = running.stream()
        stream.frame(prompts=[prompt(1, A)])
        if i % 2:
            stream.receive("result")
        stream.rpc.cancel()
        eventually(lambda: running.sample("streams_active") == 0)
    eventually(lambda: running.sample("memory_bank_bytes") == 0)
    assert not running.server._service.streams
    assert not running.server._service.scheduler._streams


def test_an_idle_stream_is_ended(start):
    running = start(limits=Limits(idle_timeout_seconds=1.0))
    stream = running.stream()
    stream.frame(prompts=[prompt(1, A)])
    stream.receive("result")
    with pytest.raises(grpc.RpcError) as caught:
        stream.receive()
    assert caught.value.code() is grpc.StatusCode.ABORTED
    assert running.sample("streams_total", end_reason="idle_timeout") == 1


def test_a_stream_that_waits_for_a_slow_engine_is_not_idle(start):
    networks = FakeNetworks()
    running = start(networks, limits=Limits(idle_timeout_seconds=1.0))
    networks.gate.clear()
    stream = running.stream()
    stream.frame(prompts=[prompt(1, A)])
    threading.Event().wait(1.8)
    networks.gate.set()
    assert_shows(stream.receive("result"), {1: A})

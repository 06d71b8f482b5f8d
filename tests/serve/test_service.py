"""The service over a real socket: the order of answers, objects that come and go, the life of a stream."""

import threading

import grpc
import numpy as np
import pytest
from fakes import FakeNetworks
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from served import assert_shows, eventually, id_map_of, jpeg, picture, png, prompt, square

from maskstream.v1 import maskstream_pb2 as pb
from serve.admission import Phase
from serve.config import Limits
from serve.metrics import STAGES
from serve.service import SERVICE_NAME

A, B = square(16, 16), square(32, 64)


def test_a_frame_with_a_mask_is_answered_with_that_mask(running):
    stream = running.stream(session_id="mine")
    assert stream.opened.session_id == "mine"
    assert (stream.opened.model, stream.opened.model_version) == ("fake", "abc")
    first, second = stream.frame(prompts=[prompt(7, A)]), stream.frame()
    for seq in (first, second):
        result = stream.receive("result")
        assert result.seq == seq
        assert_shows(result, {7: A})
        assert result.objects[0].object_id == 7
        assert not result.objects[0].lost
    assert abs(result.objects[0].box.x - 16) <= 1
    stream.half_close()
    closed = stream.receive("closed")
    assert (closed.frames_in, closed.frames_answered) == (2, 2)
    assert stream.rest() == []
    assert stream.rpc.code() is grpc.StatusCode.OK


def test_close_ends_like_a_half_close(running):
    stream = running.stream()
    stream.frame(prompts=[prompt(1, A)])
    stream.send(close=pb.Close(drain=True))
    assert [answer.WhichOneof("kind") for answer in stream.rest()] == ["result", "closed"]
    assert stream.rpc.code() is grpc.StatusCode.OK


def test_timings_name_every_stage_and_add_up(running):
    stream = running.stream()
    stream.frame(prompts=[prompt(1, A)])
    timings = stream.receive("result").timings
    seconds = {stage: getattr(timings, stage).ToNanoseconds() / 1e9 for stage in STAGES}
    assert all(timings.HasField(stage) for stage in STAGES)
    total = seconds.pop("total")
    assert 0 < sum(seconds.values()) <= total


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


def test_objects_are_added_corrected_and_removed_between_and_on_frames(running):
    stream = running.stream()
    stream.frame(prompts=[prompt(1, A)])
    assert_shows(stream.receive("result"), {1: A})
    added = stream.send(set_objects=pb.SetObjects(objects=[prompt(200, B)]))
    assert stream.receive("ack").seq == added
    stream.frame()
    assert_shows(stream.receive("result"), {1: A, 200: B})
    moved = square(48, 0)
    stream.frame(prompts=[prompt(1, moved)])
    assert_shows(stream.receive("result"), {1: moved, 200: B})
    stream.send(remove_objects=pb.RemoveObjects(object_ids=[1]))
    stream.receive("ack")
    stream.frame()
    assert_shows(stream.receive("result"), {200: B})
    stream.frame(prompts=[prompt(1, A)])
    assert_shows(stream.receive("result"), {1: A, 200: B})


def test_an_object_removed_before_its_first_frame_never_appears(running):
    stream = running.stream()
    stream.send(set_objects=pb.SetObjects(objects=[prompt(1, A), prompt(2, B)]))
    stream.send(remove_objects=pb.RemoveObjects(object_ids=[2]))
    stream.frame()
    assert [stream.receive().WhichOneof("kind") for _ in range(2)] == ["ack", "ack"]
    assert_shows(stream.receive("result"), {1: A})


def test_reset_forgets_objects_and_size(running):
    stream = running.stream()
    stream.frame(prompts=[prompt(1, A)])
    stream.receive("result")
    stream.send(reset=pb.Reset())
    stream.receive("ack")
    stream.frame()
    assert stream.receive("error").reason == "NO_OBJECTS"
    other = square(0, 0, size=(32, 32))
    stream.frame(image={"png": png(picture((32, 32)))}, prompts=[prompt(3, other)])
    assert_shows(stream.receive("result"), {3: other})


def test_a_box_is_a_prompt(running):
    frame = picture(colour=(10, 10, 10))
    frame[16:48, 32:64] = (250, 200, 20)
    stream = running.stream()
    box = pb.ObjectPrompt(object_id=1, box=pb.BoundingBox(x=28, y=12, width=40, height=40))
    stream.frame(image={"png": png(frame)}, prompts=[box])
    inside = id_map_of(stream.receive("result")) == 1
    truth = frame[:, :, 0] == 250
    assert (inside & truth).sum() / (inside | truth).sum() > 0.7


def test_pts_is_echoed_and_output_can_be_suppressed(running):
    stream = running.stream()
    quiet = stream.frame(prompts=[prompt(1, A)], suppress_output=True)
    assert stream.receive("ack").seq == quiet
    stream.frame(pts=Duration(seconds=-1, nanos=-5))
    assert stream.receive("result").pts == Duration(seconds=-1, nanos=-5)


@pytest.mark.parametrize("encoding", [pb.MASK_ENCODING_LABEL_RUNS, pb.MASK_ENCODING_PNG, pb.MASK_ENCODING_RAW])
def test_every_encoding_holds_the_same_mask_at_the_size_asked_for(running, encoding):
    stream = running.stream(output=pb.OutputOptions(encoding=encoding, width=48, height=32))
    stream.frame(prompts=[prompt(9, square(32, 32, 32))])
    result = stream.receive("result")
    assert_shows(result, {9: square(16, 16, 16, size=(32, 48))})
    assert not result.objects
    assert not result.HasField("timings")


def test_without_an_encoding_there_is_no_label_map(running):
    stream = running.stream(output=pb.OutputOptions(encoding=pb.MASK_ENCODING_NONE, per_object_stats=True))
    stream.frame(prompts=[prompt(9, A)])
    result = stream.receive("result")
    assert not result.HasField("label_map")
    assert result.objects[0].area == A.sum()


def test_streams_do_not_see_each_other(start):
    running = start(FakeNetworks(delay_seconds=0.001))
    regions = {1: A, 2: B, 3: square(0, 80), 4: square(48, 0)}
    streams = {i: running.stream() for i in regions}
    for i, stream in streams.items():
        stream.frame(prompts=[prompt(i, regions[i])])
    for _ in range(15):
        for stream in streams.values():
            stream.frame(image={"jpeg": jpeg(picture())})
    for i, stream in streams.items():
        for _ in range(16):
            assert_shows(stream.receive("result"), {i: regions[i]})


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
    assert networks.entered.acquire(timeout=5)
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
    stream = running.stream(delivery=pb.DELIVERY_POLICY_LATEST, max_frame_age=Duration(nanos=20_000_000))
    stream.frame(prompts=[prompt(1, A)])
    stream.receive("result")
    networks.gate.clear()
    while networks.entered.acquire(blocking=False):
        pass
    busy = stream.frame()
    assert networks.entered.acquire(timeout=5)
    old = stream.frame()
    threading.Event().wait(0.1)
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
    assert networks.entered.acquire(timeout=5)
    stream.send(close=pb.Close(drain=False))
    notice = stream.receive("dropped")
    assert notice.reason == pb.DROP_REASON_CLOSED
    networks.gate.set()
    closed = stream.rest()[-1].closed
    assert closed.frames_in == 5 == closed.frames_answered + closed.frames_dropped
    assert closed.frames_dropped == len(notice.seqs) > 0


def test_granted_limits_are_what_the_server_gives(start):
    running = start(limits=Limits(max_in_flight=3, idle_timeout_seconds=7))
    opened = running.stream(max_in_flight=100, idle_timeout=Duration(seconds=100)).opened
    assert (opened.max_in_flight, opened.idle_timeout.seconds, opened.max_memory_frames) == (3, 7, 4)
    assert opened.limits.max_message_bytes == 32 * 2**20
    assert opened.limits.max_objects == 32


def test_server_info_names_model_engine_and_load(running):
    running.stream()
    info = running.stub.GetServerInfo(pb.GetServerInfoRequest())
    assert (info.model, info.backend, info.precision, info.server_version) == ("fake", "fake", "fp32", "1.2")
    assert (info.active_streams, info.max_streams) == (1, 8)
    assert pb.MASK_ENCODING_LABEL_RUNS in info.encodings


def test_health_follows_the_life_of_the_server(running):
    stub = health_pb2_grpc.HealthStub(running.channel)
    for name in ("", SERVICE_NAME):
        assert stub.Check(health_pb2.HealthCheckRequest(service=name)).status == health_pb2.HealthCheckResponse.SERVING
    watch = stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE_NAME))
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    stream = running.stream()  # keeps the drain from ending at once
    drained = running.start_drain()
    assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
    stream.half_close()
    drained.result(5)
    watch.cancel()


def test_drain_tells_clients_and_answers_what_is_queued(start):
    networks = FakeNetworks()
    running = start(networks, grace_seconds=5.0)
    stream = running.stream(max_in_flight=8)
    networks.gate.clear()
    seqs = [stream.frame(prompts=[prompt(1, A)]) for _ in range(4)]
    session = next(iter(running.server._service.streams.values()))
    eventually(lambda: session.counts.received == 4)
    drained = running.start_drain()
    assert stream.receive("draining").grace.seconds == 5
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
    drained.result(5)


def test_drain_closes_streams_that_stay_and_still_answers_their_frames(start):
    running = start(grace_seconds=0.5)
    stream = running.stream()
    seq = stream.frame(prompts=[prompt(1, A)])
    drained = running.start_drain()
    kinds: list[str] = []
    with pytest.raises(grpc.RpcError) as caught:
        kinds.extend(answer.WhichOneof("kind") for answer in stream.rpc)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert sorted(kinds) == ["closed", "draining", "result"]
    assert kinds[-1] == "closed"
    drained.result(5)
    assert seq == 2
    assert running.sample("streams_total", end_reason="draining") == 1


def test_an_engine_failure_ends_its_stream_and_no_other(start, caplog):
    networks = FakeNetworks()
    running = start(networks)
    good, bad = running.stream(), running.stream()
    good.frame(prompts=[prompt(1, A)])
    good.receive("result")
    networks.failure = RuntimeError("the device fell off")
    bad.frame(prompts=[prompt(1, A)])
    with pytest.raises(grpc.RpcError) as caught:
        bad.receive()
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "RuntimeError" in caught.value.details()
    assert "the device fell off" in caplog.text
    good.frame()
    assert_shows(good.receive("result"), {1: A})
    eventually(lambda: running.sample("streams_active") == 1)
    assert running.sample("streams_total", end_reason="engine_failed") == 1


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
    assert networks.entered.acquire(timeout=5)
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
    running = start(limits=Limits(idle_timeout_seconds=0.2))
    stream = running.stream()
    stream.frame(prompts=[prompt(1, A)])
    stream.receive("result")
    with pytest.raises(grpc.RpcError) as caught:
        stream.receive()
    assert caught.value.code() is grpc.StatusCode.ABORTED
    assert running.sample("streams_total", end_reason="idle_timeout") == 1


def test_a_stream_that_waits_for_a_slow_engine_is_not_idle(start):
    networks = FakeNetworks()
    running = start(networks, limits=Limits(idle_timeout_seconds=0.2))
    networks.gate.clear()
    stream = running.stream()
    stream.frame(prompts=[prompt(1, A)])
    threading.Event().wait(0.5)
    networks.gate.set()
    assert_shows(stream.receive("result"), {1: A})


def test_a_server_that_warms_up_refuses_streams(running):
    running.server._service.admission.phase = Phase.WARMING
    stream = running.stream(opened=False)
    stream.send(open=pb.Open())
    with pytest.raises(grpc.RpcError) as caught:
        stream.receive()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert running.sample("stream_rejected_total", reason="WARMING") == 1


def test_a_large_frame_of_noise_passes(running):
    noise = np.random.default_rng(0).integers(0, 255, (1080, 1920, 3), np.uint8)
    stream = running.stream()
    raw = pb.RawImage(format=pb.PIXEL_FORMAT_RGB8, width=1920, height=1080, data=noise.tobytes())
    stream.frame(image={"raw": raw}, prompts=[prompt(1, square(160, 160, 320, size=(1080, 1920)))])
    assert id_map_of(stream.receive("result")).shape == (1080, 1920)

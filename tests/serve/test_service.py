"""The service over a real socket: the order of answers, objects that come and go, the life of a stream."""

import grpc
import numpy as np
import pytest
from fakes import FakeNetworks
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
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


def test_timings_name_every_stage_and_add_up(running):
    stream = running.stream()
    stream.frame(prompts=[prompt(1, A)])
    timings = stream.receive("result").timings
    seconds = {stage: getattr(timings, stage).ToNanoseconds() / 1e9 for stage in STAGES}
    assert all(timings.HasField(stage) for stage in STAGES)
    total = seconds.pop("total")
    assert 0 < sum(seconds.values()) <= total


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


@pytest.mark.parametrize("shown", [True, False])
def test_reflection_lists_the_service_when_asked_for(start, shown):
    running = start(reflection=shown)
    services = ProtoReflectionDescriptorDatabase(running.channel)
    if shown:
        assert SERVICE_NAME in services.get_services()
    else:
        with pytest.raises(grpc.RpcError):
            services.get_services()

"""Snapshots over the wire: a stream goes on, on another server, as if nothing had happened; or is told why not."""

import grpc
import pytest
from fakes import FakeNetworks
from served import assert_shows, eventually, picture, png, prompt, square

from maskstream.networks import NetworkSpec
from maskstream.v1 import maskstream_pb2 as pb
from serve.config import Limits

A, B = square(16, 16), square(32, 64)


@pytest.fixture
def key(tmp_path):
    file = tmp_path / "snapshot.key"
    file.write_text("5" * 64)
    file.chmod(0o600)
    return file


def state_of(running, frames=3):
    """A stream with two objects, and its state after some frames."""
    stream = running.stream()
    stream.frame(prompts=[prompt(7, A), prompt(200, B)])
    for _ in range(frames):
        stream.frame()
    for _ in range(frames + 1):
        stream.receive("result")
    asked = stream.send(snapshot=pb.Snapshot())
    data = stream.receive("snapshot")
    assert (data.seq, data.model_version) == (asked, "abc")
    return stream, data.state


def refused(running, state):
    stream = running.stream(opened=False)
    stream.send(open=pb.Open(resume_state=state))
    with pytest.raises(grpc.RpcError) as caught:
        stream.receive()
    metadata = {item.key: item.value for item in caught.value.trailing_metadata()}
    return caught.value.code(), metadata["maskstream-reason"], caught.value.details()


def test_a_stream_goes_on_where_another_server_left_it(start, key):
    first, second = start(snapshot_key=key), start(snapshot_key=key)
    old, state = state_of(first)
    new = second.stream(resume_state=state)
    assert new.opened.resumed
    assert 0 < len(state) <= new.opened.limits.max_snapshot_bytes
    remembered = []
    for stream in (old, new):
        stream.frame(prompts=[prompt(7, square(0, 0))])
        assert_shows(stream.receive("result"), {7: square(0, 0), 200: B})
        stream.send(remove_objects=pb.RemoveObjects(object_ids=[200]))
        stream.receive("ack")
        stream.frame()
        result = stream.receive("result")
        assert_shows(result, {7: square(0, 0)})
        remembered.append(result.memory_frames)
    assert remembered == [3, 3], "what was remembered before the move still is"
    new.frame(image={"png": png(picture((32, 32)))})
    assert new.receive("error").reason == "SIZE_CHANGED"
    assert second.sample("resumes_total", outcome="taken") == 1
    assert first.sample("snapshots_total", outcome="made") == 1


def test_a_state_holds_what_came_before_it_and_nothing_after(start, key):
    running = start(snapshot_key=key)
    stream = running.stream()
    stream.frame(prompts=[prompt(1, A)])
    stream.send(snapshot=pb.Snapshot())
    stream.frame(prompts=[prompt(2, B)])
    answers = [stream.receive() for _ in range(3)]
    assert [answer.WhichOneof("kind") for answer in answers] == ["result", "snapshot", "result"]
    resumed = running.stream(resume_state=answers[1].snapshot.state)
    resumed.frame()
    assert_shows(resumed.receive("result"), {1: A})


def test_an_altered_state_another_key_and_another_model_are_refused(start, key, tmp_path):
    running = start(snapshot_key=key)
    _, state = state_of(running)
    altered = bytearray(state)
    altered[len(state) // 2] ^= 1
    code, reason, _ = refused(running, bytes(altered))
    assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "SNAPSHOT_INVALID")
    assert refused(running, b"x")[1] == "SNAPSHOT_INVALID"
    other = tmp_path / "other.key"
    other.write_text("6" * 64)
    assert refused(start(snapshot_key=other), state)[1] == "SNAPSHOT_INVALID"
    eventually(lambda: running.sample("streams_active") == 1)
    assert running.sample("resumes_total", outcome="refused") == 2


def test_a_state_of_networks_with_other_sizes_is_refused_though_it_is_signed(start, key):
    class Larger(FakeNetworks):
        def __init__(self):
            super().__init__()
            self.spec = NetworkSpec("fake", 16, 4, 3, 1, 480, 6, 5)

    _, state = state_of(start(snapshot_key=key))
    larger = start(Larger(), snapshot_key=key)
    assert refused(larger, state)[1] == "SNAPSHOT_INVALID"
    eventually(lambda: larger.sample("memory_bank_bytes") == 0)


def test_a_server_without_a_key_makes_and_takes_none(start, key):
    running = start()
    stream = running.stream()
    assert stream.opened.limits.max_snapshot_bytes == 0
    stream.frame(prompts=[prompt(1, A)])
    stream.receive("result")
    stream.send(snapshot=pb.Snapshot())
    assert stream.receive("error").reason == "SNAPSHOTS_OFF"
    _, state = state_of(start(snapshot_key=key))
    assert refused(running, state)[1] == "SNAPSHOT_INVALID"


def test_there_is_no_state_before_the_first_frame(start, key):
    stream = start(snapshot_key=key).stream()
    stream.send(snapshot=pb.Snapshot())
    assert stream.receive("error").reason == "NO_OBJECTS"


def test_a_state_that_is_too_large_is_refused_and_the_stream_goes_on(start, key, monkeypatch):
    running = start(snapshot_key=key, limits=Limits(max_snapshot_mib=1))
    monkeypatch.setattr("serve.service.seal", lambda *_: bytes(2**20 + 1))
    stream = running.stream()
    stream.frame(prompts=[prompt(1, A)])
    stream.receive("result")
    stream.send(snapshot=pb.Snapshot())
    assert stream.receive("error").reason == "SNAPSHOT_TOO_LARGE"
    stream.frame()
    assert_shows(stream.receive("result"), {1: A})


def test_a_full_bank_refuses_a_resumed_stream_as_it_would_a_new_one(start, key):
    running = start(snapshot_key=key)
    _, state = state_of(running)
    pool = running.server._service.pool
    rest = pool.take((pool.longest_free_bytes // 4,))
    assert refused(running, state)[1] == "SERVER_FULL"
    pool.give(rest)
    running.stream(resume_state=state)

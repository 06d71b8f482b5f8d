"""Bad input over the wire: each case is answered with a stable reason and a message that says what to do.

What concerns one request leaves the stream alive, which each of these tests proves by going on.
"""

import resource
import struct
import zlib

import cv2
import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import code_pb2, error_details_pb2
from grpc_status import rpc_status
from served import assert_shows, jpeg, picture, png, prompt, square

from maskstream import wire
from maskstream.v1 import maskstream_pb2 as pb

A = square(16, 16)


def refused(stream, image=None, prompts=(), **options):
    """The error that a frame is answered with."""
    seq = stream.frame(image=image, prompts=prompts, **options)
    error = stream.receive("error")
    assert error.seq == seq
    return error


def goes_on(stream):
    """The stream follows an object as if nothing had happened."""
    stream.frame(prompts=[prompt(1, A)])
    assert_shows(stream.receive("result"), {1: A})


def not_opened(running, **first):
    """The status that a stream is refused with, and its details by type."""
    stream = running.stream(opened=False)
    stream.send(**first)
    with pytest.raises(grpc.RpcError) as caught:
        stream.receive()
    status = rpc_status.from_call(caught.value)
    details = {}
    for packed in status.details:
        kind = getattr(error_details_pb2, packed.TypeName().split(".")[-1])
        details[kind] = kind()
        packed.Unpack(details[kind])
    assert details[error_details_pb2.ErrorInfo].domain == "maskstream"
    assert dict(caught.value.trailing_metadata())["maskstream-reason"] == details[error_details_pb2.ErrorInfo].reason
    return caught.value.code(), status.message, details


def claiming_png(width: int, height: int) -> bytes:
    """A small PNG whose header claims any size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        wire.PNG_SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def test_the_first_request_must_be_open(running):
    code, message, details = not_opened(running, frame=pb.Frame(png=png(picture())))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details[error_details_pb2.ErrorInfo].reason == "OPEN_REQUIRED"
    assert "must be `open`, got `frame`" in message
    assert running.sample("stream_rejected_total", reason="OPEN_REQUIRED") == 1


def test_a_stream_without_any_request_is_told_to_open(running):
    stream = running.stream(opened=False)
    stream.half_close()
    with pytest.raises(grpc.RpcError) as caught:
        stream.receive()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("opened", "field"),
    [
        (pb.Open(delivery=9), "open.delivery"),
        (pb.Open(output=pb.OutputOptions(encoding=3)), "open.output.encoding"),
        (pb.Open(session_id="x" * 129), "open.session_id"),
        (pb.Open(output=pb.OutputOptions(width=100)), "open.output"),
        (pb.Open(output=pb.OutputOptions(width=100_000, height=100_000)), "open.output"),
        (pb.Open(idle_timeout=Duration(seconds=-1)), "open.idle_timeout"),
        (pb.Open(max_frame_age=Duration()), "open.max_frame_age"),
    ],
)
def test_an_open_that_asks_for_what_does_not_exist_names_the_field(running, opened, field):
    code, message, details = not_opened(running, open=opened)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details[error_details_pb2.ErrorInfo].reason == "BAD_CONFIG"
    (violation,) = details[error_details_pb2.BadRequest].field_violations
    assert (violation.field, violation.description) == (field, message)


def test_an_unknown_encoding_is_answered_with_those_there_are(running):
    _, message, _ = not_opened(running, open=pb.Open(output=pb.OutputOptions(encoding=3)))
    assert "MASK_ENCODING_LABEL_RUNS, MASK_ENCODING_PNG, MASK_ENCODING_RAW" in message


def test_another_model_is_not_found(running):
    code, message, _ = not_opened(running, open=pb.Open(model="sam9"))
    assert code is grpc.StatusCode.NOT_FOUND
    assert "`fake`" in message


def test_a_full_server_says_when_to_retry(start):
    running = start(max_streams=1)
    stream = running.stream()
    code, _, details = not_opened(running, open=pb.Open())
    assert code is grpc.StatusCode.UNAVAILABLE
    assert details[error_details_pb2.ErrorInfo].reason == "SERVER_FULL"
    assert 0 < details[error_details_pb2.RetryInfo].retry_delay.ToTimedelta().total_seconds() < 10
    assert running.sample("stream_rejected_total", reason="SERVER_FULL") == 1
    goes_on(stream)


def test_a_server_without_bank_memory_refuses_the_open(start, monkeypatch):
    running = start()
    pool = running.server._service.pool
    rest = pool.take((pool.longest_free_bytes // 4,))
    code, message, _ = not_opened(running, open=pb.Open())
    pool.give(rest)
    assert code is grpc.StatusCode.UNAVAILABLE
    assert "memory bank" in message


def test_bank_memory_that_runs_out_in_a_stream_is_one_frames_error(start):
    running = start()
    stream = running.stream()
    goes_on(stream)
    pool = running.server._service.pool
    rest = pool.take((pool.longest_free_bytes // 4,))
    error = refused(stream, prompts=[prompt(2, square(32, 64))])
    assert (error.reason, error.code) == ("MEMORY_EXHAUSTED", code_pb2.RESOURCE_EXHAUSTED)
    pool.give(rest)
    stream.frame()
    assert_shows(stream.receive("result"), {1: A})


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9, 0.999])
def test_a_truncated_jpeg_is_refused(running, share):
    data = jpeg(picture())
    stream = running.stream()
    error = refused(stream, {"jpeg": data[: int(len(data) * share)]}, [prompt(1, A)])
    assert (error.reason, error.code) == ("FRAME_UNDECODABLE", code_pb2.INVALID_ARGUMENT)
    goes_on(stream)


@pytest.mark.parametrize(
    "image",
    [
        {},
        {"jpeg": b""},
        {"png": b""},
        {"jpeg": b"GIF89a, not a JPEG at all"},
        {"jpeg": b"\xff\xd8" + bytes(100)},
        {"jpeg": b"\xff\xd8\xff\xe0\x00\x00" * 20},
        {"png": png(picture())[:-30]},
        {"png": jpeg(picture())},
        {"raw": pb.RawImage()},
        {"raw": pb.RawImage(format=pb.PIXEL_FORMAT_RGB8, width=96, height=64, data=bytes(100))},
        {"raw": pb.RawImage(format=77, width=96, height=64, data=bytes(96 * 64 * 3))},
        {"raw": pb.RawImage(format=pb.PIXEL_FORMAT_NV12, width=95, height=64, data=bytes(96 * 64 * 3))},
        {"raw": pb.RawImage(format=pb.PIXEL_FORMAT_GRAY8, width=96, height=64, stride=95, data=bytes(96 * 64))},
    ],
)
def test_what_is_no_picture_is_refused(running, image):
    stream = running.stream()
    error = refused(stream, image, [prompt(1, A)])
    assert error.reason in ("FRAME_UNDECODABLE", "INVALID_FRAME")
    assert error.code == code_pb2.INVALID_ARGUMENT
    goes_on(stream)


def test_a_png_that_claims_30000_by_30000_is_refused_without_decoding(running, monkeypatch):
    stream = running.stream()
    goes_on(stream)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with monkeypatch.context() as patched:
        patched.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
        error = refused(stream, {"png": claiming_png(30_000, 30_000)})
    assert error.reason == "FRAME_TOO_LARGE"
    assert "30000x30000" in error.message
    assert "4096x2304" in error.message
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024  # KiB; decoded it is 2.5 GiB
    goes_on(stream)


def test_sizes_are_checked_for_every_kind_of_picture(running):
    data = bytearray(jpeg(picture()))
    at = data.find(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", 30_000, 30_000)
    stream = running.stream()
    assert refused(stream, {"jpeg": bytes(data)}).reason == "FRAME_TOO_LARGE"
    raw = pb.RawImage(format=pb.PIXEL_FORMAT_RGB8, width=2**31, height=2**31, data=b"x")
    assert refused(stream, {"raw": raw}).reason == "FRAME_TOO_LARGE"
    goes_on(stream)


def test_a_mask_png_that_claims_more_than_its_message_is_refused(running):
    stream = running.stream()
    mask = pb.Mask(width=96, height=64, png=claiming_png(30_000, 30_000))
    error = refused(stream, prompts=[pb.ObjectPrompt(object_id=1, mask=mask)])
    assert error.reason == "INVALID_PROMPT"
    goes_on(stream)


def test_a_palette_mask_png_is_refused_because_its_colours_are_not_ids(running):
    coloured = cv2.imencode(".png", picture())[1].tobytes()
    stream = running.stream()
    mask = pb.Mask(width=96, height=64, png=coloured)
    assert "greyscale" in refused(stream, prompts=[pb.ObjectPrompt(object_id=1, mask=mask)]).message


def test_another_size_in_mid_stream_is_refused_and_the_stream_goes_on(running):
    stream = running.stream()
    goes_on(stream)
    error = refused(stream, {"png": png(picture((32, 32)))})
    assert error.reason == "SIZE_CHANGED"
    assert "96x64" in error.message
    assert "32x32" in error.message
    stream.frame()
    assert_shows(stream.receive("result"), {1: A})


@pytest.mark.parametrize("object_id", [0, 256, 70_000])
def test_an_object_id_outside_1_to_255_is_refused(running, object_id):
    stream = running.stream()
    error = refused(stream, prompts=[prompt(object_id, A)])
    assert error.reason == "INVALID_PROMPT"
    assert "1..255" in error.message
    stream.send(set_objects=pb.SetObjects(objects=[prompt(object_id, A)]))
    assert stream.receive("error").reason == "INVALID_PROMPT"
    goes_on(stream)


def test_a_mask_of_another_size_is_refused(running):
    stream = running.stream()
    error = refused(stream, prompts=[prompt(1, square(0, 0, size=(32, 32)))])
    assert error.reason == "INVALID_PROMPT"
    assert "32x32" in error.message
    goes_on(stream)


@pytest.mark.parametrize(
    "mask",
    [
        pb.Mask(width=96, height=64, label_runs=pb.LabelRuns(values=b"\x01", lengths=[7])),
        pb.Mask(width=96, height=64, label_runs=pb.LabelRuns(values=b"\x01\x00", lengths=[96 * 64])),
        pb.Mask(width=2**20, height=2**20, label_runs=pb.LabelRuns(values=b"\x01", lengths=[2**31])),
        pb.Mask(width=96, height=64, raw=b"123"),
        pb.Mask(width=96, height=64),
        pb.Mask(width=96, height=64, png=b"no"),
    ],
)
def test_a_mask_whose_data_does_not_fill_it_is_refused(running, mask):
    stream = running.stream()
    for prompts in ([pb.ObjectPrompt(object_id=1, mask=mask)], [pb.ObjectPrompt(object_id=1)]):
        assert refused(stream, prompts=prompts).reason == "INVALID_PROMPT"
    stream.send(set_objects=pb.SetObjects(objects=[pb.ObjectPrompt(object_id=1, mask=mask)]))
    assert stream.receive("error").reason == "INVALID_PROMPT"
    goes_on(stream)


def test_a_prompt_on_no_object_is_refused(running):
    stream = running.stream()
    error = refused(stream, prompts=[prompt(1, 0 * A)])
    assert error.reason == "INVALID_PROMPT"
    assert "empty" in error.message
    outside = pb.ObjectPrompt(object_id=1, box=pb.BoundingBox(x=5000, y=5000, width=10, height=10))
    assert refused(stream, prompts=[outside]).reason == "INVALID_PROMPT"
    goes_on(stream)


def test_a_frame_before_any_object_is_refused(running):
    stream = running.stream()
    error = refused(stream)
    assert (error.reason, error.code) == ("NO_OBJECTS", code_pb2.FAILED_PRECONDITION)
    goes_on(stream)


def test_removing_an_unknown_object_is_refused(running):
    stream = running.stream()
    stream.send(remove_objects=pb.RemoveObjects(object_ids=[9]))
    assert stream.receive("error").reason == "INVALID_PROMPT"
    goes_on(stream)


def test_a_seq_that_does_not_increase_is_refused_and_has_no_effect(running):
    stream = running.stream()
    goes_on(stream)
    stream.send(seq=2, frame=pb.Frame(png=png(picture()), prompts=pb.SetObjects(objects=[prompt(5, square(32, 64))])))
    error = stream.receive("error")
    assert (error.seq, error.reason) == (2, "OUT_OF_ORDER")
    stream.seq = 2
    stream.frame()
    assert_shows(stream.receive("result"), {1: A})


@pytest.mark.parametrize("kind", [{"open": pb.Open()}, {}])
def test_what_this_version_does_not_serve_is_told(running, kind):
    stream = running.stream()
    stream.send(**kind)
    error = stream.receive("error")
    assert (error.reason, error.code) == ("UNIMPLEMENTED", code_pb2.UNIMPLEMENTED)
    goes_on(stream)


def test_refused_frames_are_counted(running):
    stream = running.stream()
    refused(stream)
    refused(stream, {"png": b""})
    goes_on(stream)
    stream.half_close()
    closed = stream.receive("closed")
    assert (closed.frames_in, closed.frames_answered, closed.frames_refused) == (3, 1, 2)
    assert running.sample("frames_total", outcome="refused") == 2
    assert running.sample("requests_refused_total", reason="NO_OBJECTS") == 1


def test_a_request_over_the_limit_ends_its_stream_only(start):
    running = start()
    other = running.stream()
    stream = running.stream()
    stream.frame(image={"png": bytes(40 * 2**20)})
    with pytest.raises(grpc.RpcError) as caught:
        stream.receive()
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    goes_on(other)

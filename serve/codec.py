"""Where protobuf stops: requests become serve.messages, answers become responses.

A picture's size is read from its header before anything is decoded: a PNG of some hundred KB can claim gigabytes of
pixels. Compressed pictures are taken as stored (no EXIF rotation), so that a mask's pixels are the picture's pixels.
"""

import struct
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import cv2
import numpy as np

from maskstream import masks, wire
from maskstream.errors import InvalidFrame, InvalidPrompt
from maskstream.prompts import mask_from_box
from maskstream.tracker import Frame, ObjectState
from maskstream.v1 import maskstream_pb2 as pb
from serve.config import Limits
from serve.errors import BadConfig, FrameTooLarge, FrameUndecodable, Unimplemented, frame_code
from serve.messages import (
    Acked,
    Answer,
    Answered,
    BoxPrompt,
    Closed,
    CloseRequest,
    Delivery,
    DrainNotice,
    Dropped,
    DropReason,
    EncodedPrompt,
    FrameRequest,
    MaskPrompt,
    OpenRequest,
    Refused,
    RefusedRequest,
    Region,
    RemoveObjectsRequest,
    Request,
    ResetRequest,
    SetObjectsRequest,
)

ENCODINGS = (pb.MASK_ENCODING_LABEL_RUNS, pb.MASK_ENCODING_PNG, pb.MASK_ENCODING_RAW, pb.MASK_ENCODING_NONE)
_DELIVERIES = {
    pb.DELIVERY_POLICY_UNSPECIFIED: Delivery.LOSSLESS,
    pb.DELIVERY_POLICY_LOSSLESS: Delivery.LOSSLESS,
    pb.DELIVERY_POLICY_LATEST: Delivery.LATEST,
}
_DROP_REASONS = {
    DropReason.SUPERSEDED: pb.DROP_REASON_SUPERSEDED,
    DropReason.TOO_OLD: pb.DROP_REASON_TOO_OLD,
    DropReason.CLOSED: pb.DROP_REASON_CLOSED,
}


class EncodedResult(NamedTuple):
    """A result ready to be written, and what that took."""

    response: pb.PropagateResponse
    encode_seconds: float
    total_seconds: float


# ---- requests ------------------------------------------------------------------------------------------------------


def parse_open(message: pb.Open, limits: Limits) -> OpenRequest:
    """What the client wants. Raises BadConfig."""
    if message.delivery not in _DELIVERIES:
        raise BadConfig(f"delivery {message.delivery} is unknown; there are LOSSLESS and LATEST", "open.delivery")
    output = message.output
    encoding = output.encoding or pb.MASK_ENCODING_LABEL_RUNS
    if encoding not in ENCODINGS:
        names = ", ".join(pb.MaskEncoding.Name(known) for known in ENCODINGS)
        raise BadConfig(f"mask encoding {encoding} is not available; there are {names}", "open.output.encoding")
    if (
        (output.width == 0) != (output.height == 0)
        or output.width > limits.max_width
        or output.height > limits.max_height
    ):
        raise BadConfig(
            f"an output of {output.width}x{output.height}: give both sides, at most "
            f"{limits.max_width}x{limits.max_height}, or neither for the frame's own size",
            "open.output",
        )
    if message.resume_state:
        raise BadConfig("this server resumes no snapshots; prompt with the last answered mask", "open.resume_state")
    return OpenRequest(
        session_id=message.session_id,
        model=message.model,
        delivery=_DELIVERIES[message.delivery],
        max_in_flight=message.max_in_flight,
        max_frame_age_seconds=_positive_seconds(message, "max_frame_age"),
        idle_timeout_seconds=_positive_seconds(message, "idle_timeout"),
        encoding=encoding,
        output_size=(output.height, output.width) if output.width else None,
        wants_stats=output.per_object_stats,
        wants_timings=output.timings,
    )


def _positive_seconds(message: pb.Open, field: str) -> float | None:
    if not message.HasField(field):
        return None
    seconds = wire.seconds_of(getattr(message, field))
    if seconds <= 0:
        raise BadConfig(
            f"{field} must be more than 0 s, got {seconds} s; leave it out for the default", f"open.{field}"
        )
    return seconds


def parse_request(message: pb.PropagateRequest, limits: Limits, delivery: Delivery) -> Request:
    """A request after Open. Never raises: what cannot be done becomes a RefusedRequest, answered in its place."""
    seq, received = message.seq, time.perf_counter()
    kind = message.WhichOneof("kind")
    try:
        match kind:
            case "frame":
                return _parse_frame(seq, received, message.frame, limits, delivery)
            case "set_objects":
                prompts = _parse_prompts(message.set_objects, limits)
                return SetObjectsRequest(seq=seq, received=received, encoded_prompts=prompts)
            case "remove_objects":
                ids = tuple(message.remove_objects.object_ids)
                return RemoveObjectsRequest(seq=seq, received=received, object_ids=ids)
            case "reset":
                return ResetRequest(seq=seq, received=received)
            case "close":
                return CloseRequest(seq=seq, received=received, drain=message.close.drain)
            case "open":
                raise Unimplemented("the stream is already open; use another RPC for another video")
            case None:
                raise Unimplemented("the request is empty or of a kind this server does not know")
            case _:
                raise Unimplemented(f"`{kind}` is not available in this version of the server")
    except (InvalidFrame, InvalidPrompt, Unimplemented) as error:
        return RefusedRequest(seq=seq, received=received, error=error, is_frame=kind == "frame")


def _parse_frame(seq: int, received: float, message: pb.Frame, limits: Limits, delivery: Delivery) -> FrameRequest:
    return FrameRequest(
        seq=seq,
        received=received,
        decode=_decoder(message, limits),
        encoded_prompts=_parse_prompts(message.prompts, limits),
        pts_nanos=wire.nanos_of(message.pts) if message.HasField("pts") else None,
        capture_time=message.capture_time.ToNanoseconds() / wire.NANOS if message.HasField("capture_time") else None,
        suppress_output=message.suppress_output,
        may_drop=delivery is Delivery.LATEST,
    )


def _decoder(message: pb.Frame, limits: Limits) -> Callable[[], Frame]:
    match message.WhichOneof("payload"):
        case "jpeg":
            return partial(decode_jpeg, message.jpeg, limits)
        case "png":
            return partial(decode_png, message.png, limits)
        case "raw":
            return partial(decode_raw, message.raw, limits)
    raise InvalidFrame("the frame has no picture; give jpeg, png or raw")


def _parse_prompts(message: pb.SetObjects, limits: Limits) -> tuple[EncodedPrompt, ...]:
    return tuple(_parse_prompt(prompt, limits) for prompt in message.objects)


def _parse_prompt(message: pb.ObjectPrompt, limits: Limits) -> EncodedPrompt:
    object_id = message.object_id
    if not 1 <= object_id <= masks.MAX_OBJECT_ID:
        raise InvalidPrompt(f"object id {object_id} is outside 1..{masks.MAX_OBJECT_ID} (0 is background)")
    match message.WhichOneof("prompt"):
        case "mask":
            return MaskPrompt(object_id, partial(_decode_region, object_id, message.mask, limits))
        case "box":
            box = (message.box.x, message.box.y, message.box.width, message.box.height)
            return BoxPrompt(object_id, partial(_cut, box))
    raise InvalidPrompt(f"object {object_id} has no prompt; give a mask or a box")


def _cut(box: masks.Box, frame: Frame) -> Region:
    return mask_from_box(frame, box)


def _decode_region(object_id: int, message: pb.Mask, limits: Limits) -> Region:
    try:
        return wire.mask_from_proto(message, limits.max_width, limits.max_height)
    except ValueError as error:
        raise InvalidPrompt(f"the mask of object {object_id}: {error}") from error


# ---- pictures ------------------------------------------------------------------------------------------------------


def decode_jpeg(data: bytes, limits: Limits) -> Frame:
    """JPEG -> uint8 [H, W, 3] RGB. Raises FrameTooLarge, FrameUndecodable."""
    width, height, header_end = _read_jpeg_header(data)
    # Without its end marker a JPEG was cut off; some versions of OpenCV fill the rest with grey and say nothing.
    if data.find(b"\xff\xd9", header_end) < 0:
        raise FrameUndecodable("the JPEG has no end marker: it was cut off; send the whole picture")
    return _decode(data, width, height, limits)


def decode_png(data: bytes, limits: Limits) -> Frame:
    """PNG -> uint8 [H, W, 3] RGB. Raises FrameTooLarge, FrameUndecodable."""
    try:
        header = wire.read_png_header(data)
    except ValueError as error:
        raise FrameUndecodable(f"{error}; got {len(data)} bytes") from error
    return _decode(data, header.width, header.height, limits)


def decode_raw(image: pb.RawImage, limits: Limits) -> Frame:
    """Raw pixels -> uint8 [H, W, 3] RGB. Raises FrameTooLarge, FrameUndecodable."""
    width, height = image.width, image.height
    _check_size(width, height, limits)
    rows, row_bytes = _raw_layout(image.format, width, height)
    stride = image.stride or row_bytes
    needed = stride * (rows - 1) + row_bytes  # the last row needs no padding
    if stride < row_bytes or len(image.data) < needed:
        raise FrameUndecodable(
            f"a {width}x{height} {pb.PixelFormat.Name(image.format)} frame with {stride} bytes a row has {needed} "
            f"bytes of data and at least {row_bytes} bytes a row; got {len(image.data)} bytes"
        )
    source = np.frombuffer(image.data, np.uint8)
    pixels = np.lib.stride_tricks.as_strided(source, (rows, row_bytes), (stride, 1), writeable=False)
    match image.format:
        case pb.PIXEL_FORMAT_RGB8:
            return np.ascontiguousarray(pixels).reshape(height, width, 3)
        case pb.PIXEL_FORMAT_BGR8:
            return np.ascontiguousarray(pixels.reshape(height, width, 3)[:, :, ::-1])
        case pb.PIXEL_FORMAT_GRAY8:
            return np.repeat(pixels[:, :, None], 3, axis=2)
    return cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_YUV2RGB_NV12).astype(np.uint8, copy=False)


def _raw_layout(pixel_format: pb.PixelFormat, width: int, height: int) -> tuple[int, int]:
    """Rows of bytes, and bytes a row."""
    if pixel_format == pb.PIXEL_FORMAT_NV12:
        if width % 2 or height % 2:
            raise FrameUndecodable(f"an NV12 frame has even sides, this one is {width}x{height}")
        return height * 3 // 2, width
    channels = {pb.PIXEL_FORMAT_RGB8: 3, pb.PIXEL_FORMAT_BGR8: 3, pb.PIXEL_FORMAT_GRAY8: 1}.get(pixel_format)
    if channels is None:
        raise FrameUndecodable(f"pixel format {pixel_format} is unknown; there are RGB8, BGR8, NV12 and GRAY8")
    return height, width * channels


def _check_size(width: int, height: int, limits: Limits) -> None:
    if not width or not height:
        raise FrameUndecodable(f"the picture is {width}x{height}; both sides must be more than 0")
    if width > limits.max_width or height > limits.max_height:
        raise FrameTooLarge(
            f"the picture is {width}x{height}, the server takes {limits.max_width}x{limits.max_height} at most; "
            "shrink it before it is sent"
        )


def _decode(data: bytes, width: int, height: int, limits: Limits) -> Frame:
    _check_size(width, height, limits)
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        frame = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise FrameUndecodable(f"the picture cannot be decoded: {error.err}") from error
    if frame is None:
        raise FrameUndecodable("the picture cannot be decoded; it is damaged or was cut off")
    return frame.astype(np.uint8, copy=False)


def _read_jpeg_header(data: bytes) -> tuple[int, int, int]:
    """Width, height, and where the frame header ends. Raises FrameUndecodable when there is none."""
    position = 2
    while data.startswith(b"\xff\xd8") and position + 9 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        (length,) = struct.unpack_from(">H", data, position + 2)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # a frame header, not tables
            height, width = struct.unpack_from(">HH", data, position + 5)
            return width, height, position + 2 + length
        position += 2 + length
    raise FrameUndecodable(f"these {len(data)} bytes are not a JPEG: no frame header was found; is it cut off?")


# ---- answers -------------------------------------------------------------------------------------------------------


def encode_result(answer: Answered, request: OpenRequest, dropped_since_last: int) -> EncodedResult:
    """Masks of a frame as the client wants them; costs 0.1 ms (runs) to 2 ms (PNG) at 480p."""
    started = time.perf_counter()
    segmentation = answer.segmentation
    result = pb.FrameResult(
        seq=answer.request.seq, memory_frames=segmentation.memory_slots, dropped_since_last=dropped_since_last
    )
    if answer.request.pts_nanos is not None:
        result.pts.CopyFrom(wire.duration_from_nanos(answer.request.pts_nanos))
    if request.encoding != pb.MASK_ENCODING_NONE:
        id_map = _at_size(segmentation.id_map, request.output_size)
        result.label_map.CopyFrom(wire.mask_to_proto(id_map, request.encoding))
    if request.wants_stats:
        result.objects.extend(_stat(state) for state in segmentation.objects)
    ended = time.perf_counter()
    encode_seconds, total_seconds = ended - started, ended - answer.request.received
    if request.wants_timings:
        seconds = {**answer.seconds, "encode": encode_seconds, "total": total_seconds}
        result.timings.CopyFrom(pb.Timings(**{stage: wire.duration(value) for stage, value in seconds.items()}))
    return EncodedResult(pb.PropagateResponse(result=result), encode_seconds, total_seconds)


def _at_size(id_map: masks.IdMap, size: tuple[int, int] | None) -> masks.IdMap:
    if size is None or size == id_map.shape:
        return id_map
    resized = cv2.resize(id_map, (size[1], size[0]), interpolation=cv2.INTER_NEAREST_EXACT)  # ids must not mix
    return resized.astype(np.uint8, copy=False)


def _stat(state: ObjectState) -> pb.ObjectStat:
    stat = pb.ObjectStat(
        object_id=state.object_id, score=state.score, area=state.area, visible=state.visible, lost=state.lost
    )
    if state.box is not None:
        x, y, width, height = state.box
        stat.box.CopyFrom(pb.BoundingBox(x=x, y=y, width=width, height=height))
    return stat


def encode_answer(answer: Answer) -> pb.PropagateResponse:
    """Every answer but a frame's masks, which `encode_result` makes."""
    match answer:
        case Acked(seq=seq):
            return pb.PropagateResponse(ack=pb.Ack(seq=seq))
        case Refused(seq=seq, error=error):
            body = pb.FrameError(seq=seq, code=frame_code(error), reason=error.reason, message=str(error))
            return pb.PropagateResponse(error=body)
        case Dropped(seqs=seqs, reason=reason):
            return pb.PropagateResponse(dropped=pb.Dropped(seqs=seqs, reason=_DROP_REASONS[reason]))
        case DrainNotice(grace_seconds=grace):
            return pb.PropagateResponse(draining=pb.Draining(grace=wire.duration(grace)))
        case Closed(counts=counts):
            closed = pb.Closed(
                frames_in=counts.received,
                frames_answered=counts.answered,
                frames_dropped=counts.dropped,
                frames_refused=counts.refused,
            )
            return pb.PropagateResponse(closed=closed)
    raise AssertionError(f"{type(answer).__name__} is encoded by encode_result")


def limits_to_proto(limits: Limits) -> pb.Limits:
    """As published in Opened and GetServerInfo."""
    return pb.Limits(
        max_width=limits.max_width,
        max_height=limits.max_height,
        max_objects=limits.max_objects,
        max_message_bytes=limits.max_message_bytes,
        idle_timeout=wire.duration(limits.idle_timeout_seconds),
        max_in_flight=limits.max_in_flight,
    )


def supported_encodings() -> Sequence[pb.MaskEncoding]:
    """Mask encodings of answers, as GetServerInfo lists them."""
    return ENCODINGS

"""Requests as serve.messages: protobuf stops here on the way in.

Parsing checks what is cheap to check; pictures and masks stay encoded, as functions that the decode pool calls.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial

from maskstream import masks, wire
from maskstream.errors import InvalidFrame, InvalidPrompt
from maskstream.prompt_kinds import AutoPrompt, BoxPrompt, PointPrompt, count_points
from maskstream.tracker import Frame
from maskstream.v1 import maskstream_pb2 as pb
from serve.config import Limits
from serve.errors import BadConfig, Unimplemented
from serve.messages import (
    CloseRequest,
    Delivery,
    EncodedPrompt,
    FrameRequest,
    MaskPrompt,
    OpenRequest,
    RefusedRequest,
    Region,
    RemoveObjectsRequest,
    Request,
    ResetRequest,
    SetObjectsRequest,
    SnapshotRequest,
)
from serve.pictures import decode_jpeg, decode_png, decode_raw

ENCODINGS = (pb.MASK_ENCODING_LABEL_RUNS, pb.MASK_ENCODING_PNG, pb.MASK_ENCODING_RAW, pb.MASK_ENCODING_NONE)
LONGEST_SESSION_ID = 128  # characters
_DELIVERIES = {
    pb.DELIVERY_POLICY_UNSPECIFIED: Delivery.LOSSLESS,
    pb.DELIVERY_POLICY_LOSSLESS: Delivery.LOSSLESS,
    pb.DELIVERY_POLICY_LATEST: Delivery.LATEST,
}


def parse_open(message: pb.Open, limits: Limits) -> OpenRequest:
    """What the client wants. Raises BadConfig."""
    if message.delivery not in _DELIVERIES:
        raise BadConfig(f"delivery {message.delivery} is unknown; there are LOSSLESS and LATEST", "open.delivery")
    if len(message.session_id) > LONGEST_SESSION_ID:
        raise BadConfig(
            f"a session id of {len(message.session_id)} characters; at most {LONGEST_SESSION_ID}, it is for logs",
            "open.session_id",
        )
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
        initial_credit=message.initial_credit,
        resume_state=message.resume_state,
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
                ids = _parse_ids(message.remove_objects)
                return RemoveObjectsRequest(seq=seq, received=received, object_ids=ids)
            case "reset" | "snapshot":
                return (ResetRequest if kind == "reset" else SnapshotRequest)(seq=seq, received=received)
            case "close":
                return CloseRequest(seq=seq, received=received, drain=message.close.drain)
            case "credit":
                raise Unimplemented("this stream keeps no credit; open it with `initial_credit` to grant results")
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
        pts=(message.pts.seconds, message.pts.nanos) if message.HasField("pts") else None,
        capture_time=message.capture_time.seconds + message.capture_time.nanos / wire.NANOS
        if message.HasField("capture_time")
        else None,
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
    if len(message.objects) > limits.max_objects:  # a message has room for millions
        raise InvalidPrompt(f"{len(message.objects)} objects in one request; a stream has {limits.max_objects} at most")
    prompts = tuple(_parse_prompt(prompt, limits) for prompt in message.objects)
    return (*prompts, _parse_auto(message.auto, limits)) if message.HasField("auto") else prompts


def _parse_auto(message: pb.AutoPrompt, limits: Limits) -> AutoPrompt:
    if not 1 <= message.max_objects <= limits.max_objects:
        raise InvalidPrompt(
            f"auto.max_objects is {message.max_objects}; ask for 1 to {limits.max_objects}, the most a stream has"
        )
    return AutoPrompt(message.max_objects)


def _parse_ids(message: pb.RemoveObjects) -> tuple[int, ...]:
    if len(message.object_ids) > masks.MAX_OBJECT_ID:
        raise InvalidPrompt(f"{len(message.object_ids)} ids in one request; there are {masks.MAX_OBJECT_ID} at most")
    return tuple(message.object_ids)


def _parse_prompt(message: pb.ObjectPrompt, limits: Limits) -> EncodedPrompt:
    object_id = message.object_id
    if not 1 <= object_id <= masks.MAX_OBJECT_ID:
        raise InvalidPrompt(f"object id {object_id} is outside 1..{masks.MAX_OBJECT_ID} (0 is background)")
    match message.WhichOneof("prompt"):
        case "mask":
            return MaskPrompt(object_id, partial(_decode_region, object_id, message.mask, limits))
        case "box":
            box = (message.box.x, message.box.y, message.box.width, message.box.height)
            return BoxPrompt(object_id, box)
        case "points":
            return _parse_points(object_id, message.points)
    raise InvalidPrompt(f"object {object_id} has no prompt; give a mask, a box or points")


def _parse_points(object_id: int, message: pb.Points) -> PointPrompt:
    count_points(object_id, len(message.on), len(message.off))  # a message has room for millions
    on, off = (tuple((point.x, point.y) for point in points) for points in (message.on, message.off))
    return PointPrompt(object_id, on, off)


def _decode_region(object_id: int, message: pb.Mask, limits: Limits) -> Region:
    try:
        return wire.mask_from_proto(message, limits.max_width, limits.max_height)
    except ValueError as error:
        raise InvalidPrompt(f"the mask of object {object_id}: {error}") from error


def supported_encodings() -> Sequence[pb.MaskEncoding]:
    """Mask encodings of answers, as GetServerInfo lists them."""
    return ENCODINGS

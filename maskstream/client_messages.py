"""What the client says and hears, in its own words, and how that becomes protobuf and back.

Answers are decoded when they are read and not when they arrive: a label map on the wire is a hundredth of its pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import cv2
import numpy as np

from maskstream import wire
from maskstream.answer_views import AnswerViews
from maskstream.errors import InvalidFrame, InvalidPrompt, RequestRefused
from maskstream.masks import IdMap
from maskstream.prompt_kinds import (
    AnyPrompt,
    AutoPrompt,
    BoxPrompt,
    Point,
    PointPrompt,
    Prompt,
    RegionPrompt,
    count_points,
)
from maskstream.tracker import Frame, ObjectState
from maskstream.v1 import maskstream_pb2 as pb

STAGES = ("queue", "decode", "resize", "encode_frame", "segment", "encode_mask", "finish", "encode", "total")
MAX_SIDE = 2**15  # pixels; no id map is larger
_DELIVERIES = {"lossless": pb.DELIVERY_POLICY_LOSSLESS, "latest": pb.DELIVERY_POLICY_LATEST}


@dataclass(frozen=True)
class StreamOptions:
    """How a stream is opened; all may be given to `MaskStreamClient.open` as keywords."""

    delivery: Literal["lossless", "latest"] = "lossless"  # latest: the newest frame wins, for cameras
    max_in_flight: int = 4  # frames that wait for an answer; the server may grant less
    image: Literal["jpeg", "png", "raw"] = "jpeg"  # png and raw lose nothing
    jpeg_quality: int = 90
    max_frame_age_seconds: float | None = None  # latest: older frames are dropped
    idle_timeout_seconds: float | None = None
    output_size: tuple[int, int] | None = None  # height, width of the id maps; None: the frame's own
    results_ahead: int = 0  # results made before you ask for them, the one you work on included; 0: as they come
    snapshot_every: float | None = None  # seconds; the server's memory is kept here, for a break that leaves no trace
    resumes: int = 20  # attempts to open the stream anew after each break, with growing pauses; 0: a break is an error
    resume_seconds: float = 30.0  # and how long they may take together
    answer_timeout_seconds: float | None = 60.0  # a server silent for so long counts as broken; None: wait for ever
    session_id: str = ""
    model: str = ""

    def __post_init__(self) -> None:
        if self.delivery not in _DELIVERIES:
            raise ValueError(f"delivery is lossless or latest, got {self.delivery!r}")
        if self.image not in ("jpeg", "png", "raw"):
            raise ValueError(f"image is jpeg, png or raw, got {self.image!r}")
        if min(self.max_in_flight, self.results_ahead, self.resumes) < 0 or self.resume_seconds < 0:
            raise ValueError("max_in_flight, results_ahead, resumes and resume_seconds are 0 or more")
        for name in ("snapshot_every", "answer_timeout_seconds"):
            seconds = getattr(self, name)
            if seconds is not None and not seconds > 0:
                raise ValueError(f"{name} is more than 0, or None; got {seconds}")


@dataclass(frozen=True)
class FrameAnswer(AnswerViews):
    """What became of one frame. Exactly one of `id_map`, `dropped` and `error` is set."""

    index: int | None  # of the frame: in `propagate` its place in `frames`; None for a request that was no frame
    seq: int
    id_map: IdMap | None = field(default=None, repr=False)  # uint8 [H, W]: object id, 0 = background
    objects: tuple[ObjectState, ...] = ()
    timings: dict[str, float] = field(default_factory=dict, repr=False)  # seconds by stage, see STAGES
    pts: float | None = None  # seconds, as given with the frame
    dropped: str | None = None  # SUPERSEDED, TOO_OLD or CLOSED
    error: RequestRefused | None = None
    batch_size: int = 0  # streams whose frames went through the networks together with this one
    dropped_since_last: int = 0  # frames that the server dropped since its last result


@dataclass(frozen=True)
class StreamCounts:
    """Frames by what became of them, as the server counted them since the stream was last opened."""

    frames_in: int
    answered: int
    dropped: int
    refused: int


@dataclass(frozen=True)
class ServerInfo:
    """What a server says of itself."""

    server_version: str
    model: str
    model_version: str
    engine: str
    precision: str
    active_streams: int
    max_streams: int
    max_size: tuple[int, int]  # height, width
    max_objects: int


def server_info(info: pb.GetServerInfoResponse) -> ServerInfo:
    """The same without protobuf."""
    return ServerInfo(
        server_version=info.server_version,
        model=info.model,
        model_version=info.model_version,
        engine=info.backend,
        precision=info.precision,
        active_streams=info.active_streams,
        max_streams=info.max_streams,
        max_size=(info.limits.max_height, info.limits.max_width),
        max_objects=info.limits.max_objects,
    )


def open_request(options: StreamOptions, resume_state: bytes = b"") -> pb.Open:
    """The first request of a stream."""
    message = pb.Open(
        resume_state=resume_state,
        initial_credit=options.results_ahead,
        session_id=options.session_id,
        model=options.model,
        delivery=_DELIVERIES[options.delivery],
        max_in_flight=options.max_in_flight,
        output=pb.OutputOptions(per_object_stats=True, timings=True),
    )
    if options.output_size:
        message.output.height, message.output.width = options.output_size
    if options.max_frame_age_seconds is not None:
        message.max_frame_age.CopyFrom(wire.duration(options.max_frame_age_seconds))
    if options.idle_timeout_seconds is not None:
        message.idle_timeout.CopyFrom(wire.duration(options.idle_timeout_seconds))
    return message


def frame_message(frame: Frame, prompts: Sequence[AnyPrompt], options: StreamOptions, max_bytes: int) -> pb.Frame:
    """A frame uint8 [H, W, 3] RGB as the stream sends pictures. Raises InvalidFrame, also when it is too large."""
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or 0 in frame.shape:
        raise InvalidFrame(f"a frame is uint8 [H, W, 3] RGB; got {frame.dtype} {list(frame.shape)}")
    message = pb.Frame()
    if options.image == "raw":
        height, width = frame.shape[:2]
        raw = pb.RawImage(format=pb.PIXEL_FORMAT_RGB8, width=width, height=height, data=frame.tobytes())
        message.raw.CopyFrom(raw)
    elif options.image == "png":
        message.png = _encode(frame, ".png", [cv2.IMWRITE_PNG_COMPRESSION, 1])
    else:
        message.jpeg = _encode(frame, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, options.jpeg_quality])
    if prompts:
        message.prompts.CopyFrom(prompts_message(prompts))
    if message.ByteSize() + 64 > max_bytes:  # the request around it takes a few bytes too
        raise InvalidFrame(f"the frame takes {message.ByteSize()} bytes, the server {max_bytes} at most; shrink it")
    return message


def _encode(frame: Frame, suffix: str, flags: list[int]) -> bytes:
    return cv2.imencode(suffix, cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), flags)[1].tobytes()


def prompts_message(prompts: Sequence[AnyPrompt]) -> pb.SetObjects:
    """Prompts for one frame. Raises InvalidPrompt for numbers that the wire has no room for."""
    message = pb.SetObjects(objects=[_prompt_message(p) for p in prompts if not isinstance(p, AutoPrompt)])
    for prompt in prompts:
        if isinstance(prompt, AutoPrompt):
            message.auto.max_objects = _unsigned(prompt.max_objects, "a number of objects to find")
    return message


def _prompt_message(prompt: RegionPrompt) -> pb.ObjectPrompt:
    if isinstance(prompt, BoxPrompt):
        x, y, width, height = prompt.box
        left, top = max(0, x), max(0, y)  # the wire knows no pixels left of or above the frame
        right, bottom = max(left, x + width), max(top, y + height)
        box = pb.BoundingBox(x=left, y=top, width=right - left, height=bottom - top)
        return pb.ObjectPrompt(object_id=prompt.object_id, box=box)
    if isinstance(prompt, PointPrompt):
        count_points(prompt.object_id, len(prompt.points), len(prompt.background))
        points = pb.Points(on=map(_point_message, prompt.points), off=map(_point_message, prompt.background))
        return pb.ObjectPrompt(object_id=prompt.object_id, points=points)
    assert isinstance(prompt, Prompt)
    region = (prompt.mask != 0).astype(np.uint8)
    mask = wire.mask_to_proto(region, pb.MASK_ENCODING_LABEL_RUNS)
    return pb.ObjectPrompt(object_id=prompt.object_id, mask=mask)


def _point_message(point: Point) -> pb.Point:
    x, y = (_unsigned(side, "a side of a point") for side in point)
    return pb.Point(x=x, y=y)


def _unsigned(number: int, what: str) -> int:
    if not 0 <= number < 2**32:
        raise InvalidPrompt(f"{what} is {number}; it is a whole number from 0, points lie inside the frame")
    return int(number)


def without_prompts(message: pb.Frame) -> pb.Frame:
    """The same picture alone."""
    picture = pb.Frame()
    match message.WhichOneof("payload"):
        case "jpeg":
            picture.jpeg = message.jpeg
        case "png":
            picture.png = message.png
        case _:
            picture.raw.CopyFrom(message.raw)
    return picture


def id_map_at_size(label_map: pb.Mask, size: tuple[int, int]) -> IdMap:
    """A label map of an answer at the size (height, width) of its frame, whatever size it was asked for."""
    id_map = wire.mask_from_proto(label_map, MAX_SIDE, MAX_SIDE)
    if id_map.shape == size:
        return id_map
    resized = cv2.resize(id_map, (size[1], size[0]), interpolation=cv2.INTER_NEAREST_EXACT)
    return resized.astype(np.uint8, copy=False)


def answer_seqs(response: pb.PropagateResponse) -> tuple[int, ...]:
    """The requests that a response settles."""
    kind = response.WhichOneof("kind")
    if kind == "dropped":
        return tuple(response.dropped.seqs)
    if kind in ("result", "ack", "error"):
        return (getattr(response, kind).seq,)
    return ()


def frame_answer(response: pb.PropagateResponse, seq: int, index: int | None) -> FrameAnswer | None:
    """A response as the answer to one frame; None for an ack, which is news to nobody."""
    match response.WhichOneof("kind"):
        case "result":
            return _result(response.result, index)
        case "error":
            error = RequestRefused(response.error.message, response.error.reason)
            return FrameAnswer(index, seq, error=error)
        case "dropped":
            reason = pb.DropReason.Name(response.dropped.reason).removeprefix("DROP_REASON_")
            return FrameAnswer(index, seq, dropped=reason)
    return None


def _result(result: pb.FrameResult, index: int | None) -> FrameAnswer:
    return FrameAnswer(
        index,
        result.seq,
        wire.mask_from_proto(result.label_map, MAX_SIDE, MAX_SIDE),
        tuple(_state(stat) for stat in result.objects),
        {stage: wire.seconds_of(getattr(result.timings, stage)) for stage in STAGES},
        wire.seconds_of(result.pts) if result.HasField("pts") else None,
        batch_size=result.timings.batch_size,
        dropped_since_last=result.dropped_since_last,
    )


def _state(stat: pb.ObjectStat) -> ObjectState:
    box = (stat.box.x, stat.box.y, stat.box.width, stat.box.height) if stat.HasField("box") else None
    return ObjectState(stat.object_id, stat.score, stat.visible, stat.area, box, stat.lost)

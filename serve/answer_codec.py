"""Answers as protobuf: where serve.messages end on the way out."""

import time
from typing import NamedTuple

import cv2
import numpy as np

from maskstream import masks, wire
from maskstream.tracker import ObjectState
from maskstream.v1 import maskstream_pb2 as pb
from serve.config import Limits
from serve.errors import frame_code
from serve.messages import (
    Acked,
    Answer,
    Answered,
    Closed,
    DrainNotice,
    Dropped,
    DropReason,
    OpenRequest,
    Refused,
)

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


def encode_result(answer: Answered, request: OpenRequest, dropped_since_last: int) -> EncodedResult:
    """Masks of a frame as the client wants them; costs 0.1 ms (runs) to 2 ms (PNG) at 480p."""
    started = time.perf_counter()
    segmentation = answer.segmentation
    result = pb.FrameResult(
        seq=answer.request.seq, memory_frames=segmentation.memory_slots, dropped_since_last=dropped_since_last
    )
    if answer.request.pts is not None:
        result.pts.seconds, result.pts.nanos = answer.request.pts
    if request.encoding != pb.MASK_ENCODING_NONE:
        id_map = _at_size(segmentation.id_map, request.output_size)
        result.label_map.CopyFrom(wire.mask_to_proto(id_map, request.encoding))
    if request.wants_stats:
        result.objects.extend(_stat(state) for state in segmentation.objects)
    ended = time.perf_counter()
    encode_seconds, total_seconds = ended - started, ended - answer.request.received
    if request.wants_timings:
        seconds = {**answer.seconds, "encode": encode_seconds, "total": total_seconds}
        for stage, value in seconds.items():
            getattr(result.timings, stage).CopyFrom(wire.duration(value))
        result.timings.batch_size = answer.batch_size
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
    """Every answer but those that are work: a frame's masks (`encode_result`) and a snapshot."""
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
    raise AssertionError(f"{type(answer).__name__} has an encoder of its own")


def limits_to_proto(limits: Limits, makes_snapshots: bool = False) -> pb.Limits:
    """As published in Opened and GetServerInfo."""
    return pb.Limits(
        max_width=limits.max_width,
        max_height=limits.max_height,
        max_objects=limits.max_objects,
        max_message_bytes=limits.max_message_bytes,
        idle_timeout=wire.duration(limits.idle_timeout_seconds),
        max_in_flight=limits.max_in_flight,
        max_streams_per_client=limits.max_streams_per_client,
        max_prompts_per_second=limits.max_prompts_per_second,
        max_snapshot_bytes=limits.max_snapshot_mib * 2**20 if makes_snapshots else 0,
    )

import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DeliveryPolicy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DELIVERY_POLICY_UNSPECIFIED: _ClassVar[DeliveryPolicy]
    DELIVERY_POLICY_LOSSLESS: _ClassVar[DeliveryPolicy]
    DELIVERY_POLICY_LATEST: _ClassVar[DeliveryPolicy]

class MaskEncoding(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MASK_ENCODING_UNSPECIFIED: _ClassVar[MaskEncoding]
    MASK_ENCODING_LABEL_RUNS: _ClassVar[MaskEncoding]
    MASK_ENCODING_PNG: _ClassVar[MaskEncoding]
    MASK_ENCODING_RAW: _ClassVar[MaskEncoding]
    MASK_ENCODING_NONE: _ClassVar[MaskEncoding]

class PixelFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PIXEL_FORMAT_UNSPECIFIED: _ClassVar[PixelFormat]
    PIXEL_FORMAT_RGB8: _ClassVar[PixelFormat]
    PIXEL_FORMAT_BGR8: _ClassVar[PixelFormat]
    PIXEL_FORMAT_NV12: _ClassVar[PixelFormat]
    PIXEL_FORMAT_GRAY8: _ClassVar[PixelFormat]

class DropReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DROP_REASON_UNSPECIFIED: _ClassVar[DropReason]
    DROP_REASON_SUPERSEDED: _ClassVar[DropReason]
    DROP_REASON_TOO_OLD: _ClassVar[DropReason]
    DROP_REASON_CLOSED: _ClassVar[DropReason]
DELIVERY_POLICY_UNSPECIFIED: DeliveryPolicy
DELIVERY_POLICY_LOSSLESS: DeliveryPolicy
DELIVERY_POLICY_LATEST: DeliveryPolicy
MASK_ENCODING_UNSPECIFIED: MaskEncoding
MASK_ENCODING_LABEL_RUNS: MaskEncoding
MASK_ENCODING_PNG: MaskEncoding
MASK_ENCODING_RAW: MaskEncoding
MASK_ENCODING_NONE: MaskEncoding
PIXEL_FORMAT_UNSPECIFIED: PixelFormat
PIXEL_FORMAT_RGB8: PixelFormat
PIXEL_FORMAT_BGR8: PixelFormat
PIXEL_FORMAT_NV12: PixelFormat
PIXEL_FORMAT_GRAY8: PixelFormat
DROP_REASON_UNSPECIFIED: DropReason
DROP_REASON_SUPERSEDED: DropReason
DROP_REASON_TOO_OLD: DropReason
DROP_REASON_CLOSED: DropReason

class PropagateRequest(_message.Message):
    __slots__ = ("seq", "open", "frame", "set_objects", "remove_objects", "reset", "credit", "snapshot", "close")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    FRAME_FIELD_NUMBER: _ClassVar[int]
    SET_OBJECTS_FIELD_NUMBER: _ClassVar[int]
    REMOVE_OBJECTS_FIELD_NUMBER: _ClassVar[int]
    RESET_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    CLOSE_FIELD_NUMBER: _ClassVar[int]
    seq: int
    open: Open
    frame: Frame
    set_objects: SetObjects
    remove_objects: RemoveObjects
    reset: Reset
    credit: Credit
    snapshot: Snapshot
    close: Close
    def __init__(self, seq: _Optional[int] = ..., open: _Optional[_Union[Open, _Mapping]] = ..., frame: _Optional[_Union[Frame, _Mapping]] = ..., set_objects: _Optional[_Union[SetObjects, _Mapping]] = ..., remove_objects: _Optional[_Union[RemoveObjects, _Mapping]] = ..., reset: _Optional[_Union[Reset, _Mapping]] = ..., credit: _Optional[_Union[Credit, _Mapping]] = ..., snapshot: _Optional[_Union[Snapshot, _Mapping]] = ..., close: _Optional[_Union[Close, _Mapping]] = ...) -> None: ...

class PropagateResponse(_message.Message):
    __slots__ = ("opened", "result", "ack", "dropped", "error", "snapshot", "draining", "closed")
    OPENED_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    CLOSED_FIELD_NUMBER: _ClassVar[int]
    opened: Opened
    result: FrameResult
    ack: Ack
    dropped: Dropped
    error: FrameError
    snapshot: SnapshotData
    draining: Draining
    closed: Closed
    def __init__(self, opened: _Optional[_Union[Opened, _Mapping]] = ..., result: _Optional[_Union[FrameResult, _Mapping]] = ..., ack: _Optional[_Union[Ack, _Mapping]] = ..., dropped: _Optional[_Union[Dropped, _Mapping]] = ..., error: _Optional[_Union[FrameError, _Mapping]] = ..., snapshot: _Optional[_Union[SnapshotData, _Mapping]] = ..., draining: _Optional[_Union[Draining, _Mapping]] = ..., closed: _Optional[_Union[Closed, _Mapping]] = ...) -> None: ...

class Open(_message.Message):
    __slots__ = ("session_id", "model", "delivery", "max_in_flight", "max_frame_age", "output", "memory", "resume_state", "idle_timeout", "initial_credit")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    DELIVERY_FIELD_NUMBER: _ClassVar[int]
    MAX_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    MAX_FRAME_AGE_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    RESUME_STATE_FIELD_NUMBER: _ClassVar[int]
    IDLE_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    INITIAL_CREDIT_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    model: str
    delivery: DeliveryPolicy
    max_in_flight: int
    max_frame_age: _duration_pb2.Duration
    output: OutputOptions
    memory: MemoryOptions
    resume_state: bytes
    idle_timeout: _duration_pb2.Duration
    initial_credit: int
    def __init__(self, session_id: _Optional[str] = ..., model: _Optional[str] = ..., delivery: _Optional[_Union[DeliveryPolicy, str]] = ..., max_in_flight: _Optional[int] = ..., max_frame_age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., output: _Optional[_Union[OutputOptions, _Mapping]] = ..., memory: _Optional[_Union[MemoryOptions, _Mapping]] = ..., resume_state: _Optional[bytes] = ..., idle_timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., initial_credit: _Optional[int] = ...) -> None: ...

class OutputOptions(_message.Message):
    __slots__ = ("encoding", "width", "height", "per_object_stats", "timings")
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    PER_OBJECT_STATS_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    encoding: MaskEncoding
    width: int
    height: int
    per_object_stats: bool
    timings: bool
    def __init__(self, encoding: _Optional[_Union[MaskEncoding, str]] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., per_object_stats: _Optional[bool] = ..., timings: _Optional[bool] = ...) -> None: ...

class MemoryOptions(_message.Message):
    __slots__ = ("max_memory_frames", "memory_every")
    MAX_MEMORY_FRAMES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_EVERY_FIELD_NUMBER: _ClassVar[int]
    max_memory_frames: int
    memory_every: int
    def __init__(self, max_memory_frames: _Optional[int] = ..., memory_every: _Optional[int] = ...) -> None: ...

class Frame(_message.Message):
    __slots__ = ("jpeg", "png", "raw", "capture_time", "pts", "prompts", "suppress_output")
    JPEG_FIELD_NUMBER: _ClassVar[int]
    PNG_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    CAPTURE_TIME_FIELD_NUMBER: _ClassVar[int]
    PTS_FIELD_NUMBER: _ClassVar[int]
    PROMPTS_FIELD_NUMBER: _ClassVar[int]
    SUPPRESS_OUTPUT_FIELD_NUMBER: _ClassVar[int]
    jpeg: bytes
    png: bytes
    raw: RawImage
    capture_time: _timestamp_pb2.Timestamp
    pts: _duration_pb2.Duration
    prompts: SetObjects
    suppress_output: bool
    def __init__(self, jpeg: _Optional[bytes] = ..., png: _Optional[bytes] = ..., raw: _Optional[_Union[RawImage, _Mapping]] = ..., capture_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., pts: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., prompts: _Optional[_Union[SetObjects, _Mapping]] = ..., suppress_output: _Optional[bool] = ...) -> None: ...

class RawImage(_message.Message):
    __slots__ = ("format", "width", "height", "stride", "data")
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    STRIDE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    format: PixelFormat
    width: int
    height: int
    stride: int
    data: bytes
    def __init__(self, format: _Optional[_Union[PixelFormat, str]] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., stride: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class SetObjects(_message.Message):
    __slots__ = ("objects", "auto")
    OBJECTS_FIELD_NUMBER: _ClassVar[int]
    AUTO_FIELD_NUMBER: _ClassVar[int]
    objects: _containers.RepeatedCompositeFieldContainer[ObjectPrompt]
    auto: AutoPrompt
    def __init__(self, objects: _Optional[_Iterable[_Union[ObjectPrompt, _Mapping]]] = ..., auto: _Optional[_Union[AutoPrompt, _Mapping]] = ...) -> None: ...

class AutoPrompt(_message.Message):
    __slots__ = ("max_objects",)
    MAX_OBJECTS_FIELD_NUMBER: _ClassVar[int]
    max_objects: int
    def __init__(self, max_objects: _Optional[int] = ...) -> None: ...

class ObjectPrompt(_message.Message):
    __slots__ = ("object_id", "mask", "box", "points")
    OBJECT_ID_FIELD_NUMBER: _ClassVar[int]
    MASK_FIELD_NUMBER: _ClassVar[int]
    BOX_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    object_id: int
    mask: Mask
    box: BoundingBox
    points: Points
    def __init__(self, object_id: _Optional[int] = ..., mask: _Optional[_Union[Mask, _Mapping]] = ..., box: _Optional[_Union[BoundingBox, _Mapping]] = ..., points: _Optional[_Union[Points, _Mapping]] = ...) -> None: ...

class Points(_message.Message):
    __slots__ = ("on", "off")
    ON_FIELD_NUMBER: _ClassVar[int]
    OFF_FIELD_NUMBER: _ClassVar[int]
    on: _containers.RepeatedCompositeFieldContainer[Point]
    off: _containers.RepeatedCompositeFieldContainer[Point]
    def __init__(self, on: _Optional[_Iterable[_Union[Point, _Mapping]]] = ..., off: _Optional[_Iterable[_Union[Point, _Mapping]]] = ...) -> None: ...

class Point(_message.Message):
    __slots__ = ("x", "y")
    X_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    x: int
    y: int
    def __init__(self, x: _Optional[int] = ..., y: _Optional[int] = ...) -> None: ...

class RemoveObjects(_message.Message):
    __slots__ = ("object_ids",)
    OBJECT_IDS_FIELD_NUMBER: _ClassVar[int]
    object_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, object_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class Reset(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Credit(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: int
    def __init__(self, results: _Optional[int] = ...) -> None: ...

class Snapshot(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Close(_message.Message):
    __slots__ = ("drain",)
    DRAIN_FIELD_NUMBER: _ClassVar[int]
    drain: bool
    def __init__(self, drain: _Optional[bool] = ...) -> None: ...

class Mask(_message.Message):
    __slots__ = ("width", "height", "label_runs", "png", "raw")
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    LABEL_RUNS_FIELD_NUMBER: _ClassVar[int]
    PNG_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    width: int
    height: int
    label_runs: LabelRuns
    png: bytes
    raw: bytes
    def __init__(self, width: _Optional[int] = ..., height: _Optional[int] = ..., label_runs: _Optional[_Union[LabelRuns, _Mapping]] = ..., png: _Optional[bytes] = ..., raw: _Optional[bytes] = ...) -> None: ...

class LabelRuns(_message.Message):
    __slots__ = ("values", "lengths")
    VALUES_FIELD_NUMBER: _ClassVar[int]
    LENGTHS_FIELD_NUMBER: _ClassVar[int]
    values: bytes
    lengths: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, values: _Optional[bytes] = ..., lengths: _Optional[_Iterable[int]] = ...) -> None: ...

class Opened(_message.Message):
    __slots__ = ("session_id", "model", "model_version", "max_in_flight", "max_memory_frames", "resumed", "limits", "memory_every", "idle_timeout")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    MAX_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    MAX_MEMORY_FRAMES_FIELD_NUMBER: _ClassVar[int]
    RESUMED_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_EVERY_FIELD_NUMBER: _ClassVar[int]
    IDLE_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    model: str
    model_version: str
    max_in_flight: int
    max_memory_frames: int
    resumed: bool
    limits: Limits
    memory_every: int
    idle_timeout: _duration_pb2.Duration
    def __init__(self, session_id: _Optional[str] = ..., model: _Optional[str] = ..., model_version: _Optional[str] = ..., max_in_flight: _Optional[int] = ..., max_memory_frames: _Optional[int] = ..., resumed: _Optional[bool] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., memory_every: _Optional[int] = ..., idle_timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("max_width", "max_height", "max_objects", "max_message_bytes", "idle_timeout", "max_in_flight", "max_streams_per_client", "max_prompts_per_second", "max_snapshot_bytes")
    MAX_WIDTH_FIELD_NUMBER: _ClassVar[int]
    MAX_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    MAX_OBJECTS_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    IDLE_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    MAX_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    MAX_STREAMS_PER_CLIENT_FIELD_NUMBER: _ClassVar[int]
    MAX_PROMPTS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    MAX_SNAPSHOT_BYTES_FIELD_NUMBER: _ClassVar[int]
    max_width: int
    max_height: int
    max_objects: int
    max_message_bytes: int
    idle_timeout: _duration_pb2.Duration
    max_in_flight: int
    max_streams_per_client: int
    max_prompts_per_second: int
    max_snapshot_bytes: int
    def __init__(self, max_width: _Optional[int] = ..., max_height: _Optional[int] = ..., max_objects: _Optional[int] = ..., max_message_bytes: _Optional[int] = ..., idle_timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., max_in_flight: _Optional[int] = ..., max_streams_per_client: _Optional[int] = ..., max_prompts_per_second: _Optional[int] = ..., max_snapshot_bytes: _Optional[int] = ...) -> None: ...

class FrameResult(_message.Message):
    __slots__ = ("seq", "pts", "label_map", "objects", "timings", "memory_frames", "dropped_since_last")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    PTS_FIELD_NUMBER: _ClassVar[int]
    LABEL_MAP_FIELD_NUMBER: _ClassVar[int]
    OBJECTS_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FRAMES_FIELD_NUMBER: _ClassVar[int]
    DROPPED_SINCE_LAST_FIELD_NUMBER: _ClassVar[int]
    seq: int
    pts: _duration_pb2.Duration
    label_map: Mask
    objects: _containers.RepeatedCompositeFieldContainer[ObjectStat]
    timings: Timings
    memory_frames: int
    dropped_since_last: int
    def __init__(self, seq: _Optional[int] = ..., pts: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., label_map: _Optional[_Union[Mask, _Mapping]] = ..., objects: _Optional[_Iterable[_Union[ObjectStat, _Mapping]]] = ..., timings: _Optional[_Union[Timings, _Mapping]] = ..., memory_frames: _Optional[int] = ..., dropped_since_last: _Optional[int] = ...) -> None: ...

class ObjectStat(_message.Message):
    __slots__ = ("object_id", "score", "area", "box", "visible", "lost")
    OBJECT_ID_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    AREA_FIELD_NUMBER: _ClassVar[int]
    BOX_FIELD_NUMBER: _ClassVar[int]
    VISIBLE_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    object_id: int
    score: float
    area: int
    box: BoundingBox
    visible: float
    lost: bool
    def __init__(self, object_id: _Optional[int] = ..., score: _Optional[float] = ..., area: _Optional[int] = ..., box: _Optional[_Union[BoundingBox, _Mapping]] = ..., visible: _Optional[float] = ..., lost: _Optional[bool] = ...) -> None: ...

class BoundingBox(_message.Message):
    __slots__ = ("x", "y", "width", "height")
    X_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    x: int
    y: int
    width: int
    height: int
    def __init__(self, x: _Optional[int] = ..., y: _Optional[int] = ..., width: _Optional[int] = ..., height: _Optional[int] = ...) -> None: ...

class Timings(_message.Message):
    __slots__ = ("queue", "decode", "resize", "encode_frame", "segment", "encode_mask", "finish", "encode", "total", "batch_size")
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    DECODE_FIELD_NUMBER: _ClassVar[int]
    RESIZE_FIELD_NUMBER: _ClassVar[int]
    ENCODE_FRAME_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    ENCODE_MASK_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    ENCODE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    queue: _duration_pb2.Duration
    decode: _duration_pb2.Duration
    resize: _duration_pb2.Duration
    encode_frame: _duration_pb2.Duration
    segment: _duration_pb2.Duration
    encode_mask: _duration_pb2.Duration
    finish: _duration_pb2.Duration
    encode: _duration_pb2.Duration
    total: _duration_pb2.Duration
    batch_size: int
    def __init__(self, queue: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., decode: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., resize: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., encode_frame: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., segment: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., encode_mask: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., finish: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., encode: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., total: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., batch_size: _Optional[int] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("seq",)
    SEQ_FIELD_NUMBER: _ClassVar[int]
    seq: int
    def __init__(self, seq: _Optional[int] = ...) -> None: ...

class Dropped(_message.Message):
    __slots__ = ("seqs", "reason")
    SEQS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    seqs: _containers.RepeatedScalarFieldContainer[int]
    reason: DropReason
    def __init__(self, seqs: _Optional[_Iterable[int]] = ..., reason: _Optional[_Union[DropReason, str]] = ...) -> None: ...

class FrameError(_message.Message):
    __slots__ = ("seq", "code", "reason", "message")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    seq: int
    code: int
    reason: str
    message: str
    def __init__(self, seq: _Optional[int] = ..., code: _Optional[int] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class SnapshotData(_message.Message):
    __slots__ = ("seq", "state", "model_version")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    seq: int
    state: bytes
    model_version: str
    def __init__(self, seq: _Optional[int] = ..., state: _Optional[bytes] = ..., model_version: _Optional[str] = ...) -> None: ...

class Draining(_message.Message):
    __slots__ = ("grace",)
    GRACE_FIELD_NUMBER: _ClassVar[int]
    grace: _duration_pb2.Duration
    def __init__(self, grace: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class Closed(_message.Message):
    __slots__ = ("frames_in", "frames_answered", "frames_dropped", "frames_refused")
    FRAMES_IN_FIELD_NUMBER: _ClassVar[int]
    FRAMES_ANSWERED_FIELD_NUMBER: _ClassVar[int]
    FRAMES_DROPPED_FIELD_NUMBER: _ClassVar[int]
    FRAMES_REFUSED_FIELD_NUMBER: _ClassVar[int]
    frames_in: int
    frames_answered: int
    frames_dropped: int
    frames_refused: int
    def __init__(self, frames_in: _Optional[int] = ..., frames_answered: _Optional[int] = ..., frames_dropped: _Optional[int] = ..., frames_refused: _Optional[int] = ...) -> None: ...

class GetServerInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetServerInfoResponse(_message.Message):
    __slots__ = ("server_version", "model", "model_version", "backend", "precision", "limits", "active_streams", "max_streams", "encodings", "engine_busy_ratio")
    SERVER_VERSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_STREAMS_FIELD_NUMBER: _ClassVar[int]
    MAX_STREAMS_FIELD_NUMBER: _ClassVar[int]
    ENCODINGS_FIELD_NUMBER: _ClassVar[int]
    ENGINE_BUSY_RATIO_FIELD_NUMBER: _ClassVar[int]
    server_version: str
    model: str
    model_version: str
    backend: str
    precision: str
    limits: Limits
    active_streams: int
    max_streams: int
    encodings: _containers.RepeatedScalarFieldContainer[MaskEncoding]
    engine_busy_ratio: float
    def __init__(self, server_version: _Optional[str] = ..., model: _Optional[str] = ..., model_version: _Optional[str] = ..., backend: _Optional[str] = ..., precision: _Optional[str] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., active_streams: _Optional[int] = ..., max_streams: _Optional[int] = ..., encodings: _Optional[_Iterable[_Union[MaskEncoding, str]]] = ..., engine_busy_ratio: _Optional[float] = ...) -> None: ...

"""What the wire says when something is wrong. `StreamEnded` and its leaves end a stream with a gRPC status and
google.rpc details; every other MaskstreamError concerns one request and travels as a FrameError.

UNAVAILABLE means: the same call may succeed at once on another replica. RESOURCE_EXHAUSTED is kept for limits that
another replica has too.
"""

import asyncio
from typing import Any, NoReturn

import grpc
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from maskstream import wire
from maskstream.errors import InvalidFrame, InvalidPrompt, MaskstreamError, MemoryExhausted, NoObjects

DOMAIN = "maskstream"
REASON_METADATA = "maskstream-reason"
RETRY_METADATA = "maskstream-retry-after-ms"


class FrameUndecodable(InvalidFrame):
    """The bytes are not a whole picture of the kind they claim to be."""

    reason = "FRAME_UNDECODABLE"


class FrameTooLarge(InvalidFrame):
    """The picture's header claims more pixels than the server takes."""

    reason = "FRAME_TOO_LARGE"


class OutOfOrder(MaskstreamError):
    """A seq that is not larger than the one before."""

    reason = "OUT_OF_ORDER"


class Unimplemented(MaskstreamError):
    """A request this version does not know how to serve."""

    reason = "UNIMPLEMENTED"


class SnapshotsOff(MaskstreamError):
    """This server has no key to sign a snapshot with."""

    reason = "SNAPSHOTS_OFF"


class SnapshotTooLarge(MaskstreamError):
    """The stream's state is larger than the server sends."""

    reason = "SNAPSHOT_TOO_LARGE"


class PromptRateExceeded(MaskstreamError):
    """More objects are prompted or removed than a stream may, on average."""

    reason = "PROMPT_RATE"


class StreamEnded(MaskstreamError):
    """Base of what ends a stream. `code` is a google.rpc.Code."""

    code: int = code_pb2.INTERNAL
    retry_after_seconds: float | None = None


class OpenRequired(StreamEnded):
    """The first request was something else."""

    reason, code = "OPEN_REQUIRED", code_pb2.INVALID_ARGUMENT


class BadMessage(StreamEnded):
    """A request is no protobuf of this contract: what follows it cannot be trusted either."""

    reason, code = "BAD_MESSAGE", code_pb2.INVALID_ARGUMENT


class BadConfig(StreamEnded):
    """Open asks for something that does not exist; `field` names it."""

    reason, code = "BAD_CONFIG", code_pb2.INVALID_ARGUMENT

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message)
        self.field = field


class ModelNotFound(StreamEnded):
    """Another model is served here."""

    reason, code = "MODEL_NOT_FOUND", code_pb2.NOT_FOUND


class ServerFull(StreamEnded):
    """No slot or no bank memory is left for another stream."""

    reason, code, retry_after_seconds = "SERVER_FULL", code_pb2.UNAVAILABLE, 1.0


class Warming(StreamEnded):
    """The engine has not finished its first run."""

    reason, code, retry_after_seconds = "WARMING", code_pb2.UNAVAILABLE, 1.0


class Draining(StreamEnded):
    """The server is going away."""

    reason, code, retry_after_seconds = "DRAINING", code_pb2.UNAVAILABLE, 1.0


class IdleTimeout(StreamEnded):
    """Nothing was sent, or nothing was read, for too long."""

    reason, code = "IDLE_TIMEOUT", code_pb2.ABORTED


class EngineFailed(StreamEnded):
    """The engine broke on this stream; the cause is in the server's log."""

    reason, code = "ENGINE_FAILED", code_pb2.INTERNAL


class EngineStuck(StreamEnded):
    """The engine has not ended a turn for too long."""

    reason, code = "ENGINE_STUCK", code_pb2.INTERNAL


class TokenRequired(StreamEnded):
    """The call carries no token."""

    reason, code = "TOKEN_REQUIRED", code_pb2.UNAUTHENTICATED


class TokenInvalid(StreamEnded):
    """The call's token is not known, or not any more."""

    reason, code = "TOKEN_INVALID", code_pb2.UNAUTHENTICATED


class SnapshotInvalid(StreamEnded):
    """Open.resume_state cannot be used here; the message says why."""

    reason, code = "SNAPSHOT_INVALID", code_pb2.FAILED_PRECONDITION


class ClientStreamLimit(StreamEnded):
    """This client has as many streams open as one client may."""

    reason, code = "CLIENT_STREAM_LIMIT", code_pb2.RESOURCE_EXHAUSTED

    def __init__(self, message: str, client: str) -> None:
        super().__init__(message)
        self.client = client


class CreditExceeded(StreamEnded):
    """The client sends far more than it may have unanswered."""

    reason, code = "CREDIT_EXCEEDED", code_pb2.RESOURCE_EXHAUSTED


# The most specific class first.
_FRAME_CODES: tuple[tuple[type[MaskstreamError], int], ...] = (
    (MemoryExhausted, code_pb2.RESOURCE_EXHAUSTED),
    (PromptRateExceeded, code_pb2.RESOURCE_EXHAUSTED),
    (SnapshotTooLarge, code_pb2.RESOURCE_EXHAUSTED),
    (SnapshotsOff, code_pb2.FAILED_PRECONDITION),
    (NoObjects, code_pb2.FAILED_PRECONDITION),
    (Unimplemented, code_pb2.UNIMPLEMENTED),
    (InvalidFrame, code_pb2.INVALID_ARGUMENT),
    (InvalidPrompt, code_pb2.INVALID_ARGUMENT),
)


def frame_code(error: MaskstreamError) -> int:
    """google.rpc.Code of an error that concerns one request."""
    return next((code for kind, code in _FRAME_CODES if isinstance(error, kind)), code_pb2.INVALID_ARGUMENT)


def status_of(error: StreamEnded) -> status_pb2.Status:
    """The error as google.rpc.Status: ErrorInfo always; RetryInfo and BadRequest where they apply."""
    details = [error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)]
    if error.retry_after_seconds is not None:
        details.append(error_details_pb2.RetryInfo(retry_delay=wire.duration(error.retry_after_seconds)))
    if isinstance(error, BadConfig):
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=str(error))
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if isinstance(error, ClientStreamLimit):
        quota = error_details_pb2.QuotaFailure.Violation(subject=error.client, description=str(error))
        details.append(error_details_pb2.QuotaFailure(violations=[quota]))
    status = status_pb2.Status(code=error.code, message=str(error))
    for detail in details:
        status.details.add().Pack(detail)
    return status


async def abort(context: Any, error: StreamEnded) -> NoReturn:
    """End an RPC with the error's status; its reason is in the trailing metadata too, in plain words, for clients
    without the google.rpc messages.
    """
    status = rpc_status.to_status(status_of(error))
    metadata = [*status.trailing_metadata, (REASON_METADATA, error.reason)]
    if error.retry_after_seconds is not None:
        metadata.append((RETRY_METADATA, str(round(1000 * error.retry_after_seconds))))
    try:
        await context.abort(status.code, status.details, tuple(metadata))
    except grpc.aio.InternalError as gone:
        raise asyncio.CancelledError("the client was gone before its status could be sent") from gone
    raise AssertionError("gRPC's abort raises")

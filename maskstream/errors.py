"""What can be wrong with what a caller gave us. Each leaf carries the stable reason that the wire and the logs show.

MaskstreamError
  InvalidFrame      INVALID_FRAME     not a uint8 [H, W, 3] picture, undecodable, too large
  SizeChanged       SIZE_CHANGED      a frame of another size in mid-stream
  InvalidPrompt     INVALID_PROMPT    no such id, no mask, mask of another size, box outside the frame
  NoObjects         NO_OBJECTS        a frame before any object was prompted
  MemoryExhausted   MEMORY_EXHAUSTED  no memory block left for another object or stream
  MaskFileError     MASK_UNREADABLE   a mask file that holds no object ids
  VideoError        VIDEO_UNREADABLE  not a video, empty, missing
  OutputError       OUTPUT_UNWRITABLE (maskstream.sinks.sink) a disk that is full, a folder that cannot be made
  CheckpointError   CHECKPOINT_INVALID
  ArtifactError     ARTIFACT_INVALID  missing, altered, or of another version
  EngineUnavailable ENGINE_UNAVAILABLE  an engine that is unknown, not installed, or not able to run here
  AccessError       ACCESS_INVALID    a token or a TLS file that cannot be used
  RequestRefused    from the server   one request failed, the stream goes on
  StreamError       from the server   a stream ended, or was not opened
    ServerFull      SERVER_FULL       no slot is left there
    ServerUnavailable  UNAVAILABLE, WARMING, DRAINING, CONNECTION_BROKEN, NO_ANSWER: not reached, or not now
"""


class MaskstreamError(Exception):
    """Base of all errors a caller can do something about; the message says what."""

    reason = "INVALID"


class InvalidFrame(MaskstreamError):
    """The frame cannot be used; the stream goes on."""

    reason = "INVALID_FRAME"


class SizeChanged(InvalidFrame):
    """The frame's size differs from the stream's first frame."""

    reason = "SIZE_CHANGED"


class InvalidPrompt(MaskstreamError):
    """A prompt names no valid object or region."""

    reason = "INVALID_PROMPT"


class NoObjects(MaskstreamError):
    """A frame came before any object was prompted."""

    reason = "NO_OBJECTS"


class MemoryExhausted(MaskstreamError):
    """The memory budget has no block left; nothing was allocated."""

    reason = "MEMORY_EXHAUSTED"


class MaskFileError(MaskstreamError):
    """A mask file is missing, damaged or holds colours in place of object ids."""

    reason = "MASK_UNREADABLE"


class VideoError(MaskstreamError):
    """A source of frames cannot be read."""

    reason = "VIDEO_UNREADABLE"


class CheckpointError(MaskstreamError):
    """A checkpoint file is missing, damaged or of another version."""

    reason = "CHECKPOINT_INVALID"


class ArtifactError(MaskstreamError):
    """An artifact folder is missing, altered or of another version."""

    reason = "ARTIFACT_INVALID"


class EngineUnavailable(MaskstreamError):
    """An engine is unknown, not installed, or cannot run what was asked of it on this machine."""

    reason = "ENGINE_UNAVAILABLE"


class AccessError(MaskstreamError):
    """What a client was given to be let in by a server, a token or TLS files, cannot be used."""

    reason = "ACCESS_INVALID"


class RequestRefused(MaskstreamError):
    """A server could not do one thing; `reason` is its word for it. The stream is as if it had not been asked."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class StreamError(MaskstreamError):
    """A stream to a server ended, or was not opened; `reason` is the server's word for it.

    `retry_after_seconds` is the server's wish for the pause before the next attempt, 0 when it has none.
    """

    def __init__(self, message: str, reason: str, retry_after_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.reason, self.retry_after_seconds = reason, retry_after_seconds


class ServerFull(StreamError):
    """The server has no room for another stream; another server may."""


class ServerUnavailable(StreamError):
    """The server cannot be reached, warms up or goes away; the same may succeed in a moment."""

"""Numpy arrays and protobuf messages, both ways, for both ends of the wire.

A mask is one message in prompts (region of one object) and in answers (label map), so server and client share this
code. Sizes are checked before anything is allocated: what a message claims costs nothing until it is believed.
"""

import struct
from typing import NamedTuple

import cv2
import numpy as np
from google.protobuf.duration_pb2 import Duration

from maskstream import masks
from maskstream.v1 import maskstream_pb2 as pb

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
NANOS = 10**9


class PngHeader(NamedTuple):
    """What the first 26 bytes of a PNG say."""

    width: int
    height: int
    bit_depth: int
    colour_type: int  # 0 grey, 2 RGB, 3 palette, 4 grey + alpha, 6 RGB + alpha


def read_png_header(data: bytes) -> PngHeader:
    """Header of a PNG, without decoding. Raises ValueError when it is none."""
    if len(data) < 26 or not data.startswith(PNG_SIGNATURE) or data[12:16] != b"IHDR":
        raise ValueError("these bytes are not a PNG: it begins with a signature and an IHDR chunk")
    return PngHeader(*struct.unpack(">IIBB", data[16:26]))


def mask_to_proto(mask: masks.IdMap, encoding: int) -> pb.Mask:
    """Id map or region uint8 [H, W] as a message; `encoding` is one of pb.MASK_ENCODING_LABEL_RUNS, _PNG, _RAW."""
    message = pb.Mask(width=mask.shape[1], height=mask.shape[0])
    if encoding == pb.MASK_ENCODING_PNG:
        message.png = cv2.imencode(".png", mask, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
    elif encoding == pb.MASK_ENCODING_RAW:
        message.raw = mask.tobytes()
    else:
        values, lengths = masks.encode_runs(mask)
        message.label_runs.values = values.tobytes()
        message.label_runs.lengths.extend(lengths.tolist())
    return message


def mask_from_proto(message: pb.Mask, max_width: int, max_height: int) -> masks.IdMap:
    """Inverse of `mask_to_proto`: uint8 [H, W]. Raises ValueError saying what does not fit."""
    width, height = message.width, message.height
    if not (0 < width <= max_width and 0 < height <= max_height):
        raise ValueError(f"a mask of {width}x{height} is outside 1x1..{max_width}x{max_height}")
    form = message.WhichOneof("data")
    if form == "label_runs":
        return masks.decode_runs(
            np.frombuffer(message.label_runs.values, np.uint8), message.label_runs.lengths, (height, width)
        )
    if form == "png":
        return _decode_grey_png(message.png, width, height)
    if form == "raw":
        if len(message.raw) != width * height:
            raise ValueError(f"a raw {width}x{height} mask has {width * height} bytes, this one has {len(message.raw)}")
        return np.frombuffer(message.raw, np.uint8).reshape(height, width)
    raise ValueError("the mask has no data; give label_runs, png or raw")


def _decode_grey_png(data: bytes, width: int, height: int) -> masks.IdMap:
    header = read_png_header(data)
    if (header.width, header.height) != (width, height):
        raise ValueError(f"the message says {width}x{height}, the PNG inside is {header.width}x{header.height}")
    if header.colour_type != 0 or header.bit_depth not in (1, 8):
        raise ValueError("a mask PNG is 8-bit or 1-bit greyscale; the colours of other kinds are not object ids")
    try:
        mask = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        mask = None
    if mask is None or mask.shape != (height, width):
        raise ValueError("the mask PNG cannot be decoded; is it complete?")
    return mask.astype(np.uint8, copy=False)


def duration(seconds: float) -> Duration:
    """Protobuf duration of a time in seconds, rounded to nanoseconds."""
    return duration_from_nanos(round(seconds * NANOS))


def duration_from_nanos(nanos: int) -> Duration:
    """Protobuf duration; both of its fields carry the sign, as its definition asks."""
    sign = -1 if nanos < 0 else 1
    whole, rest = divmod(abs(nanos), NANOS)
    return Duration(seconds=sign * whole, nanos=sign * rest)


def nanos_of(message: Duration) -> int:
    """Nanoseconds of a protobuf duration."""
    return int(message.seconds) * NANOS + int(message.nanos)


def seconds_of(message: Duration) -> float:
    """Seconds of a protobuf duration."""
    return nanos_of(message) / NANOS

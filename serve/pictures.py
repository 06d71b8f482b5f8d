"""Pictures of requests as frames: JPEG, PNG and raw pixels, checked by their header before anything is decoded.

A PNG of some hundred KB can claim gigabytes of pixels, so its size is read first and held against the limits.
Compressed pictures are taken as stored (no EXIF rotation), so that a mask's pixels are the picture's pixels.
"""

import struct
import zlib
from collections.abc import Iterator

import cv2
import numpy as np

from maskstream import wire
from maskstream.tracker import Frame
from maskstream.v1 import maskstream_pb2 as pb
from serve.config import Limits
from serve.errors import FrameTooLarge, FrameUndecodable

MOST_SCANS = 64  # of a progressive JPEG; encoders make about ten, each costs a pass over the picture
_INFLATED_SLACK_BYTES = 2**26  # behind a PNG's pixels; as much as is unpacked in a tenth of a second
_INFLATE_STEP_BYTES = 2**20


def decode_jpeg(data: bytes, limits: Limits) -> Frame:
    """JPEG -> uint8 [H, W, 3] RGB. Raises FrameTooLarge, FrameUndecodable."""
    width, height, header_end = _read_jpeg_header(data)
    # Without its end marker a JPEG was cut off; some versions of OpenCV fill the rest with grey and say nothing.
    if data.find(b"\xff\xd9", header_end) < 0:
        raise FrameUndecodable("the JPEG has no end marker: it was cut off; send the whole picture")
    scans = data.count(b"\xff\xda", header_end)
    if scans > MOST_SCANS:
        raise FrameUndecodable(f"the JPEG has {scans} scans, {MOST_SCANS} are taken at most; save it as baseline")
    return _decode(data, width, height, limits)


def decode_png(data: bytes, limits: Limits) -> Frame:
    """PNG -> uint8 [H, W, 3] RGB. Raises FrameTooLarge, FrameUndecodable."""
    try:
        header = wire.read_png_header(data)
    except ValueError as error:
        raise FrameUndecodable(f"{error}; got {len(data)} bytes") from error
    _check_size(header.width, header.height, limits)
    _check_unpacked(data, header)
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


def _check_unpacked(data: bytes, header: wire.PngHeader) -> None:
    """Refuse a PNG that unpacks to far more than its pixels: the decoder would unpack it all.

    Only what could be one is unpacked here: no packed byte gives more than 1032.
    """
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(header.colour_type, 4)
    most = 2 * header.height * (1 + header.width * samples * header.bit_depth // 8) + _INFLATED_SLACK_BYTES
    if 1032 * len(data) <= most:
        return
    unpack, left = zlib.decompressobj(), most
    for body in _image_data(data):
        packed = body
        while packed and not unpack.eof:
            try:
                left -= len(unpack.decompress(packed, _INFLATE_STEP_BYTES))
            except zlib.error as error:
                raise FrameUndecodable(f"the PNG is damaged: {error}") from error
            if left < 0:
                raise FrameUndecodable("the PNG unpacks to far more than its pixels")
            packed = unpack.unconsumed_tail


def _image_data(data: bytes) -> Iterator[bytes]:
    """Bodies of the IDAT chunks of a PNG."""
    position = 8
    while position + 8 <= len(data):
        length = int.from_bytes(data[position : position + 4])
        if data[position + 4 : position + 8] == b"IDAT":
            yield data[position + 8 : position + 8 + length]
        position += 12 + length


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
        if marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD9:
            break  # it has no length: the decoder would go on elsewhere than we, and find another header
        (length,) = struct.unpack_from(">H", data, position + 2)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # a frame header, not tables
            height, width = struct.unpack_from(">HH", data, position + 5)
            return width, height, position + 2 + length
        position += 2 + length
    raise FrameUndecodable(f"these {len(data)} bytes are not a JPEG: no frame header was found; is it cut off?")

"""Pictures as they arrive: every kind gives the same RGB pixels, whatever its padding."""

import struct

import cv2
import numpy as np
import pytest
from served import jpeg, png

from maskstream.v1 import maskstream_pb2 as pb
from serve import answer_codec, pictures
from serve.config import Limits
from serve.errors import FrameTooLarge, FrameUndecodable
from serve.messages import Dropped, DropReason

LIMITS = Limits()


@pytest.fixture
def picture():
    ramp = np.indices((48, 64)).transpose(1, 2, 0).astype(np.uint8)
    return np.ascontiguousarray(np.dstack([4 * ramp[:, :, 0], 3 * ramp[:, :, 1], 255 - 2 * ramp[:, :, 0]]))


def test_png_and_jpeg_are_rgb(picture):
    np.testing.assert_array_equal(pictures.decode_png(png(picture), LIMITS), picture)
    decoded = pictures.decode_jpeg(jpeg(picture), LIMITS)
    assert np.abs(decoded.astype(int) - picture).mean() < 4


def test_a_grey_and_a_transparent_png_become_rgb(picture):
    grey = cv2.imencode(".png", picture[:, :, 0])[1].tobytes()
    np.testing.assert_array_equal(pictures.decode_png(grey, LIMITS), np.repeat(picture[:, :, :1], 3, axis=2))
    transparent = cv2.imencode(".png", np.dstack([picture[:, :, ::-1], picture[:, :, 0]]))[1].tobytes()
    np.testing.assert_array_equal(pictures.decode_png(transparent, LIMITS), picture)


def test_an_exif_rotation_is_not_applied_so_that_masks_fit(picture):
    exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"  # orientation 6
    data = jpeg(picture)
    turned = data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]
    assert cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR).shape == (64, 48, 3)
    assert pictures.decode_jpeg(turned, LIMITS).shape == picture.shape


def test_a_progressive_jpeg_is_read(picture):
    data = cv2.imencode(".jpg", picture[:, :, ::-1], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    assert pictures.decode_jpeg(data, LIMITS).shape == picture.shape


def raw(picture, pixel_format, stride=0):
    height, width = picture.shape[:2]
    rows = picture.reshape(len(picture), -1)
    if stride:
        rows = np.pad(rows, ((0, 0), (0, stride - rows.shape[1])), constant_values=99)
    return pb.RawImage(format=pixel_format, width=width, height=height, stride=stride, data=rows.tobytes())


@pytest.mark.parametrize("stride", [0, 64 * 3 + 5])
def test_raw_rgb_and_bgr(picture, stride):
    rgb = raw(picture, pb.PIXEL_FORMAT_RGB8, stride)
    bgr = raw(np.ascontiguousarray(picture[:, :, ::-1]), pb.PIXEL_FORMAT_BGR8, stride)
    for image in (rgb, bgr):
        np.testing.assert_array_equal(pictures.decode_raw(image, LIMITS), picture)


def test_raw_needs_no_padding_after_the_last_row(picture):
    image = raw(picture, pb.PIXEL_FORMAT_RGB8, 200)
    image.data = image.data[: 47 * 200 + 64 * 3]
    np.testing.assert_array_equal(pictures.decode_raw(image, LIMITS), picture)
    image.data = image.data[:-1]
    with pytest.raises(FrameUndecodable, match="64x48 PIXEL_FORMAT_RGB8"):
        pictures.decode_raw(image, LIMITS)


def test_raw_grey(picture):
    image = raw(picture[:, :, 0], pb.PIXEL_FORMAT_GRAY8)
    np.testing.assert_array_equal(pictures.decode_raw(image, LIMITS), np.repeat(picture[:, :, :1], 3, axis=2))


@pytest.mark.parametrize("stride", [0, 80])
def test_raw_nv12(picture, stride):
    planar = cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420)
    chroma = planar[48:].reshape(2, 24, 32)
    interleaved = np.dstack([chroma[0], chroma[1]]).reshape(24, 64)
    nv12 = np.concatenate([planar[:48], interleaved])
    image = raw(nv12, pb.PIXEL_FORMAT_NV12, stride)
    image.height = 48
    assert np.abs(pictures.decode_raw(image, LIMITS).astype(int) - picture).mean() < 6


def test_the_limit_is_inclusive():
    limits = Limits(max_width=64, max_height=48)
    assert pictures.decode_png(png(np.zeros((48, 64, 3), np.uint8)), limits).shape == (48, 64, 3)
    with pytest.raises(FrameTooLarge):
        pictures.decode_png(png(np.zeros((49, 64, 3), np.uint8)), limits)


def test_every_drop_reason_has_its_word_on_the_wire():
    for reason in DropReason:
        message = answer_codec.encode_answer(Dropped((1, 2), reason))
        assert pb.DropReason.Name(message.dropped.reason) == f"DROP_REASON_{reason.name}"

"""Masks and times on the wire and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from maskstream import wire
from maskstream.v1 import maskstream_pb2 as pb

ENCODINGS = [pb.MASK_ENCODING_LABEL_RUNS, pb.MASK_ENCODING_PNG, pb.MASK_ENCODING_RAW]
MASKS = arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)))


@given(MASKS, st.sampled_from(ENCODINGS))
def test_a_mask_comes_back_as_it_was(mask, encoding):
    np.testing.assert_array_equal(wire.mask_from_proto(wire.mask_to_proto(mask, encoding), 12, 12), mask)


def test_a_mask_larger_than_allowed_is_refused():
    message = wire.mask_to_proto(np.ones((4, 9), np.uint8), pb.MASK_ENCODING_RAW)
    with pytest.raises(ValueError, match=r"9x4 is outside 1x1\.\.8x8"):
        wire.mask_from_proto(message, 8, 8)


@given(st.integers(-(10**18), 10**18))
def test_a_duration_comes_back_as_it_was(nanos):
    message = wire.duration_from_nanos(nanos)
    assert wire.nanos_of(message) == nanos
    assert message.seconds * message.nanos >= 0


def test_seconds_are_kept_to_the_nanosecond():
    assert wire.seconds_of(wire.duration(1.25)) == 1.25
    assert wire.duration(-0.5).nanos == -500_000_000


def test_what_is_no_png_is_told():
    with pytest.raises(ValueError, match="not a PNG"):
        wire.read_png_header(b"\x89PNG\r\n\x1a\n")

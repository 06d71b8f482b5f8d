"""What may be given as a frame, and that it is the same pixels that a server sees."""

import numpy as np
import pytest
from PIL import Image
from served import picture, square

from maskstream.client import MaskStreamClient, Prompt
from maskstream.errors import InvalidFrame
from maskstream.frame_input import as_frame

COLOURS = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [10, 20, 30]]], np.uint8)


class Buffer:
    """A picture of some other library."""

    def __init__(self, pixels):
        self.pixels = pixels

    @property
    def __array_interface__(self):
        return self.pixels.__array_interface__


def test_an_array_is_left_as_it_is():
    assert as_frame(COLOURS) is COLOURS


def test_pixels_of_other_libraries_are_not_copied():
    assert np.shares_memory(as_frame(Buffer(COLOURS)), COLOURS)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_pil_images_become_rgb(mode):
    image = Image.fromarray(COLOURS)
    image = image.convert(mode) if mode != "P" else image.quantize(4)
    assert (as_frame(image) == COLOURS).all()


def test_a_grey_pil_image_becomes_rgb():
    grey = Image.fromarray(COLOURS[:, :, 0])
    assert (as_frame(grey) == COLOURS[:, :, :1]).all()
    assert as_frame(grey).shape == (2, 2, 3)


def test_what_has_no_8_bit_colours_is_refused():
    with pytest.raises(InvalidFrame, match="mode F"):
        as_frame(Image.new("F", (4, 4)))
    with pytest.raises(InvalidFrame, match="got str"):
        as_frame("frame.jpg")


def test_propagate_and_send_take_them(running, monkeypatch):
    seen = []
    encode_frame = running.networks.encode_frame
    monkeypatch.setattr(
        running.networks, "encode_frame", lambda frame: (seen.append(frame.copy()), encode_frame(frame))[1]
    )
    frame = picture(colour=(255, 128, 0))
    image = Image.fromarray(frame)
    with MaskStreamClient(running.server.listen) as client, client.open(image="png") as stream:
        answers = list(stream.propagate([image, (image, 2.5), Buffer(frame)], {0: [Prompt(1, square(16, 16))]}))
        stream.send(image)
        stream.close()
    assert [answer.pts for answer in answers] == [None, 2.5, None]
    assert len(seen) == 4
    assert all((arrived[0] == frame[0, 0]).all() for arrived in seen)
    with MaskStreamClient(running.server.listen) as client, client.open() as stream, pytest.raises(InvalidFrame):
        stream.send(Buffer(frame[:, :, 0]))

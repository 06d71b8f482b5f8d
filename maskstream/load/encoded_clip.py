"""The rendered clip as the wire carries it, made before a load begins: the client shares cores with the server."""

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from maskstream.client_messages import prompts_message
from maskstream.masks import object_ids
from maskstream.moving_shapes import Frame, render
from maskstream.tracker import Prompt
from maskstream.v1 import maskstream_pb2 as pb

CLIP_FRAMES = 16  # distinct frames, played to and fro
JPEG_QUALITY = 90


@dataclass(frozen=True)
class EncodedClip:
    """JPEGs to be played to and fro without a jump, and the prompts (masks) that belong to the first."""

    jpegs: tuple[bytes, ...]
    prompts: tuple[Prompt, ...]

    @cached_property
    def prompts_message(self) -> pb.SetObjects:
        """For the first frame."""
        return prompts_message(self.prompts)

    @property
    def period(self) -> int:
        """Frames until it begins anew."""
        return 2 * (len(self.jpegs) - 1)

    def jpeg(self, index: int) -> bytes:
        """The picture of the frame `index` of a stream."""
        last, place = len(self.jpegs) - 1, index % self.period
        return self.jpegs[place if place <= last else 2 * last - place]

    def message(self, index: int) -> pb.Frame:
        """The frame `index` of a stream; the first carries the prompts."""
        frame = pb.Frame(jpeg=self.jpeg(index))
        if index == 0:
            frame.prompts.CopyFrom(self.prompts_message)
        return frame

    def pixels(self, index: int) -> Frame:
        """What a server sees of it: uint8 [H, W, 3] RGB."""
        decoded = cv2.imdecode(np.frombuffer(self.jpeg(index), np.uint8), cv2.IMREAD_COLOR_RGB)
        assert decoded is not None, "a JPEG of our own"
        return decoded  # type: ignore[return-value]


def encoded_clip(size: tuple[int, int], objects: int) -> EncodedClip:
    """The clip at `size` (height, width) with so many objects; those that the first frame shows are prompted."""
    clip = render(CLIP_FRAMES, size, num_objects=objects)
    first = clip.id_maps[0]
    prompts = tuple(Prompt(object_id, first == object_id) for object_id in object_ids(first))
    return EncodedClip(tuple(_jpeg(frame) for frame in clip.frames), prompts)


def _jpeg(frame: Frame) -> bytes:
    flags = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    return cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), flags)[1].tobytes()

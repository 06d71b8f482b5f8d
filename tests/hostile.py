"""What the tests in serve/breaking send that no good client sends, and how they see what it left behind.

Networks whose answers depend on what a frame shows, so that a mix-up of streams cannot hide; damage to messages, by
field and by byte; a stub without protobuf; and the books of a server, which must balance after every attack.
"""

import asyncio
import os
import random
import time
from typing import Any

import cv2
import grpc
import numpy as np
import numpy.typing as npt
from fakes import FakeNetworks
from served import Running, eventually, jpeg, picture, png, prompt, square

from maskstream.networks import FrameFeatures, MemoryView, SoftMasks
from maskstream.v1 import maskstream_pb2 as pb

# The full number of cycles, mutations and steps instead of what fits into CI.
THOROUGH = "MASKSTREAM_THOROUGH" in os.environ

NAN_COLOUR = (1, 2, 3)  # a frame of this colour gives features that are not finite
FAILURE_COLOUR = (3, 2, 1)  # and this one raises, whatever it is in a batch with
PROPAGATE = "/maskstream.v1.MaskStreamService/Propagate"


class DeviceFault(RuntimeError):
    """What the networks raise on FAILURE_COLOUR."""


class ColourNetworks(FakeNetworks):
    """Follows objects by colour: every token reads from all slots what was stored for tokens of its colour.

    Each sample and each object is computed by itself, so its answer cannot depend on the company in a batch.
    """

    def __init__(self, delay_seconds: float = 0.0, seconds_per_object: float = 0.0) -> None:
        super().__init__(delay_seconds)
        self.seconds_per_object = seconds_per_object
        self.batches: list[int] = []  # sizes

    def encode_frame(self, frame_BHW3: npt.NDArray[np.uint8]) -> FrameFeatures:
        self.batches.append(len(frame_BHW3))
        if (frame_BHW3[:, 0, 0] == FAILURE_COLOUR).all(axis=1).any():
            raise DeviceFault("the device fell off")
        features = super().encode_frame(frame_BHW3)
        broken = (frame_BHW3[:, 0, 0] == NAN_COLOUR).all(axis=1)
        features.key[broken] = np.nan
        return features

    def segment(self, features: FrameFeatures, memory: MemoryView) -> SoftMasks:
        time.sleep(self.seconds_per_object * memory.value.shape[0] * memory.value.shape[1])
        h, w = features.key.shape[2:]
        soft = np.zeros((*memory.value.shape[:2], h, w), np.float32)
        for sample, query in enumerate(features.key.reshape(*features.key.shape[:2], -1)):
            weight = np.exp(40 * (np.einsum("ktn,kp->tnp", memory.key[sample], query) - 1))
            for row, valid in enumerate(memory.valid[sample]):
                trusted = weight * valid[:, None, None]
                mixed = (trusted * memory.value[sample, row, 0][:, :, None]).sum(axis=(0, 1))
                soft[sample, row] = (mixed / np.maximum(trusted.sum(axis=(0, 1)), 1e-9)).reshape(h, w)
        large = soft.repeat(4, axis=2).repeat(4, axis=3)
        return SoftMasks(large, large.copy())


def one_colour(colour: tuple[int, int, int], size: tuple[int, int] = (64, 96)) -> dict[str, bytes]:
    """A frame's payload."""
    return {"png": png(picture(size, colour))}


# ---- the books of a server ---------------------------------------------------------------------------------------


def books(running: Running) -> dict[str, Any]:
    """What a server holds for its streams; equal before and after whatever a client did."""
    service = running.server._service

    async def tasks() -> int:
        return len(asyncio.all_tasks())

    return {
        "streams": len(service.streams),
        "active": service.admission.active,
        "bank bytes": int(running.sample("memory_bank_bytes")),
        "scheduled": len(service.scheduler._streams),
        "ready": service.scheduler.ready_streams,
        "tasks": running.run(tasks()),
    }


def settled(running: Running) -> dict[str, Any]:
    """The books of a server without streams, once it has served one."""
    with_a_stream = running.stream()
    with_a_stream.frame(prompts=[prompt(1, square(16, 16))])
    with_a_stream.receive("result")
    with_a_stream.half_close()
    with_a_stream.rest()
    eventually(lambda: running.sample("streams_active") == 0)
    eventually(lambda: len({str(books(running)) for _ in range(3)}) == 1)
    return books(running)


def back_to(before: dict[str, Any], running: Running, seconds: float = 10.0) -> None:
    """Wait until the books are as they were, or fail with what is too much."""
    deadline = time.monotonic() + seconds
    while (now := books(running)) != before:
        assert time.monotonic() < deadline, f"before {before}, {seconds} s later {now}"
        time.sleep(0.01)


# ---- damage --------------------------------------------------------------------------------------------------------


def raw_stub(channel: grpc.Channel) -> Any:
    """Propagate with bytes for messages."""
    return channel.stream_stream(PROPAGATE, request_serializer=None, response_deserializer=None)


def healthy_requests() -> list[pb.PropagateRequest]:
    """One of each kind, the frames in all forms: what damage is done to."""
    frame = picture((32, 48))
    raw = pb.RawImage(format=pb.PIXEL_FORMAT_RGB8, width=48, height=32, data=frame.tobytes())
    nv12 = pb.RawImage(format=pb.PIXEL_FORMAT_NV12, width=48, height=32, stride=64, data=bytes(64 * 48))
    mask = square(16, 16, size=(32, 48))
    forms = [prompt(1, mask), pb.ObjectPrompt(object_id=2, mask=pb.Mask(width=48, height=32, raw=mask.tobytes()))]
    mask_png = cv2.imencode(".png", mask)[1].tobytes()
    forms.append(pb.ObjectPrompt(object_id=3, mask=pb.Mask(width=48, height=32, png=mask_png)))
    frames = [pb.Frame(jpeg=jpeg(frame)), pb.Frame(png=png(frame)), pb.Frame(raw=raw), pb.Frame(raw=nv12)]
    for item in frames:
        item.prompts.objects.extend(forms)
        item.capture_time.FromSeconds(1_700_000_000)
        item.pts.FromSeconds(3)
    boxed = pb.Frame(raw=raw, prompts=pb.SetObjects(objects=[pb.ObjectPrompt(object_id=4, box=pb.BoundingBox())]))
    others = [
        pb.PropagateRequest(set_objects=pb.SetObjects(objects=forms)),
        pb.PropagateRequest(remove_objects=pb.RemoveObjects(object_ids=[1, 2])),
        pb.PropagateRequest(reset=pb.Reset()),
        pb.PropagateRequest(credit=pb.Credit(results=3)),
        pb.PropagateRequest(snapshot=pb.Snapshot()),
        pb.PropagateRequest(open=healthy_open()),
    ]
    return [pb.PropagateRequest(frame=frame) for frame in (*frames, boxed)] + others


def healthy_open() -> pb.Open:
    """With every field filled in."""
    opened = pb.Open(session_id="me", delivery=pb.DELIVERY_POLICY_LATEST, max_in_flight=4, initial_credit=10)
    opened.max_frame_age.FromSeconds(5)
    opened.idle_timeout.FromSeconds(5)
    opened.output.per_object_stats = opened.output.timings = True
    opened.output.width, opened.output.height = 48, 32
    opened.memory.max_memory_frames = 4
    return opened


def damaged(message: Any, dice: random.Random) -> Any:
    """A copy in which one to four fields, at any depth, are gone, extreme, of another kind, or noise."""
    copy = type(message)()
    copy.CopyFrom(message)
    for _ in range(dice.randint(1, 4)):
        _damage(copy, dice)
    return copy


def _damage(message: Any, dice: random.Random) -> None:
    fields = list(message.DESCRIPTOR.fields)
    if not fields:
        return
    held = [field for field, _ in message.ListFields()]
    field = dice.choice(held if held and dice.random() < 0.8 else fields)
    value = getattr(message, field.name)
    is_message = field.message_type is not None
    if dice.random() < 0.15:
        message.ClearField(field.name)
    elif is_message and field.is_repeated:
        _damage(dice.choice(value) if value and dice.random() < 0.8 else value.add(), dice)
    elif is_message:
        value.SetInParent()  # of a oneof: another kind, empty
        _damage(value, dice)
    elif field.is_repeated:
        value.extend(_extreme(field, dice) for _ in range(dice.choice((1, 2, 500))))
    else:
        shake = isinstance(value, bytes) and value and dice.random() < 0.8
        setattr(message, field.name, shaken(value, dice) if shake else _extreme(field, dice))


def _extreme(field: Any, dice: random.Random) -> Any:
    """A value at or near the edge of what the field can hold."""
    if field.type == field.TYPE_BYTES:
        return dice.choice((b"", b"\x00", dice.randbytes(dice.randint(1, 400)), b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"))
    if field.type == field.TYPE_STRING:
        return dice.choice(("", "\x00", "../../etc", "%s{}", "x" * 5000, "\u202e\n\r"))
    if field.type == field.TYPE_BOOL:
        return dice.random() < 0.5
    if field.type in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
        return dice.choice((0.0, -1.0, float("nan"), float("inf")))
    bits = 31 if field.type in (field.TYPE_INT32, field.TYPE_ENUM) else 32 if field.type == field.TYPE_UINT32 else 63
    lowest = -(2**bits) if field.type in (field.TYPE_INT32, field.TYPE_INT64, field.TYPE_ENUM) else 0
    highest = 2**bits - 1
    values = (0, 1, 2, 47, 48, 49, 255, 256, 4096, 4097, lowest, highest, highest - 1, dice.randint(lowest, highest))
    return max(lowest, min(highest, dice.choice(values)))


def shaken(data: bytes, dice: random.Random) -> bytes:
    """Bytes with flips, cuts, repetitions and noise."""
    changed = bytearray(data)
    for _ in range(dice.randint(1, 4)):
        at, length = dice.randrange(len(changed) + 1), dice.choice((1, 2, 4, 16, 200))
        match dice.randrange(5):
            case 0 if at < len(changed):
                changed[at] ^= 1 << dice.randrange(8)
            case 1:
                changed[at : at + length] = dice.randbytes(min(length, len(changed) - at))
            case 2:
                del changed[at : at + length]
            case 3:
                changed[at:at] = changed[at : at + length]
            case _:
                changed[at : at + length] = dice.choice((b"\xff", b"\x00", b"\x7f")) * length
    return bytes(changed)

"""Small things that grow: pictures, masks and lists that cost far more than their bytes.

Each is sent to a server process whose peak memory and answer time are measured, while another stream sees how long its
own frames take. What is refused must be refused by what it claims, before it is believed.
"""

import struct
import threading
import time
import zlib

import cv2
import grpc
import numpy as np
import pytest
from hostile import one_colour
from process_server import MIB, process_server
from served import WireStream, jpeg, picture, prompt, square

from maskstream import wire
from maskstream.v1 import maskstream_pb2 as pb
from maskstream.v1 import maskstream_pb2_grpc as pb_grpc

A = square(16, 16)
MOST_SECONDS = 5.0  # for one bomb, on a busy machine
MOST_BYTES = 400 * MIB  # of growth: a request of 32 MiB is held a few times on its way, a 4096x2304 frame is 27 MiB
MOST_WAIT_SECONDS = 1.5  # of another stream's frame meanwhile


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of(width, height, *, depth=8, colour=2, interlaced=0, before=b"", data=None, after=b""):
    """A PNG of zeros; `data` is what its pixels are compressed to."""
    samples = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    if data is None:
        passes = adam7(width, height) if interlaced else [(width, height)]
        data = zlib.compress(b"".join(bytes((w * samples * depth + 7) // 8 + 1) * h for w, h in passes))
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    return wire.PNG_SIGNATURE + chunk(b"IHDR", header) + before + chunk(b"IDAT", data) + after + chunk(b"IEND", b"")


def adam7(width, height):
    """Sizes of the seven passes of an interlaced PNG."""
    for x, y, dx, dy in (
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    ):
        size = (width - x + dx - 1) // dx, (height - y + dy - 1) // dy
        if all(size):
            yield size


def zeros_compressed(num_bytes):
    pack = zlib.compressobj(1)
    block = bytes(MIB)
    return b"".join([pack.compress(block) for _ in range(num_bytes // MIB)] + [pack.flush()])


def jpeg_claiming(width, height):
    data = bytearray(jpeg(picture()))
    at = data.find(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def jpeg_read_in_two_ways(side):
    """A marker without a length, which a careless reader skips by one: it then finds a small picture far behind.

    The decoder goes on right after the marker and finds `side` x `side` pixels.
    """
    body = jpeg_claiming(side, side)[2:]
    skipped = 4 + struct.unpack(">H", body[:2])[0]
    small = b"\xff\xc0" + struct.pack(">HBHHB", 17, 8, 64, 64, 3) + bytes((1, 0x22, 0, 2, 0x11, 1, 3, 0x11, 1))
    return (b"\xff\xd8\xff\x01" + body).ljust(skipped, b"\0") + small + b"\xff\xd9"


def jpeg_of_many_scans(count):
    """A progressive JPEG at the largest size, one of whose scans, 23 bytes of it, is there `count` times."""
    data = cv2.imencode(".jpg", np.zeros((2304, 4096, 3), np.uint8), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * count + b"\xff\xd9"


def frame_of(**payload):
    return {"frame": pb.Frame(**payload)}


def masked(**mask):
    prompts = pb.SetObjects(objects=[pb.ObjectPrompt(object_id=1, mask=pb.Mask(width=4096, height=2304, **mask))])
    return {"set_objects": prompts}


def runs_of_one_pixel():
    return masked(label_runs=pb.LabelRuns(values=b"\x01" * (4096 * 2304), lengths=[1] * (4096 * 2304)))


def claimed_runs():
    runs = pb.LabelRuns(values=b"\x01" * 40, lengths=[2**32 - 1] * 40)
    return {"set_objects": pb.SetObjects(objects=[_mask_of(1, 2**32 - 1, 2**32 - 1, runs)])}


def _mask_of(object_id, width, height, runs):
    return pb.ObjectPrompt(object_id=object_id, mask=pb.Mask(width=width, height=height, label_runs=runs))


def prompts_for_all_ids():
    """255 objects of 9 MiB each from a few bytes each: far more than any stream may follow."""
    runs = pb.LabelRuns(values=b"\x01", lengths=[4096 * 2304])
    return {"set_objects": pb.SetObjects(objects=[_mask_of(i, 4096, 2304, runs) for i in range(1, 256)])}


def a_million_prompts():
    box = pb.BoundingBox(x=1, y=1, width=9, height=9)
    one = pb.SetObjects(objects=[pb.ObjectPrompt(object_id=1, box=box)]).SerializeToString()
    return {"set_objects": pb.SetObjects.FromString(one * 1_000_000)}


def ten_million_removals():
    return {"remove_objects": pb.RemoveObjects(object_ids=np.ones(10_000_000, np.uint32))}


EXIF = b"MM\x00\x2a" + bytes(20 * MIB)
BOMBS = {
    "PNG header of gigapixels": lambda: frame_of(png=png_of(2**31 - 1, 2**31 - 1, data=zlib.compress(b"0"))),
    "PNG of 20000x20000": lambda: frame_of(png=png_of(20_000, 20_000, colour=0, data=zeros_compressed(400 * MIB))),
    "PNG as large as allowed, 16 bit, interlaced": lambda: frame_of(
        png=png_of(4096, 2304, depth=16, colour=6, interlaced=1)
    ),
    "PNG with 20 MiB of EXIF": lambda: frame_of(png=png_of(64, 64, before=chunk(b"eXIf", EXIF))),
    "PNG with text that unpacks to 300 MiB": lambda: frame_of(
        png=png_of(64, 64, before=chunk(b"zTXt", b"k\0\0" + zeros_compressed(300 * MIB)))
    ),
    "PNG with a million chunks": lambda: frame_of(png=png_of(64, 64, before=chunk(b"tEXt", b"k\0v") * 1_000_000)),
    "PNG with 256 MiB behind its last row": lambda: frame_of(
        png=png_of(64, 64, data=zeros_compressed(2**28))
    ),
    "JPEG header of 65500x65500": lambda: frame_of(jpeg=jpeg_claiming(65_500, 65_500)),
    "JPEG that is read in two ways": lambda: frame_of(jpeg=jpeg_read_in_two_ways(12_000)),
    "JPEG of 2000 scans": lambda: frame_of(jpeg=jpeg_of_many_scans(2000)),
    "raw frame of gigapixels": lambda: frame_of(
        raw=pb.RawImage(format=pb.PIXEL_FORMAT_GRAY8, width=2**31, height=2**31, stride=2**32 - 1, data=b"x")
    ),
    "runs of 2^32 pixels": claimed_runs,
    "nine million runs": runs_of_one_pixel,
    "mask PNG of gigapixels": lambda: masked(png=png_of(2**31 - 1, 2**31 - 1, colour=0, data=zlib.compress(b"0"))),
    "prompts for all ids": prompts_for_all_ids,
    "a million prompts": a_million_prompts,
    "ten million removals": ten_million_removals,
}  # fmt: skip


# Large but honest, or harmless in what they carry besides the picture.
TAKEN = {
    "PNG as large as allowed, 16 bit, interlaced",
    "PNG with text that unpacks to 300 MiB",
    "PNG with a million chunks",
    "nine million runs",
}


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    with process_server(tmp_path_factory.mktemp("bombs")) as server:
        yield server


class Watcher:
    """A stream that goes on beside, and the longest that it waited for an answer."""

    def __init__(self, stub):
        self._stream, self._over = WireStream(stub), threading.Event()
        self.longest = 0.0
        self._thread = threading.Thread(target=self._run)
        self._stream.frame(prompts=[prompt(1, A)])
        self._stream.receive("result")

    def _run(self):
        while not self._over.is_set():
            since = time.perf_counter()
            self._stream.frame()
            self._stream.receive("result")
            self.longest = max(self.longest, time.perf_counter() - since)
            time.sleep(0.01)
        self._stream.half_close()
        self._stream.rest()

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()


@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_costs_little_time_and_memory_and_its_stream_goes_on(target, name):
    bomb = BOMBS[name]()
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(target.listen, options) as channel:
        stub = pb_grpc.MaskStreamServiceStub(channel)
        stream = WireStream(stub)
        with Watcher(stub) as watcher:
            before = target.rss_bytes
            target.forget_peak()
            since = time.perf_counter()
            stream.send(**bomb)
            answer = stream.receive()
            seconds, grown = time.perf_counter() - since, target.peak_bytes - before
        stream.send(reset=pb.Reset())
        assert stream.receive("ack")
        stream.frame(image=one_colour((1, 99, 1)), prompts=[prompt(1, A)])
        assert stream.receive("result")
    figures = f"{seconds:.2f} s, {grown / MIB:.0f} MiB, others waited {watcher.longest:.2f} s"
    print(f"{name}: {figures}: {str(answer)[:150]!r}")
    assert seconds < MOST_SECONDS
    assert grown < MOST_BYTES
    assert watcher.longest < MOST_WAIT_SECONDS
    assert answer.WhichOneof("kind") == "error" or name in TAKEN
    assert answer.error.reason != "NO_OBJECTS" or name in TAKEN  # which is said of a frame that was decoded

"""Clients that no good client is like, run beside a load to see that they harm nobody else. Rates are low on purpose:
they share cores with the server, and what they try is to be unpleasant, not to be many.

    slow_reader   takes one answer every few seconds
    stalled       sends frames, then neither sends nor reads
    garbage       bytes that are no message, pictures that are none, prompts that fit nothing
    canceller     opens, sends, cancels, at once again
    bomb          small pictures that claim gigabytes, and messages over the limit

Good frames of theirs take a turn of the engine as any stream's do.
"""

import struct
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import grpc

from maskstream.load.encoded_clip import EncodedClip
from maskstream.v1 import maskstream_pb2 as pb

PROPAGATE = "/maskstream.v1.MaskStreamService/Propagate"
_PERIOD_SECONDS = 0.1  # between two requests
_SLOW_SECONDS = 3.0  # between two answers that a slow reader takes
_PAUSE_SECONDS = 0.05  # between two streams of a canceller
_BOMB_SIDE = 30_000  # pixels
_TOO_MANY_BYTES = 40 * 2**20  # more than a server takes unless told otherwise


class HostileClient:
    """One of the kinds above, on a thread of its own from `start` until `stop`."""

    def __init__(self, kind: str, channel: grpc.Channel, clip: EncodedClip) -> None:
        self.kind, self.streams, self.ends = kind, 0, Counter[str]()  # streams tried, and what ended them
        self._behave = KINDS[kind]
        self._clip = clip
        # Without protobuf on the way out, since some of what is sent is no message.
        self._propagate: Any = channel.stream_stream(
            PROPAGATE, request_serializer=None, response_deserializer=pb.PropagateResponse.FromString
        )
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"hostile-{kind}", daemon=True)
        self._rpc: Any = None

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, the present stream too."""
        self._stopping.set()
        if self._rpc is not None:
            self._rpc.cancel()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.streams += 1
            try:
                self._behave(self)
                end = "DONE"
            except grpc.RpcError as error:
                end = error.code().name
            if not self._stopping.is_set():
                self.ends[end] += 1
            self._stopping.wait(_PAUSE_SECONDS)

    def call(self, requests: Iterator[bytes]) -> Any:
        """A new RPC that sends these bytes."""
        self._rpc = self._propagate(requests)
        return self._rpc

    def pause(self, seconds: float) -> bool:
        """Wait; False when it is time to stop."""
        return not self._stopping.wait(seconds)

    def frames(self, most: int) -> Iterator[bytes]:
        """Open, then good frames at a low rate."""
        yield _opened()
        for index in range(most):
            if not self.pause(_PERIOD_SECONDS):
                return
            yield _frame(index, self._clip.message(index))

    def idle_after(self, requests: Iterator[bytes]) -> Iterator[bytes]:
        """These, then nothing, without closing."""
        yield from requests
        self._stopping.wait()


def _opened() -> bytes:
    return pb.PropagateRequest(seq=1, open=pb.Open(delivery=pb.DELIVERY_POLICY_LATEST)).SerializeToString()


def _frame(index: int, frame: pb.Frame) -> bytes:
    return pb.PropagateRequest(seq=index + 2, frame=frame).SerializeToString()


def _slow_reader(client: HostileClient) -> None:
    for _ in client.call(client.frames(10**6)):
        if not client.pause(_SLOW_SECONDS):
            return


def _stalled(client: HostileClient) -> None:
    rpc = client.call(client.idle_after(client.frames(20)))
    while rpc.is_active() and client.pause(1.0):
        pass
    if not rpc.is_active():
        list(rpc)  # raises what ended it


def _garbage(client: HostileClient) -> None:
    list(client.call(_garbage_requests(client)))


def _garbage_requests(client: HostileClient) -> Iterator[bytes]:
    nonsense = struct.pack(">64Q", *(7919 * i % 2**64 for i in range(64)))
    misfit = pb.SetObjects(
        objects=[pb.ObjectPrompt(object_id=300), pb.ObjectPrompt(object_id=1, mask=pb.Mask(width=9))]
    )
    frames = (
        pb.Frame(jpeg=nonsense),
        pb.Frame(jpeg=client._clip.jpeg(0)[:500], prompts=misfit),
        pb.Frame(png=b"\x89PNG\r\n\x1a\n" + nonsense),
        pb.Frame(raw=pb.RawImage(format=pb.PIXEL_FORMAT_NV12, width=7, height=2**31, data=nonsense)),
        pb.Frame(),
    )
    yield _opened()
    for index, frame in enumerate(frames):
        yield _frame(index, frame)
        yield _frame(0, frame)  # out of order
        client.pause(_PERIOD_SECONDS)
    yield nonsense


def _canceller(client: HostileClient) -> None:
    rpc = client.call(client.frames(3))
    next(rpc)
    client.pause(2 * _PERIOD_SECONDS)
    rpc.cancel()
    time.sleep(_PAUSE_SECONDS)


def _bomb(client: HostileClient) -> None:
    list(client.call(_bomb_requests(client)))


def _bomb_requests(client: HostileClient) -> Iterator[bytes]:
    yield _opened()
    for index in range(10):
        yield _frame(index, pb.Frame(png=png_bomb()))
        if not client.pause(5 * _PERIOD_SECONDS):
            return
    yield _frame(10, pb.Frame(jpeg=bytes(_TOO_MANY_BYTES)))


@cache
def png_bomb(side: int = _BOMB_SIDE) -> bytes:
    """A valid black PNG of side x side pixels: about 110 KB for 900 million pixels."""
    row, squeeze = bytes(1 + (side + 7) // 8), zlib.compressobj(9)
    body = b"".join(squeeze.compress(row) for _ in range(side)) + squeeze.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


KINDS: dict[str, Callable[[HostileClient], None]] = {
    "slow_reader": _slow_reader,
    "stalled": _stalled,
    "garbage": _garbage,
    "canceller": _canceller,
    "bomb": _bomb,
}

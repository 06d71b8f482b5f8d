"""A browser that is none: it opens the page's WebSocket and says what it is told, right or wrong."""

import json
import urllib.error
import urllib.request
from typing import Any, NamedTuple

import numpy as np
from served import TIMEOUT, picture, png
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from maskstream import masks

OPEN = {"type": "open", "token": None, "delivery": "lossless", "max_in_flight": 0, "session_id": ""}


class Result(NamedTuple):
    header: dict[str, Any]
    id_map: np.ndarray


class FakeBrowser:
    """One WebSocket of the page."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket, self.seq = socket, 0

    def open(self, **options: Any) -> dict[str, Any]:
        self.say(**{**OPEN, **options})
        return self.hear()

    def say(self, **fields: Any) -> None:
        self.socket.send(json.dumps(fields))

    def request(self, kind: str, **fields: Any) -> int:
        self.seq += 1
        self.say(type=kind, seq=self.seq, **fields)
        return self.seq

    def frame(self, data: bytes | None = None, **fields: Any) -> int:
        self.seq += 1
        header = {"type": "frame", "seq": self.seq, "image": "png", "pts": None, "prompts": [], **fields}
        self.socket.send(packed(header, png(picture()) if data is None else data))
        return self.seq

    def hear(self) -> dict[str, Any]:
        """The next text."""
        message = self.socket.recv(TIMEOUT)
        assert isinstance(message, str), message[:200]
        return json.loads(message)

    def result(self) -> Result:
        message = self.socket.recv(TIMEOUT)
        assert isinstance(message, bytes), message
        return unpacked(message)


def closed_after(browser: FakeBrowser) -> tuple[list[Any], int | None]:
    """What is heard to the end, and the code of the end."""
    heard: list[Any] = []
    while True:
        try:
            message = browser.socket.recv(TIMEOUT)
        except ConnectionClosed as end:
            return heard, end.rcvd and end.rcvd.code
        heard.append(json.loads(message) if isinstance(message, str) else message)


def packed(header: dict[str, Any], payload: bytes) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(4, "little") + text + payload


def unpacked(message: bytes) -> Result:
    start = 4 + int.from_bytes(message[:4], "little")
    header = json.loads(message[4:start])
    runs, size = header["runs"], (header["height"], header["width"])
    lengths_at = start + runs + -runs % 4
    assert len(message) == lengths_at + 4 * runs
    values = np.frombuffer(message, np.uint8, runs, start)
    lengths = np.frombuffer(message, "<u4", runs, lengths_at)
    return Result(header, masks.decode_runs(values, lengths.tolist(), size))


def mask_prompt(object_id: int, mask: np.ndarray) -> dict[str, Any]:
    values, lengths = masks.encode_runs(mask)
    height, width = mask.shape
    runs = {"width": width, "height": height, "lengths": lengths.tolist(), "values": values.tolist()}
    return {"id": object_id, "mask": runs}


def ask(address: str, path: str, method: str = "GET", **headers: str) -> tuple[int, Any, bytes]:
    """Status, headers and body."""
    request = urllib.request.Request(f"http://{address}{path}", method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()

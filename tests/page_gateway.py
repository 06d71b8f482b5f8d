"""The gateway as the page sees it, played from a script: it can be full, ask for a token, go away, or lose the line.

It follows nothing: an object stays where it was prompted. So every mask is known by hand, and the page's own part can
be tested in seconds, also where a real server would have to be brought into a state that it seldom has.
"""

import asyncio
import json
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import uvicorn
from process_server import ROOT
from served import eventually, jpeg
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect

PAGE = ROOT / "serve" / "web" / "static"
POLICY = (
    "default-src 'self'; img-src 'self' blob:; media-src 'self' blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
HEIGHT, WIDTH = 120, 160
CLIP_FRAMES = 6
POINT_REACH = 8  # pixels around a click that belong to it
STAGES = ("queue", "decode", "resize", "encode_frame", "segment", "encode_mask", "finish", "encode")

Mask = npt.NDArray[np.uint8]


def clip_picture(index: int) -> npt.NDArray[np.uint8]:
    """A grey ramp that grows brighter with every frame."""
    ramp = np.linspace(40, 160, WIDTH, dtype=np.uint8)[None, :, None] + np.uint8(8 * index)
    return np.broadcast_to(ramp, (HEIGHT, WIDTH, 3)).copy()


def mask_of_prompt(prompt: dict[str, Any], height: int, width: int) -> Mask:
    """uint8 [H, W] of 0 and 1: the box filled, squares around clicks, or the painted region."""
    mask = np.zeros((height, width), np.uint8)
    if "box" in prompt:
        x, y, w, h = prompt["box"]
        mask[y : y + h, x : x + w] = 1
    elif "mask" in prompt:
        return mask_of_runs(prompt["mask"]["values"], prompt["mask"]["lengths"], height, width)
    else:
        for value, points in ((1, prompt["on"]), (0, prompt["off"])):
            for x, y in points:
                mask[max(0, y - POINT_REACH) : y + POINT_REACH, max(0, x - POINT_REACH) : x + POINT_REACH] = value
    return mask


def mask_of_runs(values: list[int], lengths: list[int], height: int, width: int) -> Mask:
    """uint8 [H, W] from row-major runs."""
    return np.repeat(np.array(values, np.uint8), lengths).reshape(height, width)


@dataclass
class Script:
    """What the gateway does, and what it was told."""

    token: str | None = None
    full: int = 0  # times that there is no place
    retry_seconds: float = 1.0
    lose_after: int | None = None  # results, after which the line is cut once
    drain_after: int | None = None  # results, after which the server goes away once
    refuse_prompts: int = 0  # frames with prompts answered with an error
    held: bool = False  # while it is, nothing is answered
    openings: list[dict[str, Any]] = field(default_factory=list)
    received: list[dict[str, Any]] = field(default_factory=list)
    arrived: int = 0  # frames, answered or not

    def prompts(self) -> list[list[dict[str, Any]]]:
        """Of every frame that had any."""
        return [header["prompts"] for header in self.received if header.get("prompts")]


class ScriptedStream:
    """One WebSocket."""

    def __init__(self, script: Script, socket: WebSocket) -> None:
        self.script, self.socket = script, socket
        self.regions: dict[int, Mask] = {}
        self.results = 0
        self.arrivals: asyncio.Queue[Any] = asyncio.Queue()

    async def run(self) -> None:
        await self.socket.accept(subprotocol="maskstream.v1")
        opening = json.loads(await self.socket.receive_text())
        self.script.openings.append(opening)
        if refusal := self._refusal(opening):
            await self.socket.send_json({"type": "ended", **refusal})
            return
        await self.socket.send_json(OPENED)
        reading = asyncio.create_task(self._read())
        try:
            while await self._answer(await self.arrivals.get()):
                pass
        finally:
            reading.cancel()

    async def _read(self) -> None:
        message: Any = {"type": ""}
        while message["type"] != "websocket.disconnect":
            message = await self.socket.receive()
            self.script.arrived += bool(message.get("bytes"))
            self.arrivals.put_nowait(message)

    def _refusal(self, opening: dict[str, Any]) -> dict[str, Any] | None:
        if self.script.token != opening["token"]:
            text = "a token is needed"
            return {"code": "UNAUTHENTICATED", "reason": "TOKEN_INVALID", "message": text, "retry_seconds": None}
        if self.script.full == 0:
            return None
        self.script.full -= 1
        seconds = self.script.retry_seconds
        text = "all places are taken"
        return {"code": "UNAVAILABLE", "reason": "SERVER_FULL", "message": text, "retry_seconds": seconds}

    async def _answer(self, message: Any) -> bool:
        """Whether the stream goes on."""
        if message["type"] == "websocket.disconnect":
            return False
        if message.get("text"):
            return await self._control(json.loads(message["text"]))
        data = message["bytes"]
        size = int.from_bytes(data[:4], "little")
        header = json.loads(data[4 : 4 + size])
        self.script.received.append(header)
        picture = cv2.imdecode(np.frombuffer(data[4 + size :], np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None
        while self.script.held:  # noqa: ASYNC110  the flag is another thread's
            await asyncio.sleep(0.01)
        return await self._frame(header, picture.shape[0], picture.shape[1])

    async def _control(self, request: dict[str, Any]) -> bool:
        self.script.received.append(request)
        if request["type"] == "close":
            await self.socket.send_json({"type": "closed", "answered": self.results, "dropped": 0, "refused": 0})
            await self.socket.close()
            return False
        for object_id in request.get("ids", ()):
            self.regions.pop(object_id, None)
        await self.socket.send_json({"type": "ack", "seq": request["seq"]})
        return True

    async def _frame(self, header: dict[str, Any], height: int, width: int) -> bool:
        if header["prompts"] and self.script.refuse_prompts:
            self.script.refuse_prompts -= 1
            error = {"type": "frame_error", "seq": header["seq"], "reason": "EMPTY_PROMPT", "message": "nothing there"}
            await self.socket.send_json(error)
            return True
        for prompt in header["prompts"]:
            self.regions[prompt["id"]] = mask_of_prompt(prompt, height, width)
        for found in range(header.get("auto", 0)):
            box = [10 + 40 * found, 10, 20, 20]
            self.regions[1 + found] = mask_of_prompt({"box": box}, height, width)
        await self.socket.send_bytes(self._result(header, height, width))
        self.results += 1
        return await self._after_result()

    async def _after_result(self) -> bool:
        if self.script.lose_after == self.results:
            self.script.lose_after = None
            await self.socket.close(1011)
            return False
        if self.script.drain_after == self.results:
            self.script.drain_after = None
            await self.socket.send_json({"type": "draining", "seconds": 5})
        return True

    def _result(self, request: dict[str, Any], height: int, width: int) -> bytes:
        id_map = np.zeros((height, width), np.uint8)
        for object_id, mask in self.regions.items():
            id_map[mask != 0] = object_id
        flat = id_map.ravel().astype(np.int16)
        starts = np.flatnonzero(np.diff(flat, prepend=-1))
        lengths = np.diff(starts, append=flat.size).astype("<u4")
        values = flat[starts].astype(np.uint8).tobytes()
        header = {
            "type": "result", "seq": request["seq"], "pts": request["pts"], "width": width, "height": height,
            "runs": len(starts), "objects": [stat(i, id_map == i) for i in sorted(self.regions)],
            "timings": {**dict.fromkeys(STAGES, 0.004), "total": 0.032},
            "memory_frames": min(5, 1 + self.results), "dropped_since_last": 0, "batch_size": 1,
        }  # fmt: skip
        text = json.dumps(header).encode()
        return struct.pack("<I", len(text)) + text + values + bytes(-len(values) % 4) + lengths.tobytes()


def stat(object_id: int, mask: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """What the server says of an object."""
    facts = {"id": object_id, "score": 0.9, "visible": 0.9, "area": int(mask.sum()), "lost": not mask.any()}
    if not mask.any():
        return {**facts, "box": None}
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    x, y = int(columns[0]), int(rows[0])
    return {**facts, "box": [x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1]}


LIMITS = {
    "max_width": 4096, "max_height": 2304, "max_objects": 20, "max_message_bytes": 2**25, "max_in_flight": 8,
    "max_streams_per_client": 2, "max_prompts_per_second": 20,
}  # fmt: skip
OPENED = {
    "type": "opened", "session_id": "s", "model": "scripted", "model_version": "0123456789abcdef", "max_in_flight": 8,
    "max_memory_frames": 5, "memory_every": 5, "idle_timeout": 60.0, "limits": LIMITS,
}  # fmt: skip


def application(script: Script) -> Starlette:
    """Page, clip and stream."""

    async def page(_: Request) -> Response:
        return FileResponse(PAGE / "index.html", headers={"content-security-policy": POLICY})

    async def clip(_: Request) -> Response:
        return JSONResponse({"frames": CLIP_FRAMES, "fps": 24, "width": WIDTH, "height": HEIGHT, "objects": [1]})

    async def clip_frame(request: Request) -> Response:
        return Response(jpeg(clip_picture(request.path_params["index"])), media_type="image/jpeg")

    async def stream(socket: WebSocket) -> None:
        with suppress(WebSocketDisconnect):
            await ScriptedStream(script, socket).run()

    return Starlette(
        routes=[
            Route("/", page),
            Mount("/static", StaticFiles(directory=PAGE)),
            Route("/v1/clip", clip),
            Route("/v1/clip/{index:int}.jpg", clip_frame),
            WebSocketRoute("/v1/stream", stream),
        ]
    )


@contextmanager
def scripted_gateway(script: Script) -> Iterator[str]:
    """Runs it on a free port; yields the page's address."""
    config = uvicorn.Config(application(script), port=0, log_level="error", ws="websockets-sansio", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    eventually(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.should_exit = server.force_exit = True
        thread.join(10)

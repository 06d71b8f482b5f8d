"""What the page's port answers: the page and its files, the clip, the stream, and the probes and metrics as ever.

Every answer says what a browser may do with it: nothing from elsewhere is loaded, no script stands in the page itself,
and no other site can frame it.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from prometheus_client.exposition import gzip_accepted
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from maskstream.v1 import maskstream_pb2 as pb
from serve.http_endpoint import Answers
from serve.service import Service
from serve.web import browser_codec
from serve.web.clip import BundledClip
from serve.web.files import File
from serve.web.gateway import Gateway
from serve.web.upstream import Upstream

INFO_SECONDS = 2.0  # for the server's event loop to say something about itself

HEADERS = {
    "content-security-policy": (
        "default-src 'self'; img-src 'self' blob:; media-src 'self' blob:; object-src 'none'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
_CLIP_CACHE = {"cache-control": "private, max-age=3600"}
_KEEP_NOTHING = {"cache-control": "no-store"}


def build_application(
    answers: Answers, gateway: Gateway, service: Service, upstream: Upstream, files: Mapping[str, File]
) -> ASGIApp:
    """The whole of the port. `answers` has the probes and the metrics."""
    endpoints = _Endpoints(answers, service, upstream, files)
    routes = [
        Route("/", endpoints.page),
        Route("/static/{name:path}", endpoints.file),
        Route("/v1/info", endpoints.info),
        Route("/v1/clip", endpoints.clip_facts),
        Route("/v1/clip/{index:int}.jpg", endpoints.clip_frame),
        Route("/v1/clip/masks/0.png", endpoints.clip_mask),
        WebSocketRoute("/v1/stream", gateway.serve),
        Route("/{path:path}", endpoints.plain),
    ]
    return _WithHeaders(Starlette(routes=routes))


class _Endpoints:
    def __init__(self, answers: Answers, service: Service, upstream: Upstream, files: Mapping[str, File]) -> None:
        self._answers, self._service, self._upstream, self._files = answers, service, upstream, files
        self._clip = BundledClip()

    async def page(self, request: Request) -> Response:
        file = self._files.get("index.html")
        return await self.plain(request) if file is None else file.respond(request)

    async def file(self, request: Request) -> Response:
        file = self._files.get(request.path_params["name"])
        return await self.plain(request) if file is None else file.respond(request)

    async def info(self, _: Request) -> Response:
        asked: Any = self._service.GetServerInfo(pb.GetServerInfoRequest(), None)  # type: ignore[arg-type]
        try:
            async with asyncio.timeout(INFO_SECONDS):
                info = await self._upstream.on_server(asked)
        except TimeoutError:
            return Response("the server is busy\n", 503, _KEEP_NOTHING, "text/plain")
        token_required = self._service.tokens is not None
        return JSONResponse(browser_codec.server_info(info, token_required), headers=_KEEP_NOTHING)

    async def clip_facts(self, _: Request) -> Response:
        return JSONResponse(self._clip.facts(), headers=_CLIP_CACHE)

    async def clip_frame(self, request: Request) -> Response:
        jpeg = await asyncio.to_thread(self._clip.frame, request.path_params["index"])
        if jpeg is None:
            return Response("the clip has no such frame\n", 404, media_type="text/plain")
        return Response(jpeg, headers=_CLIP_CACHE, media_type="image/jpeg")

    async def clip_mask(self, _: Request) -> Response:
        png = await asyncio.to_thread(self._clip.first_mask)
        return Response(png, headers=_CLIP_CACHE, media_type="image/png")

    async def plain(self, request: Request) -> Response:
        """Probes and metrics, and what is not there."""
        gzipped = gzip_accepted(request.headers.get("accept-encoding", ""))
        status, headers, body = self._answers.answer(request.url.path, gzipped)
        return Response(body, status, {**headers, **_KEEP_NOTHING})


class _WithHeaders:
    """HEADERS on every answer, whoever makes it."""

    def __init__(self, application: ASGIApp) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", ()), *added]}
            await send(message)

        await self._application(scope, receive, send_with_headers)

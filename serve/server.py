"""A server and its life: listen, warm up, serve, swap the model, drain, stop.

`build_server` needs networks alone, so a test serves a fake in milliseconds.
"""

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import CollectorRegistry

from maskstream.networks import Networks
from maskstream.v1 import maskstream_pb2_grpc as pb_grpc
from serve.admission import Phase
from serve.bank import secure
from serve.config import ServeConfig
from serve.engine_watch import EngineWatch
from serve.http_endpoint import Answers, HttpEndpoint, split_address
from serve.listener import bind, build_listener
from serve.metrics import Metrics
from serve.model import Load, Model, identity_of
from serve.service import SERVICE_NAME, Service
from serve.tokens import TokenInterceptor
from serve.tracing import build_tracing
from serve.warm_up import warm_up
from serve.web.wanted import why_no_page

if TYPE_CHECKING:
    from serve.web.page import Page

log = logging.getLogger(__name__)

TRACES_SECONDS = 2.0  # for the collector to take what is left
DRAIN_MARGIN = 0.2  # share of the grace period kept for closing the streams that did not leave by themselves


class Server:
    """A server and its life. `listen` and `http` are the real HOST:PORT once it has started."""

    def __init__(self, model: Model, config: ServeConfig, metrics: Metrics, load: Load | None = None) -> None:
        """`load` gives the model anew when a swap is asked for; None: this server keeps the one it has."""
        self.listen, self.http = config.listen, config.http
        self._config, self._metrics, self._load = config, metrics, load
        self._tracing = build_tracing(config.tracing, model.identity)
        self._service = Service(model, config, metrics, self._tracing)
        self._health = health.aio.HealthServicer()
        self._watch = EngineWatch(self._service, config, metrics, self._set_health)
        self._swapping = asyncio.Lock()
        self._http: HttpEndpoint | Page
        self._page: Page | None = None
        self._grpc: grpc.aio.Server
        self._ticker: asyncio.Task[None]
        metrics.set_identity(model.identity)
        self._bind_gauges()

    @property
    def model(self) -> Model:
        """What new streams get."""
        return self._service.model

    async def start(self) -> None:
        """Listen, warm the engine up, then become ready. Raises OSError for an address that cannot be had."""
        self._http = self._build_http()
        try:
            self._http.start()
            self.http = _with_port(self.http, self._http.port)
            self._grpc = self._build_grpc()
            self.listen = _with_port(self.listen, bind(self._grpc, self.listen, self._config.tls))
            if self._page:
                self._page.bind(self._grpc)
        except Exception:
            await self._stop_http()
            raise
        await self._set_health(serving=False)
        await self._grpc.start()
        self._service.scheduler.start()
        self._ticker = asyncio.create_task(self._watch.run())
        await self._warm_up(self._service.model)
        secure(self._service.pool, self._config.bank_reserve)
        self._service.admission.phase = Phase.SERVING
        await self._set_health(serving=True)
        if self._page:
            log.info("the page is at http://%s/", self.http)

    async def swap_model(self) -> None:
        """Load the model anew for the streams to come; those that are open keep theirs. Raises what loading raises,
        and serves on as before.
        """
        if self._load is None:
            raise RuntimeError("this server was started without a way to load a model")
        async with self._swapping:
            model = await asyncio.to_thread(self._load)
            if model.identity == self._service.model.identity:
                log.info("the model is the one that is served, %s; nothing to swap", model.identity.model_version)
                return
            await self._warm_up(model)
            self._service.take_over(model)
            self._metrics.set_identity(model.identity)
            log.info("new streams get model %s, version %s", model.identity.model, model.identity.model_version)

    async def drain(self) -> None:
        """Refuse new streams, tell the open ones, wait until they have left or the grace period ends; then stop."""
        grace = self._config.grace_seconds
        self._service.admission.phase = Phase.DRAINING
        await self._health.enter_graceful_shutdown()
        for stream in self._service.streams:
            stream.announce_drain(grace)
        await self._wait_for_streams(grace * (1 - DRAIN_MARGIN))
        for stream in self._service.streams:
            stream.close_for_drain()
        await self._wait_for_streams(grace * DRAIN_MARGIN)
        await self.stop()

    async def stop(self) -> None:
        """End everything now; streams still open are cancelled."""
        await self._grpc.stop(0)
        self._ticker.cancel()
        await asyncio.to_thread(self._service.scheduler.stop, self._config.grace_seconds)
        self._service.decoders.shutdown(wait=False, cancel_futures=True)
        await self._stop_http()
        await asyncio.to_thread(self._tracing.close, TRACES_SECONDS)

    @property
    def port(self) -> int:
        """Of gRPC; the real one once started."""
        return split_address(self.listen)[1]

    def _build_http(self) -> "HttpEndpoint | Page":
        """The page, or the small server without it; the log says why."""
        registry, refusal = self._metrics.registry, why_no_page(self._config)
        if refusal is None:
            from serve.web.page import Page  # the extra [web]

            try:
                self._page = Page(self._config, self._service, Answers(registry, self._alive, self._ready))
                return self._page
            except OSError as error:
                refusal = f"the page needs a folder for temporary files: {error}"
        log.info("%s", refusal)
        return HttpEndpoint(self._config.http, registry, self._alive, self._ready, root=refusal)

    async def _stop_http(self) -> None:
        await asyncio.to_thread(self._http.stop)
        if self._page:
            await self._page.close()

    def _build_grpc(self) -> grpc.aio.Server:
        tokens = self._service.tokens
        server = build_listener(self._config, [TokenInterceptor(tokens, self._count_refusal)] if tokens else [])
        servicer = self._page.servicer if self._page else self._service
        pb_grpc.add_MaskStreamServiceServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        if self._config.reflection:
            names = (SERVICE_NAME, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, server)
        return server

    def _count_refusal(self, reason: str) -> None:
        self._metrics.stream_rejected.labels(reason).inc()

    async def _warm_up(self, model: Model) -> None:
        config, started = self._config, time.perf_counter()
        size = (config.warm_up_height, config.warm_up_width)
        for job in warm_up(model, size, config.short_side, config.max_streams, config.max_batch):
            await asyncio.wrap_future(self._service.scheduler.run(job))
        self._metrics.warmup_seconds.set(time.perf_counter() - started)

    async def _wait_for_streams(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._service.empty.wait(), seconds)

    async def _set_health(self, serving: bool) -> None:
        status = health_pb2.HealthCheckResponse
        for name in ("", SERVICE_NAME):
            await self._health.set(name, status.SERVING if serving else status.NOT_SERVING)

    def _bind_gauges(self) -> None:
        service, metrics = self._service, self._metrics
        metrics.stream_slots.set(service.admission.max_streams)
        metrics.memory_bank_limit_bytes.set(service.pool.total_bytes)
        metrics.bind_phase(lambda: service.admission.phase)
        metrics.bind_blocks(lambda: service.pool.used_blocks, service.pool.total_blocks)
        metrics.engine_busy_seconds.set_function(lambda: service.scheduler.busy_seconds)
        metrics.engine_stuck.set_function(lambda: not self._watch.healthy)
        metrics.decode_queue.set_function(lambda: sum(s.queue.may_decode for s in list(service.streams.values())))
        metrics.streams_active.set_function(lambda: service.admission.active)
        metrics.memory_bank_bytes.set_function(lambda: service.pool.used_bytes)
        metrics.ready_frames.set_function(lambda: service.scheduler.ready_streams)
        metrics.objects_active.set_function(lambda: sum(s.num_objects for s in list(service.streams.values())))

    def _alive(self) -> bool:
        return self._watch.healthy

    def _ready(self) -> bool:
        return self._service.admission.phase is Phase.SERVING and self._alive()


def _with_port(address: str, port: int) -> str:
    return f"{address.rpartition(':')[0]}:{port}"


def build_server(
    networks: Networks,
    config: ServeConfig,
    registry: CollectorRegistry,
    model_version: str = "",
    server_version: str = "",
    load: Load | None = None,
) -> Server:
    """A server that is not started yet."""
    model = Model(networks, identity_of(networks, model_version, server_version))
    return Server(model, config, Metrics(registry), load)

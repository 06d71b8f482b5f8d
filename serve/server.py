"""A server and its life: listen, warm up, serve, drain, stop.

`build_server` needs networks alone, so a test serves a fake in milliseconds.
"""

import asyncio
import contextlib
import logging
import time

import grpc
import numpy as np
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import CollectorRegistry

from maskstream.block_pool import BlockPool
from maskstream.networks import Networks
from maskstream.tracker import Prompt, Tracker, TrackerSettings
from maskstream.v1 import maskstream_pb2_grpc as pb_grpc
from serve.admission import Phase
from serve.config import ServeConfig
from serve.http_endpoint import HttpEndpoint, split_address
from serve.metrics import Identity, Metrics
from serve.service import SERVICE_NAME, Service

log = logging.getLogger(__name__)

DRAIN_MARGIN = 0.2  # share of the grace period kept for closing the streams that did not leave by themselves


class Server:
    """A server and its life: start, drain, stop. `listen` and `http` are the real HOST:PORT once it has started."""

    def __init__(self, networks: Networks, config: ServeConfig, metrics: Metrics, identity: Identity) -> None:
        self.listen, self.http = config.listen, config.http
        self.identity = identity
        self._networks, self._config, self._metrics = networks, config, metrics
        self._service = Service(networks, config, metrics, identity)
        self._http = HttpEndpoint(config.http, metrics.registry, alive=self._alive, ready=self._ready)
        self._health = health.aio.HealthServicer()
        self._grpc: grpc.aio.Server
        self._ticker: asyncio.Task[None]
        metrics.set_identity(identity)
        self._bind_gauges()

    async def start(self) -> None:
        """Listen, warm the engine up, then become ready. Raises OSError for an address that cannot be had."""
        self._http.start()
        self.http = _with_port(self.http, self._http.port)
        self._grpc = self._build_grpc()
        try:
            self.listen = _with_port(self.listen, self._grpc.add_insecure_port(self.listen))
        except RuntimeError as error:
            self._http.stop()
            raise OSError(f"cannot listen on {self.listen}: {error}") from error
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        await self._grpc.start()
        self._service.scheduler.start()
        self._ticker = asyncio.create_task(self._tick())
        started = time.perf_counter()
        await asyncio.wrap_future(self._service.scheduler.run(self._warm_up))
        self._metrics.warmup_seconds.set(time.perf_counter() - started)
        self._service.admission.phase = Phase.SERVING
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)

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
        await asyncio.to_thread(self._http.stop)

    @property
    def port(self) -> int:
        """Of gRPC; the real one once started."""
        return split_address(self.listen)[1]

    def _build_grpc(self) -> grpc.aio.Server:
        limits = self._config.limits
        options = [
            ("grpc.max_receive_message_length", limits.max_message_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),  # a second server on this port is a mistake that must be seen
            ("grpc.keepalive_time_ms", 20_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
        ]
        if self._config.small_window:
            options += [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_536)]
        server = grpc.aio.server(options=options)
        pb_grpc.add_MaskStreamServiceServicer_to_server(self._service, server)  # type: ignore[no-untyped-call]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        if self._config.reflection:
            names = (SERVICE_NAME, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, server)
        return server

    def _warm_up(self) -> None:
        """Real steps on a synthetic frame, with one object and with four, so that no client pays for the first run."""
        frame = np.zeros((self._config.warm_up_height, self._config.warm_up_width, 3), np.uint8)
        frame[::2] = 255
        settings = TrackerSettings(max_objects=4, short_side=self._config.short_side)
        tracker = Tracker(self._networks, settings, BlockPool(2**30))
        halves = np.zeros((2, *frame.shape[:2]), np.uint8)
        halves[0, :, : frame.shape[1] // 2] = 1
        halves[1] = 1 - halves[0]
        for prompts in ([Prompt(1, halves[0])], [], [Prompt(i, halves[i % 2]) for i in (1, 2, 3, 4)], []):
            tracker.step(frame, prompts)
        tracker.close()

    async def _wait_for_streams(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._service.empty.wait(), seconds)

    async def _set_health(self, status: "health_pb2.HealthCheckResponse.ServingStatus") -> None:
        for name in ("", SERVICE_NAME):
            await self._health.set(name, status)

    async def _tick(self) -> None:
        """Measures how late the loop wakes and how busy the engine is."""
        period, ticks_a_second = 0.1, 10
        while True:
            since, busy = time.perf_counter(), self._service.scheduler.busy_seconds
            for _ in range(ticks_a_second):
                before = time.perf_counter()
                await asyncio.sleep(period)
                self._metrics.loop_lag_seconds.observe(max(0.0, time.perf_counter() - before - period))
            busy = self._service.scheduler.busy_seconds - busy
            self._metrics.engine_busy_ratio.set(min(1.0, busy / (time.perf_counter() - since)))

    def _bind_gauges(self) -> None:
        service, metrics = self._service, self._metrics
        metrics.stream_slots.set(service.admission.max_streams)
        metrics.memory_bank_limit_bytes.set(service.pool.total_bytes)
        metrics.streams_active.set_function(lambda: service.admission.active)
        metrics.memory_bank_bytes.set_function(lambda: service.pool.used_bytes)
        metrics.ready_frames.set_function(lambda: service.scheduler.ready_streams)
        metrics.objects_active.set_function(lambda: sum(s.num_objects for s in list(service.streams.values())))

    def _alive(self) -> bool:
        scheduler = self._service.scheduler
        return scheduler.alive and scheduler.turn_seconds < self._config.stall_seconds

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
) -> Server:
    """A server that is not started yet. Model name, engine and precision are what the networks say of themselves."""
    identity = Identity(server_version, networks.spec.name, model_version, networks.engine, networks.precision)
    return Server(networks, config, Metrics(registry), identity)

"""The gRPC service and the server around it: asyncio at the rim, one engine thread inside.

A stream's slot and memory are tied to its RPC by a `finally`: whatever ends the RPC, a client that vanished too, frees
them. `build_server` needs networks alone, so a test serves a fake in milliseconds.
"""

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import grpc
import numpy as np
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from grpc_status import rpc_status
from prometheus_client import CollectorRegistry

from maskstream import wire
from maskstream.memory_bank import BlockPool
from maskstream.networks import Networks
from maskstream.tracker import Prompt, Tracker, TrackerSettings
from maskstream.v1 import maskstream_pb2 as pb
from maskstream.v1 import maskstream_pb2_grpc as pb_grpc
from serve import codec
from serve.admission import Admission, Phase, smallest_stream_bytes
from serve.config import ServeConfig
from serve.delivery import FrameQueue
from serve.errors import IdleTimeout, ModelNotFound, OpenRequired, StreamEnded, status_of
from serve.http_endpoint import HttpEndpoint, split_address
from serve.messages import OpenRequest
from serve.metrics import Identity, Metrics
from serve.scheduler import Scheduler
from serve.session import Session
from serve.stream import Context, Stream, read_request

log = logging.getLogger(__name__)

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["MaskStreamService"].full_name
REASON_METADATA = "maskstream-reason"
DRAIN_MARGIN = 0.2  # share of the grace period kept for closing the streams that did not leave by themselves


class Service(pb_grpc.MaskStreamServiceServicer):
    """Propagate and GetServerInfo."""

    def __init__(self, networks: Networks, config: ServeConfig, metrics: Metrics, identity: Identity) -> None:
        self.scheduler = Scheduler()
        self.empty = asyncio.Event()  # set while no stream is open
        self.empty.set()
        self.pool = BlockPool(config.bank_mib * 2**20)
        self.admission = Admission(config.max_streams, self.pool, smallest_stream_bytes(networks.spec))
        self.streams: dict[Stream, Session] = {}
        self.decoders = ThreadPoolExecutor(config.decode_threads, thread_name_prefix="decode")
        self._networks, self._config, self._metrics, self._identity = networks, config, metrics, identity

    async def Propagate(self, _requests: object, context: Context) -> None:  # noqa: N802 - gRPC's name
        """One stream. `context.read` and `context.write` are used, not the iterator, to read and write at once."""
        try:
            await self._propagate(context)
        except StreamEnded as error:
            status = rpc_status.to_status(status_of(error))
            # The reason in plain words too, for clients without the google.rpc messages.
            metadata = (*status.trailing_metadata, (REASON_METADATA, error.reason))
            await context.abort(status.code, status.details, metadata)

    async def GetServerInfo(  # noqa: N802 - gRPC's name
        self,
        request: pb.GetServerInfoRequest,
        context: grpc.aio.ServicerContext[pb.GetServerInfoRequest, pb.GetServerInfoResponse],
    ) -> pb.GetServerInfoResponse:
        """Limits, model and load."""
        return pb.GetServerInfoResponse(
            server_version=self._identity.server_version,
            model=self._identity.model,
            model_version=self._identity.model_version,
            backend=self._identity.engine,
            precision=self._identity.precision,
            limits=codec.limits_to_proto(self._config.limits),
            active_streams=self.admission.active,
            max_streams=self.admission.max_streams,
            encodings=codec.supported_encodings(),
        )

    async def _propagate(self, context: Context) -> None:
        try:
            first = await self._first_request(context)
            opened = self._grant(codec.parse_open(first.open, self._config.limits))
            self.admission.admit()
        except StreamEnded as error:
            self._metrics.stream_rejected.labels(error.reason).inc()
            raise
        async with self._session(opened) as session:
            stream = Stream(session, opened, self._config.limits, self.decoders, self._metrics)
            self.streams[stream] = session
            self.empty.clear()
            try:
                await context.write(self._opened(opened))
                self.scheduler.add(session)
                await stream.run(context, first.seq, self.scheduler.wake)
            finally:
                del self.streams[stream]
                if not self.streams:
                    self.empty.set()

    async def _first_request(self, context: Context) -> pb.PropagateRequest:
        """The first request, which must be Open and come within the idle timeout."""
        reading = asyncio.create_task(read_request(context))
        done, _ = await asyncio.wait({reading}, timeout=self._config.limits.idle_timeout_seconds)
        if not done:
            raise IdleTimeout("no Open came; send it as the first request")
        message = reading.result()
        if message is None or message.WhichOneof("kind") != "open":
            got = "nothing" if message is None else f"`{message.WhichOneof('kind')}`"
            raise OpenRequired(f"the first request of a stream must be `open`, got {got}")
        return message

    def _grant(self, wanted: OpenRequest) -> OpenRequest:
        """What the client asked for, lowered to what the server gives."""
        if wanted.model not in ("", self._identity.model):
            raise ModelNotFound(f"`{wanted.model}` is not served here; the model is `{self._identity.model}`")
        limits = self._config.limits
        return replace(
            wanted,
            session_id=wanted.session_id or uuid.uuid4().hex,
            max_in_flight=min(wanted.max_in_flight or self._config.default_max_in_flight, limits.max_in_flight),
            idle_timeout_seconds=min(
                wanted.idle_timeout_seconds or limits.idle_timeout_seconds, limits.idle_timeout_seconds
            ),
        )

    def _opened(self, opened: OpenRequest) -> pb.PropagateResponse:
        spec = self._networks.spec
        message = pb.Opened(
            session_id=opened.session_id,
            model=self._identity.model,
            model_version=self._identity.model_version,
            max_in_flight=opened.max_in_flight,
            max_memory_frames=spec.capacity,
            memory_every=spec.memory_stride,
            limits=codec.limits_to_proto(self._config.limits),
            idle_timeout=wire.duration(opened.idle_timeout_seconds or 0.0),
        )
        return pb.PropagateResponse(opened=message)

    @contextlib.asynccontextmanager
    async def _session(self, opened: OpenRequest) -> AsyncIterator[Session]:
        """A session of an admitted stream; its slot comes back when the engine thread has freed its memory."""
        config = self._config
        settings = TrackerSettings(max_objects=config.limits.max_objects, short_side=config.short_side)
        tracker = Tracker(self._networks, settings, self.pool)
        queue = FrameQueue(opened.max_in_flight, opened.max_frame_age_seconds)
        session = Session(tracker, queue, self._metrics)
        loop, end_reason = asyncio.get_running_loop(), "internal"
        try:
            yield session
            end_reason = "closed"
        except StreamEnded as error:
            end_reason = error.reason.lower()
            raise
        except (asyncio.CancelledError, grpc.aio.BaseError):
            end_reason = "client_gone"
            raise
        finally:
            # Not awaited: a cancelled RPC must free its slot too.
            self.scheduler.retire(session, partial(loop.call_soon_threadsafe, self.admission.release))
            self._metrics.streams.labels(end_reason).inc()
            log.info("stream %s ended: %s, %s", opened.session_id, end_reason, session.counts)


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
        tracker = Tracker(self._networks, settings, BlockPool(2**62))
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

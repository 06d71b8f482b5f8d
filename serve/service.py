"""The gRPC service: asyncio at the rim, one engine thread inside.

A stream's slot and memory are tied to its RPC by a `finally`: whatever ends the RPC, a client that vanished too, frees
them.
"""

import asyncio
import contextlib
import logging
import uuid
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import grpc
from grpc_status import rpc_status

from maskstream import wire
from maskstream.block_pool import BlockPool
from maskstream.networks import Networks
from maskstream.tracker import Tracker, TrackerSettings
from maskstream.v1 import maskstream_pb2 as pb
from maskstream.v1 import maskstream_pb2_grpc as pb_grpc
from serve import answer_codec, request_codec
from serve.admission import Admission, smallest_stream_bytes
from serve.config import ServeConfig
from serve.delivery import FrameQueue
from serve.errors import IdleTimeout, ModelNotFound, OpenRequired, StreamEnded, status_of
from serve.messages import OpenRequest
from serve.metrics import Identity, Metrics
from serve.scheduler import Scheduler
from serve.session import Session
from serve.stream import Context, Stream, read_request

log = logging.getLogger(__name__)

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["MaskStreamService"].full_name
REASON_METADATA = "maskstream-reason"


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
            limits=answer_codec.limits_to_proto(self._config.limits),
            active_streams=self.admission.active,
            max_streams=self.admission.max_streams,
            encodings=request_codec.supported_encodings(),
        )

    async def _propagate(self, context: Context) -> None:
        try:
            first = await self._first_request(context)
            opened = self._grant(request_codec.parse_open(first.open, self._config.limits))
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
            limits=answer_codec.limits_to_proto(self._config.limits),
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

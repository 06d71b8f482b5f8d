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

from maskstream import wire
from maskstream.errors import MemoryExhausted
from maskstream.tracker import Tracker, TrackerSettings
from maskstream.tracker_state import TrackerState
from maskstream.v1 import maskstream_pb2 as pb
from maskstream.v1 import maskstream_pb2_grpc as pb_grpc
from serve import answer_codec, request_codec
from serve.admission import Admission, Bounds, smallest_stream_bytes
from serve.bank import bank_pool
from serve.config import ServeConfig
from serve.delivery import FrameQueue
from serve.errors import (
    IdleTimeout,
    ModelNotFound,
    OpenRequired,
    ServerFull,
    SnapshotInvalid,
    SnapshotTooLarge,
    StreamEnded,
    abort,
)
from serve.messages import OpenRequest
from serve.metrics import Metrics
from serve.model import Model
from serve.scheduler import Scheduler
from serve.security import client_of
from serve.session import Session
from serve.snapshot import read_key, seal, unseal
from serve.stream import Context, Place, Stream, read_request
from serve.tokens import TokenFile
from serve.tracing import StreamTrace, Tracing

log = logging.getLogger(__name__)

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["MaskStreamService"].full_name


class Service(pb_grpc.MaskStreamServiceServicer):
    """Propagate and GetServerInfo. `model` is what new streams get; open ones keep the one they began with."""

    def __init__(self, model: Model, config: ServeConfig, metrics: Metrics, tracing: Tracing) -> None:
        self.model = model
        self.scheduler = Scheduler(metrics.observe_turn)
        self.empty = asyncio.Event()  # set while no stream is open
        self.empty.set()
        self.pool = bank_pool(config.bank_mib * 2**20)
        bounds = Bounds(config.max_streams, config.limits.max_streams_per_client, config.max_utilisation)
        smallest = smallest_stream_bytes(model.networks.spec)
        self.admission = Admission(bounds, self.pool, smallest, lambda: self.busy_ratio)
        self.tokens = TokenFile(config.auth.tokens) if config.auth.tokens else None
        self.streams: dict[Stream, Session] = {}
        self.decoders = ThreadPoolExecutor(config.decode_threads, thread_name_prefix="decode")
        self.busy_ratio = 0.0  # of the engine thread, over the last second
        self._config, self._metrics, self._tracing = config, metrics, tracing
        self._snapshot_key = read_key(config.snapshot_key) if config.snapshot_key else None

    async def Propagate(self, _requests: object, context: Context) -> None:  # noqa: N802 - gRPC's name
        """One stream. `context.read` and `context.write` are used, not the iterator, to read and write at once."""
        try:
            await self._propagate(context)
        except StreamEnded as error:
            await abort(context, error)
        except grpc.aio.InternalError as gone:
            # A write failed before gRPC had noticed that the connection is dead: nothing to be alarmed about.
            raise asyncio.CancelledError("the client is gone") from gone

    async def GetServerInfo(  # noqa: N802 - gRPC's name
        self,
        request: pb.GetServerInfoRequest,
        context: grpc.aio.ServicerContext[pb.GetServerInfoRequest, pb.GetServerInfoResponse],
    ) -> pb.GetServerInfoResponse:
        """Limits, model and load."""
        identity = self.model.identity
        return pb.GetServerInfoResponse(
            server_version=identity.server_version,
            model=identity.model,
            model_version=identity.model_version,
            backend=identity.engine,
            precision=identity.precision,
            limits=self._limits(),
            active_streams=self.admission.active,
            max_streams=self.admission.max_streams,
            encodings=request_codec.supported_encodings(),
            engine_busy_ratio=self.busy_ratio,
        )

    def take_over(self, model: Model) -> None:
        """New streams get this model from now on."""
        self.model = model
        self.admission.smallest_stream_bytes = smallest_stream_bytes(model.networks.spec)

    async def _propagate(self, context: Context) -> None:
        model = self.model
        try:
            client = client_of(context, self.tokens)
            first = await self._first_request(context)
            opened = self._grant(request_codec.parse_open(first.open, self._config.limits), model)
            self.admission.admit(client)
        except StreamEnded as error:
            self._metrics.stream_rejected.labels(error.reason).inc()
            raise
        trace = self._tracing.stream(opened.session_id, context.invocation_metadata() or ())
        async with self._session(opened, model, client, trace) as session:
            place = Place(self.decoders, self._metrics, trace, self.scheduler.wake, partial(self._seal, model))
            stream = Stream(session, opened, self._config.limits, place)
            self.streams[stream] = session
            self.empty.clear()
            self._metrics.streams_opened.labels(opened.delivery).inc()
            try:
                await context.write(self._opened(opened, model))
                self.scheduler.add(session)
                await stream.run(context, first.seq)
            finally:
                del self.streams[stream]
                if not self.streams:
                    self.empty.set()

    async def _first_request(self, context: Context) -> pb.PropagateRequest:
        """The first request, which must be Open and come within the idle timeout."""
        reading = asyncio.create_task(read_request(context))
        reading.add_done_callback(lambda task: task.cancelled() or task.exception())  # it may outlive this wait
        done, _ = await asyncio.wait({reading}, timeout=self._config.limits.idle_timeout_seconds)
        if not done:
            raise IdleTimeout("no Open came; send it as the first request")
        message = reading.result()
        if message is None or message.WhichOneof("kind") != "open":
            got = "nothing" if message is None else f"`{message.WhichOneof('kind')}`"
            raise OpenRequired(f"the first request of a stream must be `open`, got {got}")
        return message

    def _grant(self, wanted: OpenRequest, model: Model) -> OpenRequest:
        """What the client asked for, lowered to what the server gives."""
        if wanted.model not in ("", model.identity.model):
            raise ModelNotFound(f"`{wanted.model}` is not served here; the model is `{model.identity.model}`")
        limits = self._config.limits
        return replace(
            wanted,
            session_id=wanted.session_id or uuid.uuid4().hex,
            max_in_flight=min(wanted.max_in_flight or self._config.default_max_in_flight, limits.max_in_flight),
            idle_timeout_seconds=min(
                wanted.idle_timeout_seconds or limits.idle_timeout_seconds, limits.idle_timeout_seconds
            ),
        )

    def _opened(self, opened: OpenRequest, model: Model) -> pb.PropagateResponse:
        spec = model.networks.spec
        message = pb.Opened(
            session_id=opened.session_id,
            model=model.identity.model,
            model_version=model.identity.model_version,
            max_in_flight=opened.max_in_flight,
            max_memory_frames=spec.capacity,
            memory_every=spec.memory_stride,
            limits=self._limits(),
            idle_timeout=wire.duration(opened.idle_timeout_seconds or 0.0),
            resumed=bool(opened.resume_state),
        )
        return pb.PropagateResponse(opened=message)

    def _limits(self) -> pb.Limits:
        return answer_codec.limits_to_proto(self._config.limits, makes_snapshots=self._snapshot_key is not None)

    @contextlib.asynccontextmanager
    async def _session(
        self, opened: OpenRequest, model: Model, client: str, trace: StreamTrace
    ) -> AsyncIterator[Session]:
        """A session of an admitted stream; its slot comes back when the engine thread has freed its memory."""
        config = self._config
        settings = TrackerSettings(max_objects=config.limits.max_objects, short_side=config.short_side)
        tracker = Tracker(model.networks, settings, self.pool)
        queue = FrameQueue(opened.max_in_flight, opened.max_frame_age_seconds, opened.initial_credit or None)
        session = Session(
            model,
            tracker,
            queue,
            self._metrics,
            makes_snapshots=self._snapshot_key is not None,
            max_objects=config.limits.max_objects,
        )
        loop, end_reason = asyncio.get_running_loop(), "internal"
        try:
            if opened.resume_state:
                # Checking megabytes is the pool's work; the copy is made here, where no cancelled RPC overtakes it.
                state = await loop.run_in_executor(self.decoders, self._unseal, opened.resume_state, model)
                _restore(tracker, state)
                self._metrics.resumes.labels("taken").inc()
            yield session
            end_reason = "closed"
        except StreamEnded as error:
            if isinstance(error, SnapshotInvalid):
                self._metrics.resumes.labels("refused").inc()
            end_reason = error.reason.lower()
            raise
        except (asyncio.CancelledError, grpc.aio.BaseError):
            end_reason = "client_gone"
            raise
        finally:
            # Not awaited: a cancelled RPC must free its slot too.
            release = partial(self.admission.release, client)
            self.scheduler.retire(session, partial(loop.call_soon_threadsafe, release))
            self._metrics.streams.labels(end_reason).inc()
            trace.end(end_reason)
            about = {"session_id": opened.session_id, "client": client, "reason": end_reason}
            log.info(
                "stream %s of %s ended: %s, %s", opened.session_id, client, end_reason, session.counts, extra=about
            )

    # ---- snapshots, in the decode pool -----------------------------------------------------------------------------

    def _seal(self, model: Model, state: TrackerState) -> bytes:
        assert self._snapshot_key is not None, "sessions take no snapshots without a key"
        sealed = seal(state, model.identity.model_version, self._snapshot_key)
        most = self._config.limits.max_snapshot_mib * 2**20
        if len(sealed) > most:
            raise SnapshotTooLarge(f"the snapshot takes {len(sealed)} bytes, the server sends {most} at most")
        return sealed

    def _unseal(self, sealed: bytes, model: Model) -> TrackerState:
        if self._snapshot_key is None:
            raise SnapshotInvalid("this server takes no snapshots; prompt with the last answered mask")
        most = self._config.limits.max_snapshot_mib * 2**20
        return unseal(sealed, model.identity.model_version, self._snapshot_key, most)


def _restore(tracker: Tracker, state: TrackerState) -> None:
    try:
        tracker.restore(state)
    except ValueError as error:
        raise SnapshotInvalid(f"the snapshot does not fit this server: {error}") from error
    except MemoryExhausted as error:
        raise ServerFull(str(error)) from error

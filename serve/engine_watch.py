"""Watches the engine thread from the event loop: how busy, how late, whether it still works.

A turn that does not end, or an engine that fails on frames that are known to be good, makes the server say so: its
streams end with a reason, new ones are refused, health and liveness turn red, and whoever runs the server restarts it.
One failed stream alone proves nothing, a client may have found a way to provoke it; so a probe follows.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from serve.admission import Phase
from serve.config import ServeConfig
from serve.errors import EngineFailed, EngineStuck, StreamEnded
from serve.metrics import Metrics
from serve.service import Service
from serve.warm_up import probe

log = logging.getLogger(__name__)

PERIOD_SECONDS, TICKS = 0.1, 10  # between looks at the engine; looks between two figures for how busy it is


class EngineWatch:
    """Runs as one task. `healthy` is what liveness and readiness say of the engine."""

    def __init__(
        self,
        service: Service,
        config: ServeConfig,
        metrics: Metrics,
        set_health: Callable[[bool], Awaitable[None]],
    ) -> None:
        self._service, self._config, self._metrics, self._set_health = service, config, metrics, set_health
        self._stuck = self._broken = False
        self._failures_seen = 0
        self._probing: asyncio.Task[None] | None = None

    @property
    def healthy(self) -> bool:
        """May be asked from any thread."""
        scheduler = self._service.scheduler
        stuck = scheduler.turn_seconds >= self._config.stall_seconds
        return scheduler.alive and not self._broken and not stuck

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            since, busy = time.perf_counter(), self._service.scheduler.busy_seconds
            for _ in range(TICKS):
                before = time.perf_counter()
                await asyncio.sleep(PERIOD_SECONDS)
                self._metrics.loop_lag_seconds.observe(max(0.0, time.perf_counter() - before - PERIOD_SECONDS))
                await self._look()
            busy = self._service.scheduler.busy_seconds - busy
            self._service.busy_ratio = min(1.0, busy / (time.perf_counter() - since))
            self._metrics.engine_busy_ratio.set(self._service.busy_ratio)

    async def _look(self) -> None:
        scheduler = self._service.scheduler
        stuck = scheduler.turn_seconds >= self._config.stall_seconds or not scheduler.alive
        if stuck and not self._stuck:
            seconds = f"{self._config.stall_seconds:.0f} s"
            log.critical("the engine has been in one turn for more than %s; all streams end", seconds)
            await self._refuse(EngineStuck(f"the engine has not answered for {seconds}; open the stream elsewhere"))
        elif self._stuck and not stuck and not self._broken:
            log.warning("the engine works again")
            await self._accept()
        self._stuck = stuck
        if scheduler.failures > self._failures_seen and self._probing is None and not stuck:
            self._failures_seen = scheduler.failures
            self._probing = asyncio.create_task(self._probe())

    async def _probe(self) -> None:
        """Whether the engine follows a stripe on a frame it was warmed up with."""
        config, service = self._config, self._service
        size = (config.warm_up_height, config.warm_up_width)
        try:
            work = service.scheduler.run(lambda: probe(service.model, size, config.short_side))
            await asyncio.wrap_future(work)
        except Exception:
            log.critical("the engine fails on a frame that is known to be good; all streams end", exc_info=True)
            self._broken = True
            await self._refuse(EngineFailed("the engine of this server is broken; open the stream elsewhere"))
        finally:
            self._probing = None

    async def _refuse(self, error: StreamEnded) -> None:
        admission = self._service.admission
        if admission.phase is Phase.SERVING:
            admission.phase = Phase.BROKEN
        for stream in list(self._service.streams):
            stream.fail(error)
        await self._set_health(False)

    async def _accept(self) -> None:
        admission = self._service.admission
        if admission.phase is Phase.BROKEN:
            admission.phase = Phase.SERVING
            await self._set_health(True)

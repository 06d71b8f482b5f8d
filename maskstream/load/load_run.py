"""Running one load: streams, hostile clients and probes side by side, from the first open until the last answer."""

import contextlib
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import grpc

from maskstream.errors import StreamError
from maskstream.load.encoded_clip import EncodedClip
from maskstream.load.endpoint import Endpoint
from maskstream.load.frame_record import StreamRecord
from maskstream.load.hostile import HostileClient
from maskstream.load.plan import LOSSLESS, ClosedLoop, Load, Pace, open_loops
from maskstream.load.server_probe import HealthChecks, HealthProbe, MemoryProbe, ServerProbe
from maskstream.load.stream_load import StreamLoad, wishes_of

_LEAD_SECONDS = 0.2  # from the last open until the first frame is due
_LAST_ANSWERS_SECONDS = 30.0  # that the server has after the last frame was due
_BACKLOG_FACTOR = 4.0  # a lossless stream may also need this many times the load's duration to catch up
_MEMORY_SECONDS = 1.0  # between two samples


@dataclass(frozen=True)
class CpuSeconds:
    """User and system time over the time frames were due; None for a server that cannot be looked into."""

    client: float
    server: float | None
    wall: float


@dataclass(frozen=True)
class LoadOutcome:
    """All there is to know about one load. `since` and `until` (time.perf_counter) hold the measured part."""

    load: Load
    records: Sequence[StreamRecord]
    since: float
    until: float
    health: HealthChecks
    memory: Sequence[tuple[float, float]]  # (time.perf_counter, bytes)
    cpu: CpuSeconds
    counts_before: dict[tuple[str, str], float]  # of /metrics
    counts_after: dict[tuple[str, str], float]
    hostile: Sequence[HostileClient]


def run_load(endpoint: Endpoint, load: Load, clip: EncodedClip, *, closed_loop: bool = False) -> LoadOutcome:
    """Offer `load`; in a closed loop each stream sends as fast as it is answered instead, for the same time."""
    probe = endpoint.probe()
    before = probe.counts()
    with contextlib.ExitStack() as stack:
        streams = [StreamLoad(_channel(stack, endpoint), wishes_of(load), clip) for _ in range(load.streams)]
        stack.callback(_cancel, streams)  # what has ended does not mind
        refusals = [_open(stream) for stream in streams]
        hostile = [HostileClient(kind, _channel(stack, endpoint), clip) for kind in load.hostile]
        health, memory = HealthProbe(_channel(stack, endpoint)), MemoryProbe(probe, _MEMORY_SECONDS)
        parts: list[HostileClient | HealthProbe | MemoryProbe] = [*hostile, health, memory]
        for part in parts:
            part.start()
            stack.callback(part.stop)
        started = time.perf_counter() + _LEAD_SECONDS
        until = started + load.warm_up_seconds + load.duration_seconds
        loops = open_loops(load, started)
        paces: Sequence[Pace] = [ClosedLoop(until=until)] * load.streams if closed_loop else loops
        work = [partial(_run, *each) for each in zip(streams, paces, refusals, strict=True)]
        threads = [threading.Thread(target=each, name="load", daemon=True) for each in work]
        for thread in threads:
            thread.start()
        cpu = _cpu_between(started, until, probe)
        _join(threads, streams, until + _patience_seconds(load))
    return LoadOutcome(
        load=load,
        records=[stream.record for stream in streams],
        since=started + load.warm_up_seconds,
        until=until,
        health=health.checks,
        memory=memory.samples,
        cpu=cpu,
        counts_before=before,
        counts_after=probe.counts(),
        hostile=hostile,
    )


def _channel(stack: contextlib.ExitStack, endpoint: Endpoint) -> grpc.Channel:
    channel = endpoint.channel()
    stack.callback(channel.close)
    return channel


def _open(stream: StreamLoad) -> str:
    """ "" or the reason why the server did not open the stream."""
    try:
        stream.open()
    except StreamError as error:
        return error.reason
    return ""


def _run(stream: StreamLoad, pace: Pace, refusal: str) -> None:
    if refusal:
        stream.refuse(pace, refusal)
    else:
        stream.run(pace)


def _cpu_between(started: float, until: float, probe: ServerProbe) -> CpuSeconds:
    """Waits for both times; of this process and the server's."""
    times = []
    for moment in (started, until):
        time.sleep(max(0.0, moment - time.perf_counter()))
        times.append((time.process_time(), probe.cpu_seconds()))
    (client_before, server_before), (client, server) = times
    used = None if server is None or server_before is None else server - server_before
    return CpuSeconds(client - client_before, used, until - started)


def _patience_seconds(load: Load) -> float:
    """After the last frame was due, until streams that are still not through are given up."""
    lasted = load.warm_up_seconds + load.duration_seconds
    return _LAST_ANSWERS_SECONDS + (_BACKLOG_FACTOR * lasted if load.delivery == LOSSLESS else 0.0)


def _join(threads: Sequence[threading.Thread], streams: Sequence[StreamLoad], deadline: float) -> None:
    for thread in threads:
        thread.join(max(0.0, deadline - time.perf_counter()))
    _cancel(streams)
    for thread in threads:
        thread.join()


def _cancel(streams: Sequence[StreamLoad]) -> None:
    for stream in streams:
        stream.cancel()

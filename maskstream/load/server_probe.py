"""A server seen from outside while a load runs: its memory and CPU time, its own counts, its answers to health checks.

Memory and CPU of a process on this machine are read from /proc, which costs it nothing; of another one, from its
/metrics where that address is known.
"""

import contextlib
import os
import re
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

HEALTH_SECONDS = 0.2  # between two checks
_CHECK = "/grpc.health.v1.Health/Check"
_SERVING = b"\x08\x01"  # HealthCheckResponse{status: SERVING}; the package of its messages is the server's
_LATE_SECONDS = 5.0  # a check without an answer for so long has failed
_SCRAPE_SECONDS = 10.0
_SAMPLE = re.compile(r'^(\w+)(?:\{(\w+)="([^"]*)"\})? (\S+)$')  # with one label at most: those are all we count


class ServerProbe:
    """Reads what it can: what has no source is None."""

    def __init__(self, pid: int | None = None, http: str | None = None) -> None:
        """`pid` of a server on this machine; `http` is HOST:PORT of its /metrics."""
        self._proc = None if pid is None else Path("/proc") / str(pid)
        self._http = http

    def rss_bytes(self) -> float | None:
        """Resident memory now."""
        if self._proc is not None:
            return int((self._proc / "statm").read_text().split()[1]) * float(os.sysconf("SC_PAGE_SIZE"))
        return self.counts().get(("process_resident_memory_bytes", ""))

    def cpu_seconds(self) -> float | None:
        """User and system time of the process so far."""
        if self._proc is not None:
            fields = (self._proc / "stat").read_text().rpartition(")")[2].split()  # a name may hold blanks
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return self.counts().get(("process_cpu_seconds_total", ""))

    def counts(self) -> dict[tuple[str, str], float]:
        """Samples of /metrics by (name, value of its one label or ""); empty when there is no address, or no answer."""
        if self._http is None:
            return {}
        try:
            with urllib.request.urlopen(f"http://{self._http}/metrics", timeout=_SCRAPE_SECONDS) as response:
                text = response.read().decode()
        except (OSError, urllib.error.URLError):
            return {}
        found = (_SAMPLE.match(line) for line in text.splitlines())
        return {(match[1], match[3] or ""): float(match[4]) for match in found if match}


@dataclass
class HealthChecks:
    """Latencies in seconds, from the time a check was due; and those that failed."""

    seconds: list[float] = field(default_factory=list)
    failed: int = 0


class HealthProbe:
    """Asks grpc.health.v1 in a steady beat, from `start` until `stop`, over a connection of its own."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.checks = HealthChecks()
        self._check: Any = channel.unary_unary(_CHECK, request_serializer=None, response_deserializer=None)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="health-checks", daemon=True)

    def start(self) -> None:
        """Begin."""
        with contextlib.suppress(grpc.RpcError):  # it is counted when it happens in the beat
            self._check(b"", timeout=_LATE_SECONDS)  # connects
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        due = time.perf_counter()
        while not self._stopping.wait(max(0.0, due - time.perf_counter())):
            try:
                healthy = self._check(b"", timeout=_LATE_SECONDS) == _SERVING
            except grpc.RpcError:
                healthy = False
            self.checks.seconds.append(time.perf_counter() - due)
            self.checks.failed += not healthy
            due += HEALTH_SECONDS


class MemoryProbe:
    """Resident memory of the server in a steady beat, from `start` until `stop`."""

    def __init__(self, probe: ServerProbe, period_seconds: float) -> None:
        self.samples: list[tuple[float, float]] = []  # (time.perf_counter, bytes)
        self._probe, self._period = probe, period_seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory-samples", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, with a last sample."""
        self._stopping.set()
        self._thread.join()
        self._sample()

    def _run(self) -> None:
        self._sample()
        while not self._stopping.wait(self._period):
            self._sample()

    def _sample(self) -> None:
        rss = self._probe.rss_bytes()
        if rss is not None:
            self.samples.append((time.perf_counter(), rss))

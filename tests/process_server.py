"""A server with fake networks in a process of its own, where memory, descriptors, threads and tasks can be counted.

It is the real program with its real signals, log and settings; only the networks are exchanged. What only the inside
knows is asked for on its standard input: one line in, one line of JSON out.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).absolute().parents[1]
START_SECONDS = 60
MIB = 2**20

PROGRAM = """
import asyncio, gc, json, sys, threading
from hostile import ColourNetworks
from prometheus_client import CollectorRegistry
import serve.__main__ as program
from serve.server import build_server

networks = ColourNetworks({delay_seconds}, {seconds_per_object})
loops = []

def load_server(config, *_, **__):
    return build_server(networks, config, CollectorRegistry(), "abc", "1.2")

async def count_tasks():
    return len(asyncio.all_tasks()) - 1

def answer_questions():
    for line in sys.stdin:
        gc.collect()
        tasks = asyncio.run_coroutine_threadsafe(count_tasks(), loops[0]).result(10)
        facts = dict(tasks=tasks, threads=threading.active_count(), objects=len(gc.get_objects()))
        print(json.dumps(facts), file=sys.__stdout__, flush=True)

serve = program.serve

async def with_questions(*arguments, **options):
    loops.append(asyncio.get_running_loop())
    threading.Thread(target=answer_questions, daemon=True).start()
    await serve(*arguments, **options)

program.load_server, program.serve = load_server, with_questions
sys.exit(program.main(sys.argv[1:]))
"""


class ProcessServer:
    """A running server process and what can be seen of it from outside."""

    def __init__(self, process: "subprocess.Popen[str]", facts: dict[str, Any]) -> None:
        self.process, self.listen, self.http = process, facts["listen"], facts["http"]
        self._proc = Path("/proc") / str(process.pid)

    @property
    def rss_bytes(self) -> int:
        """Resident memory now."""
        return self._status("VmRSS") * 1024

    @property
    def peak_bytes(self) -> int:
        """Highest resident memory since `forget_peak`."""
        return self._status("VmHWM") * 1024

    @property
    def threads(self) -> int:
        """Of the operating system, gRPC's own among them."""
        return self._status("Threads")

    @property
    def descriptors(self) -> int:
        """Open files and sockets."""
        return len(list((self._proc / "fd").iterdir()))

    def forget_peak(self) -> None:
        """Count `peak_bytes` anew."""
        (self._proc / "clear_refs").write_text("5")

    def ask(self) -> dict[str, int]:
        """Tasks on the event loop, threads of Python, objects on the heap after a collection."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("?\n")
        self.process.stdin.flush()
        answer: dict[str, int] = json.loads(self.process.stdout.readline())
        return answer

    def metric(self, name: str, **labels: str) -> float:
        """A sample of /metrics, 0 when it is not there."""
        with urllib.request.urlopen(f"http://{self.http}/metrics", timeout=10) as response:
            families = text_string_to_metric_families(response.read().decode())
        samples = (sample for family in families for sample in family.samples)
        wanted = (sample.value for sample in samples if sample.name == f"maskstream_{name}" and sample.labels == labels)
        return next(wanted, 0.0)

    def _status(self, name: str) -> int:
        lines = (self._proc / "status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


@contextlib.contextmanager
def process_server(
    folder: Path, *flags: str, stderr: Any = None, delay_seconds: float = 0.0, seconds_per_object: float = 0.0
) -> Iterator[ProcessServer]:
    """Run one until the `with` ends. `flags` are those of maskstream-serve; the log goes to a file unless told."""
    announce = folder / "server.json"
    announce.unlink(missing_ok=True)
    program = PROGRAM.format(delay_seconds=delay_seconds, seconds_per_object=seconds_per_object)
    ports = ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--announce", str(announce)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", program, *ports, *flags],
            env=environment, cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log if stderr is None else stderr,
        )  # fmt: skip
    try:
        yield ProcessServer(process, _facts(process, announce, folder / "server.log"))
    finally:
        process.kill()
        process.communicate()


def _facts(process: "subprocess.Popen[str]", announce: Path, log: Path) -> dict[str, Any]:
    """What it announces; its `ready` line is taken off standard output."""
    deadline = time.monotonic() + START_SECONDS
    while not announce.exists():
        assert process.poll() is None, f"the server ended with {process.returncode}: {log.read_text()[-2000:]}"
        assert time.monotonic() < deadline, "the server is not ready"
        time.sleep(0.02)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("ready ")
    facts: dict[str, Any] = json.loads(announce.read_text())
    return facts

"""What is read of a server from outside."""

import os
import time

from served import Running

from maskstream.load.endpoint import Endpoint
from maskstream.load.server_probe import HealthProbe, MemoryProbe, ServerProbe


def test_memory_and_time_of_a_process_here() -> None:
    probe = ServerProbe(pid=os.getpid())
    before = probe.rss_bytes()
    ballast = bytearray(b"x") * (64 * 2**20)
    after = probe.rss_bytes()
    assert before is not None
    assert after is not None
    assert after - before > 0.9 * len(ballast)
    spent = probe.cpu_seconds()
    assert spent is not None
    assert abs(spent - time.process_time()) < 1.0


def test_counts_come_from_metrics(running: Running) -> None:
    probe = ServerProbe(http=running.server.http)
    counts = probe.counts()
    assert counts["maskstream_streams_active", ""] == 0.0
    assert ("maskstream_frames_total", "answered") in counts
    assert probe.rss_bytes() is None, "this server shows no process of its own"


def test_a_server_without_metrics_has_no_counts() -> None:
    assert ServerProbe(http="127.0.0.1:1").counts() == {}
    assert ServerProbe().rss_bytes() is None
    assert ServerProbe().cpu_seconds() is None


def test_health_is_asked_in_a_steady_beat(running: Running) -> None:
    channel = Endpoint(running.server.listen).channel()
    probe = HealthProbe(channel)
    probe.start()
    time.sleep(0.7)
    probe.stop()
    channel.close()
    assert 4 <= len(probe.checks.seconds) <= 5
    assert probe.checks.failed == 0
    assert max(probe.checks.seconds) < 0.5


def test_a_server_that_is_not_there_fails_every_check() -> None:
    channel = Endpoint("127.0.0.1:1").channel()
    probe = HealthProbe(channel)
    probe.start()
    time.sleep(0.3)
    probe.stop()
    channel.close()
    assert probe.checks.failed == len(probe.checks.seconds) > 0


def test_memory_is_sampled_until_the_end() -> None:
    probe = MemoryProbe(ServerProbe(pid=os.getpid()), period_seconds=0.05)
    probe.start()
    time.sleep(0.2)
    probe.stop()
    times = [when for when, _ in probe.samples]
    assert len(times) >= 4
    assert times == sorted(times)

"""SIGTERM in the middle of a lossless load: every frame that was sent is answered or reported, the server ends well.

The streams do what the contract asks of a client and no more: on `Draining` they send nothing further and close. They
do not resume, for that would hide what this server lost.
"""

import contextlib
import signal
import threading
import time
from collections import Counter
from typing import Any

from maskstream.errors import StreamError
from maskstream.load.encoded_clip import EncodedClip
from maskstream.load.figures import frame_counts, percentiles
from maskstream.load.frame_record import ANSWERED, StreamRecord
from maskstream.load.own_server import OwnServer
from maskstream.load.plan import ClosedLoop, Load
from maskstream.load.stream_load import StreamLoad, opened_stream, wishes_of

_DEFAULT_GRACE_SECONDS = 10.0  # of a server whose settings do not say
_MARGIN_SECONDS = 15.0
_KNOCK_SECONDS = 0.1  # after the signal, a new stream is tried


def run_sigterm(server: OwnServer, load: Load, clip: EncodedClip) -> dict[str, Any]:
    """Load as fast as it is answered, signal after warm-up and `duration_seconds`, report; `clean` is the verdict."""
    with contextlib.ExitStack() as stack:
        streams = [opened_stream(stack, server.endpoint, wishes_of(load), clip) for _ in range(load.streams)]
        threads = [threading.Thread(target=s.run, args=[_endless()], daemon=True) for s in streams]
        for thread in threads:
            thread.start()
        time.sleep(load.warm_up_seconds + load.duration_seconds)
        signalled = time.perf_counter()
        server.process.send_signal(signal.SIGTERM)
        refusal = _knock(server, load, clip)
        deadline = signalled + float(server.settings.get("grace_seconds", _DEFAULT_GRACE_SECONDS)) + _MARGIN_SECONDS
        for stream, thread in zip(streams, threads, strict=True):
            thread.join(max(0.0, deadline - time.perf_counter()))
            stream.cancel()
            thread.join()
    status, exit_seconds = _exit(server, signalled, deadline)
    return sigterm_report([stream.record for stream in streams], signalled, refusal, status, exit_seconds)


def sigterm_report(
    records: list[StreamRecord], signalled: float, refusal: str, status: int | None, exit_seconds: float
) -> dict[str, Any]:
    """What happened; `refusal` is why a new stream was not opened, `status` the server's, None when it did not end."""
    frames = [frame for record in records for frame in record.frames]
    in_flight = [frame for frame in frames if frame.sent and frame.sent < signalled <= (frame.ended or signalled)]
    disagreements = [record.disagreement for record in records if record.disagreement]
    counted = frame_counts(records)
    told = sum(record.draining for record in records)
    late = [frame.ended - signalled for frame in frames if frame.ended and frame.outcome == ANSWERED]
    return {
        "streams": len(records),
        "told_to_leave": told,
        "closed_well": sum(record.closed is not None for record in records),
        "frames": counted,
        "in_flight_at_signal": len(in_flight),
        "answered_after_signal": sum(seconds > 0 for seconds in late),
        "last_answer_seconds": round(max(late, default=0.0), 3),
        "latency": percentiles([frame.latency for frame in frames if frame.outcome == ANSWERED]),
        "stream_errors": dict(Counter(record.error for record in records if record.error)),
        "new_stream_refused": refusal,
        "exit_status": status,
        "exit_seconds": round(exit_seconds, 3),
        "disagreements": disagreements,
        "clean": not counted["lost"] and not disagreements and status == 0 and told == len(records) and bool(refusal),
    }


def _endless() -> ClosedLoop:
    return ClosedLoop(until=float("inf"))


def _knock(server: OwnServer, load: Load, clip: EncodedClip) -> str:
    """Why a new stream is refused now; "" when it is not."""
    time.sleep(_KNOCK_SECONDS)
    with contextlib.closing(server.endpoint.channel()) as channel:
        stream = StreamLoad(channel, wishes_of(load), clip)
        try:
            stream.open()
        except StreamError as error:
            return error.reason
        stream.cancel()
        return ""


def _exit(server: OwnServer, signalled: float, deadline: float) -> tuple[int | None, float]:
    while server.process.poll() is None and time.perf_counter() < deadline:
        time.sleep(0.01)
    return server.process.poll(), time.perf_counter() - signalled

"""A load as it is reported: one JSON object with every figure, and a verdict on what must never be.

Frames are counted over the whole load, for none may be lost at any time; latencies, rates and shares are of frames that
were due in the measured part.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from maskstream.load.figures import (
    batch_sizes,
    frame_counts,
    jain_index,
    memory_figures,
    percentiles,
    stage_percentiles,
)
from maskstream.load.frame_record import ANSWERED, DROPPED, NOT_SENT, REFUSED, FrameRecord, frames_due
from maskstream.load.load_run import LoadOutcome

_OUTCOMES = (ANSWERED, DROPPED, REFUSED)
FRAMES_FAMILY, DROPPED_FAMILY = "maskstream_frames_total", "maskstream_frames_dropped_total"


def load_report(outcome: LoadOutcome, capacity_fps: float | None = None) -> dict[str, Any]:
    """Everything about one load; `capacity_fps` of all streams together makes ages comparable between machines."""
    load = outcome.load
    frames = list(frames_due(outcome.records, outcome.since, outcome.until))
    answered = [frame for frame in frames if frame.outcome == ANSWERED]
    latency = percentiles([frame.latency for frame in answered])
    missing = sum(frame.outcome in (DROPPED, NOT_SENT) for frame in frames)
    return {
        "streams": load.streams,
        "objects": load.objects,
        "size": f"{load.size[0]}x{load.size[1]}",
        "delivery": load.delivery,
        "max_frame_age_seconds": load.max_frame_age_seconds,
        "seconds": load.duration_seconds,
        "load": round(load.offered_fps / capacity_fps, 3) if capacity_fps else None,
        "offered_fps": round(load.offered_fps, 2),
        "answered_fps": round(answered_fps(outcome), 2),
        "frames": frame_counts(outcome.records),
        "drop_share": round(missing / max(1, len(frames)), 4),
        "latency": latency,
        "age_p99_periods": _age_periods(latency, capacity_fps, load.streams),
        "stages": stage_percentiles(answered),
        "fairness": _fairness(outcome),
        "batch_size": batch_sizes(answered),
        "health": {"checks": len(outcome.health.seconds), "failed": outcome.health.failed}
        | (percentiles(outcome.health.seconds) or {}),
        "memory": memory_figures(outcome.memory),
        "cpu": _cpu(outcome, len(frames)),
        "stream_errors": dict(Counter(record.error for record in outcome.records if record.error)),
        "hostile": {client.kind: {"streams": client.streams, "ends": dict(client.ends)} for client in outcome.hostile},
        "metrics_agree": metrics_agree(outcome),
        "disagreements": disagreements(outcome),
    }


def answered_fps(outcome: LoadOutcome) -> float:
    """Answers that came in the measured part, whenever their frames were due."""
    came = sum(
        frame.outcome == ANSWERED and outcome.since <= (frame.ended or 0.0) < outcome.until
        for record in outcome.records
        for frame in record.frames
    )
    return came / (outcome.until - outcome.since)


def disagreements(outcome: LoadOutcome) -> list[str]:
    """What the server says and what the client saw, where they differ; empty when all is well."""
    found = []
    for number, record in enumerate(outcome.records):
        found += [f"stream {number}: {text}" for text in _of_stream(record) if text]
    for what, (server, client) in _against_metrics(outcome).items():
        if server < client or (server > client and not outcome.hostile):
            found.append(f"/metrics counts {server:.0f} frames as {what}, the client {client}")
    return found


def metrics_agree(outcome: LoadOutcome) -> bool | None:
    """None when there are no metrics. Beside hostile clients, whose frames nobody knows, the server may count more."""
    compared = _against_metrics(outcome)
    if not compared:
        return None
    return all(server >= client if outcome.hostile else server == client for server, client in compared.values())


def _of_stream(record: Any) -> Sequence[str]:
    return (
        record.disagreement,
        f"{record.surplus_answers} answers to frames that waited for none" if record.surplus_answers else "",
        f"{record.disorder} results out of order" if record.disorder else "",
        "it ended without Closed" if record.closed is None and not record.error else "",
    )


def _against_metrics(outcome: LoadOutcome) -> dict[str, tuple[float, int]]:
    """(server, client) by outcome and by reason of a drop; empty without metrics."""
    before, after = outcome.counts_before, outcome.counts_after
    if (FRAMES_FAMILY, ANSWERED) not in before or (FRAMES_FAMILY, ANSWERED) not in after:
        return {}

    def rise(family: str, value: str) -> float:
        return after.get((family, value), 0.0) - before.get((family, value), 0.0)

    compared = {each: (rise(FRAMES_FAMILY, each), _count(outcome, each)) for each in _OUTCOMES}
    drops: Counter[str] = Counter()
    for record in outcome.records:
        drops.update(record.reasons(DROPPED))
    told = {value.upper() for family, value in after if family == DROPPED_FAMILY and rise(family, value)}
    for reason in sorted(told | set(drops)):
        compared[f"dropped, {reason}"] = (rise(DROPPED_FAMILY, reason.lower()), drops[reason])
    return compared


def _count(outcome: LoadOutcome, what: str) -> int:
    return sum(record.count(what) for record in outcome.records)


def _age_periods(latency: dict[str, float] | None, capacity_fps: float | None, streams: int) -> float | None:
    """p99 in frame periods of what the machine can do for each of the streams."""
    if latency is None or not capacity_fps:
        return None
    return round(latency["p99_ms"] / 1e3 * capacity_fps / streams, 3)


def _fairness(outcome: LoadOutcome) -> dict[str, Any]:
    def answered(frames: Sequence[FrameRecord]) -> int:
        return sum(frame.outcome == ANSWERED and outcome.since <= frame.due < outcome.until for frame in frames)

    amounts = [answered(record.frames) for record in outcome.records]
    return {"jain": round(jain_index(amounts), 5), "least_answered": min(amounts), "most_answered": max(amounts)}


def _cpu(outcome: LoadOutcome, frames: int) -> dict[str, Any]:
    client, server, wall = outcome.cpu.client, outcome.cpu.server, outcome.cpu.wall
    return {
        "client_seconds": round(client, 3),
        "server_seconds": None if server is None else round(server, 3),
        "wall_seconds": round(wall, 3),
        "client_share": None if not server else round(client / (client + server), 4),
        "client_ms_per_frame": round(1e3 * client / max(1, frames), 3),
    }

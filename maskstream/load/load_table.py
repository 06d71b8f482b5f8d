"""Loads as tables: one line a load, then the server's stages side by side."""

from collections.abc import Sequence
from typing import Any

from maskstream.report import STAGES
from maskstream.tables import Table

_MIB = "MiB"


def load_table(loads: Sequence[dict[str, Any]]) -> Table:
    """One line a load; latencies in ms, from the time a frame was due until its answer was there."""
    headers = [
        *("load", "streams", "offered/s", "answered/s", "drop %", "p50", "p90", "p95", "p99", "p99.9"),
        *("age/period", "Jain", "batch", "health p99", "max", "client CPU %", _MIB, "lost"),
    ]
    return Table(headers, [_line(load) for load in loads])


def _line(load: dict[str, Any]) -> list[object]:
    latency, memory = load["latency"] or {}, load["memory"] or {}
    share, fraction = load["cpu"]["client_share"], load["load"]
    return [
        f"{fraction:.2f}x" if fraction else "as given",
        load["streams"],
        load["offered_fps"],
        load["answered_fps"],
        100 * load["drop_share"],
        *(latency.get(f"p{rank}_ms") for rank in (50, 90, 95, 99, 99.9)),
        load["age_p99_periods"],
        f"{load['fairness']['jain']:.4f}",
        load["batch_size"]["mean"],
        load["health"].get("p99_ms"),
        load["health"].get("max_ms"),
        None if share is None else 100 * share,
        memory.get("end_mib"),
        load["frames"]["lost"],
    ]


def stages_table(loads: Sequence[dict[str, Any]]) -> Table:
    """p50 / p99 in ms of each stage in the server, a column a load."""
    names = [stage for stage in STAGES if any(stage in load["stages"] for load in loads)]
    headers = ["stage p50 / p99 ms", *(f"{load['offered_fps']:.1f}/s" for load in loads)]
    return Table(headers, [[name, *(_times(load, name) for load in loads)] for name in names])


def _times(load: dict[str, Any], stage: str) -> str | None:
    times = load["stages"].get(stage)
    return None if times is None else f"{times['p50_ms']:.1f} / {times['p99_ms']:.1f}"


def remarks(load: dict[str, Any]) -> list[str]:
    """What a reader must not overlook: why frames have no answer, what ended badly, what does not add up."""
    frames = load["frames"]
    kinds = [(kind, frames[kind]) for kind in ("dropped", "refused", "not_sent") if frames[kind]]
    said = [f"{kind}: " + ", ".join(f"{count} {reason}" for reason, count in of.items()) for kind, of in kinds]
    if frames["lost"]:
        said.append(f"LOST: {frames['lost']} frames were sent and have neither an answer nor a notice")
    if load["stream_errors"]:
        said.append("streams ended: " + ", ".join(f"{n} {reason}" for reason, n in load["stream_errors"].items()))
    said += [f"MISMATCH: {text}" for text in load["disagreements"]]
    for kind, what in load["hostile"].items():
        ends = ", ".join(f"{count} {reason}" for reason, count in what["ends"].items())
        said.append(f"hostile {kind}: {what['streams']} streams{', ended: ' + ends if ends else ''}")
    return said

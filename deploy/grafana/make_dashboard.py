"""Writes maskstream.json, the Grafana dashboard: `python deploy/grafana/make_dashboard.py`, then import the file.

What a panel shows is said here in a line; where it stands and what Grafana wants beside it is worked out. A dashboard
edited by hand in the browser is a thousand lines that nobody reviews. A test holds the file to this script.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

JOB, HERE = 'job="$job"', 'job="$job",instance=~"$instance"'
WIDTH, HEIGHT = 24, 8  # of the grid, and of a panel, in Grafana's units
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
BUDGET = "maskstream:frame_budget_seconds"


@dataclass(frozen=True)
class Panel:
    """`queries` are legend and expression; `unit` is Grafana's name for it."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    text: str = ""
    kind: str = "timeseries"
    most: float | None = None  # upper end of the axis
    stacked: bool = False


def rate(name: str, by: str, where: str = HERE) -> str:
    """Increase a second of a counter, by some labels."""
    return f"sum by ({by}) (rate({name}{{{where}}}[$__rate_interval]))"


def policies(rule: str) -> str:
    """A recorded figure that is kept by delivery policy."""
    return f"job_policy:maskstream_{rule}{{{JOB}}}"


ROWS: dict[str, tuple[Panel, ...]] = {
    "Are we in budget": (
        Panel(
            "Time of a frame",
            "s",
            (
                ("p50 {{policy}}", policies("frame_seconds:p50")),
                ("p95 {{policy}}", policies("frame_seconds:p95")),
                ("p99 {{policy}}", policies("frame_seconds:p99")),
                ("budget", BUDGET),
            ),
            "From its arrival until its answer was written. The budget is a recording rule and meant for live streams.",
        ),
        Panel(
            "Frames within 16.7, 33.3 and 66.7 ms",
            "percentunit",
            tuple(
                (f"{ms.replace('_', '.')} {{{{policy}}}}", policies(f"frames_within_{ms}:ratio"))
                for ms in ("16_7ms", "33_3ms", "66_7ms")
            ),
            "Counted exactly: these are bounds of buckets.",
            most=1,
        ),
        Panel(
            "Mean time of a stage",
            "s",
            (("{{stage}}", f'job_stage:maskstream_stage_seconds:mean{{{JOB},stage!="total"}}'),),
            stacked=True,
        ),
        Panel(
            "Where the time goes",
            "s",
            (("{{le}}", f"sum by (le) (increase(maskstream_frame_seconds_bucket{{{HERE}}}[$__rate_interval]))"),),
            kind="heatmap",
        ),
    ),
    "Age and drops": (
        Panel(
            "Age of masks",
            "s",
            (
                ("p50", f"job:maskstream_frame_age_seconds:p50{{{JOB}}}"),
                ("p99", f"job:maskstream_frame_age_seconds:p99{{{JOB}}}"),
            ),
            "From a frame's capture until its answer was written, for frames that say when they were taken.",
        ),
        Panel("Frames", "ops", (("{{outcome}}", rate("maskstream_frames_total", "outcome")),), stacked=True),
        Panel(
            "Share of dropped frames",
            "percentunit",
            (("dropped", f"job:maskstream_frames_dropped:ratio{{{JOB}}}"),),
            most=1,
        ),
        Panel(
            "Dropped and refused, by reason",
            "ops",
            (
                ("dropped: {{reason}}", rate("maskstream_frames_dropped_total", "reason")),
                ("refused: {{reason}}", rate("maskstream_requests_refused_total", "reason")),
                ("clock {{clock}}", rate("maskstream_clock_skew_total", "clock")),
            ),
        ),
    ),
    "Streams and slots": (
        Panel(
            "Streams",
            "short",
            (
                ("{{instance}}", f"maskstream_streams_active{{{HERE}}}"),
                ("slots", f"sum(maskstream_stream_slots{{{HERE}}})"),
                ("objects", f"sum(maskstream_objects_active{{{HERE}}})"),
            ),
        ),
        Panel(
            "Slots taken",
            "percentunit",
            (("all replicas", f"job:maskstream_slots_used:ratio{{{JOB}}}"),),
            kind="stat",
            most=1,
        ),
        Panel(
            "Streams opened, ended and refused",
            "ops",
            (
                ("opened {{policy}}", rate("maskstream_streams_opened_total", "policy")),
                ("ended: {{end_reason}}", rate("maskstream_streams_total", "end_reason")),
                ("refused: {{reason}}", rate("maskstream_stream_rejected_total", "reason")),
            ),
        ),
        Panel(
            "Prompts, snapshots and resumes",
            "ops",
            (
                ("prompt: {{kind}}", rate("maskstream_prompts_total", "kind")),
                ("snapshot {{outcome}}", rate("maskstream_snapshots_total", "outcome")),
                ("resume {{outcome}}", rate("maskstream_resumes_total", "outcome")),
            ),
        ),
    ),
    "Engine and batch": (
        Panel(
            "Engine busy",
            "percentunit",
            (("{{instance}}", f"instance:maskstream_engine_busy:ratio{{{HERE}}}"),),
            "Share of the time that the engine thread works. At 1 more streams mean dropped frames.",
            most=1,
        ),
        Panel(
            "Frames in a turn",
            "short",
            (("mean", f"job:maskstream_batch_size:mean{{{JOB}}}"),),
            "Frames of different streams that share a run of the networks.",
        ),
        Panel(
            "Waiting",
            "short",
            (
                ("for the engine", f"sum(maskstream_ready_frames{{{HERE}}})"),
                ("to be decoded", f"sum(maskstream_decode_queue{{{HERE}}})"),
            ),
            "Streams, for each has one frame at most in a line.",
        ),
        Panel(
            "Phase, faults and model",
            "short",
            (
                ("{{instance}} {{phase}}", f"maskstream_admission_phase{{{HERE}}} == 1"),
                ("{{instance}} stuck", f"maskstream_engine_stuck{{{HERE}}}"),
                ("{{instance}} hot swaps", f"maskstream_model_generation{{{HERE}}}"),
                (
                    "{{instance}} {{model_version}} {{backend}} {{precision}} {{version}}",
                    f"maskstream_build_info{{{HERE}}}",
                ),
            ),
        ),
        Panel(
            "Time of a turn, p99",
            "s",
            (
                (
                    "{{instance}}",
                    f"histogram_quantile(0.99, {rate('maskstream_engine_turn_seconds_bucket', 'instance, le')})",
                ),
            ),
        ),
    ),
    "Memory bank": (
        Panel(
            "Bank taken",
            "percentunit",
            (("{{instance}}", f"instance:maskstream_bank_used:ratio{{{HERE}}}"),),
            most=1,
        ),
        Panel(
            "Blocks", "short", (("{{state}}", f"sum by (state) (maskstream_memory_blocks{{{HERE}}})"),), stacked=True
        ),
        Panel(
            "Slots given up, objects not stored",
            "ops",
            (
                ("evicted: {{role}}", rate("maskstream_memory_evictions_total", "role")),
                ("not stored: {{reason}}", rate("maskstream_memory_writes_skipped_total", "reason")),
            ),
        ),
    ),
    "Host and loop": (
        Panel(
            "The event loop is late by, p99",
            "s",
            (("{{instance}}", f"instance:maskstream_loop_lag_seconds:p99{{{HERE}}}"),),
        ),
        Panel("Processor", "short", (("{{instance}}", rate("process_cpu_seconds_total", "instance")),), "Cores."),
        Panel("Memory", "bytes", (("{{instance}}", f"process_resident_memory_bytes{{{HERE}}}"),)),
        Panel(
            "Log records lost",
            "ops",
            (
                ("{{instance}} dropped", rate("maskstream_log_records_dropped_total", "instance")),
                ("{{instance}} suppressed", rate("maskstream_log_records_suppressed_total", "instance")),
            ),
            "Dropped: the log cannot be written. Suppressed: one message came too often.",
        ),
    ),
}


def dashboard() -> dict[str, Any]:
    """All of it, as Grafana imports it."""
    return {
        "title": "maskstream",
        "uid": "maskstream",
        "description": "Video object segmentation as a stream. Made by deploy/grafana/make_dashboard.py.",
        "tags": ["maskstream"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_datasource(), _variable("job", "Job", ""), _variable("instance", "Replica", JOB)]},
        "panels": _placed(),
    }


def _placed() -> list[dict[str, Any]]:
    """Rows and panels, numbered and in their places; the panels of a row share its width."""
    placed: list[dict[str, Any]] = []
    top = 0
    for title, panels in ROWS.items():
        place = {"h": 1, "w": WIDTH, "x": 0, "y": top}
        placed.append(
            {"id": len(placed) + 1, "type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []}
        )
        top += 1
        width = WIDTH // (len(panels) if len(panels) <= 4 else -(-len(panels) // 2))
        for number, panel in enumerate(panels):
            line, column = divmod(number, WIDTH // width)
            place = {"h": HEIGHT, "w": width, "x": column * width, "y": top + line * HEIGHT}
            placed.append({"id": len(placed) + 1, "gridPos": place, **_panel(panel)})
        top += HEIGHT * -(-len(panels) // (WIDTH // width))
    return placed


def _panel(panel: Panel) -> dict[str, Any]:
    heatmap = panel.kind == "heatmap"
    targets = [
        {
            "refId": chr(ord("A") + number),
            "datasource": DATASOURCE,
            "expr": expression,
            "legendFormat": legend,
            "format": "heatmap" if heatmap else "time_series",
        }
        for number, (legend, expression) in enumerate(panel.queries)
    ]
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0}
    if panel.most is not None:
        defaults["max"] = panel.most
    if panel.stacked:
        defaults["custom"] = {"stacking": {"mode": "normal"}, "fillOpacity": 30}
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": DATASOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": OPTIONS[panel.kind](panel.unit),
    }


# Most series of closed label sets stay at 0, so a legend begins with those that do not.
OPTIONS: dict[str, Callable[[str], dict[str, Any]]] = {
    "timeseries": lambda _: {
        "legend": {
            "showLegend": True,
            "displayMode": "table",
            "placement": "bottom",
            "calcs": ["max", "lastNotNull"],
            "sortBy": "Max",
            "sortDesc": True,
        },
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "heatmap": lambda unit: {"calculate": False, "yAxis": {"unit": unit}},
    "stat": lambda _: {"graphMode": "area", "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}},
}


def _datasource() -> dict[str, Any]:
    return {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def _variable(name: str, label: str, where: str) -> dict[str, Any]:
    """A choice among the values that a label has; of replicas all, to begin with."""
    every = {"current": {"text": ["All"], "value": ["$__all"]}} if name == "instance" else {}
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "query": f"label_values(maskstream_stream_slots{{{where}}}, {name})",
        "refresh": 2,
        "multi": name == "instance",
        "includeAll": name == "instance",
        **every,
    }


if __name__ == "__main__":
    Path(__file__).with_name("maskstream.json").write_text(json.dumps(dashboard(), indent=1) + "\n")

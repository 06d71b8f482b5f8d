"""What `maskstream bench serve` measures, one function a kind: run, print, write, and tell by the exit status if all is
well. The figures themselves are made in maskstream.load.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from maskstream.artifact import default_artifact
from maskstream.load.encoded_clip import EncodedClip
from maskstream.load.endpoint import Endpoint
from maskstream.load.load_plot import plot_loads
from maskstream.load.load_report import answered_fps, load_report
from maskstream.load.load_run import run_load
from maskstream.load.load_table import load_table, remarks, stages_table
from maskstream.load.overhead import bare_tracker, compare
from maskstream.load.own_server import OwnServer, ServerWishes
from maskstream.load.plan import LOSSLESS, Load
from maskstream.load.sigterm import run_sigterm
from maskstream.load.soak import SoakPlan, run_soak
from maskstream.load.tracker_rounds import RoundsRequest
from maskstream.report import write_report
from maskstream.tables import Table, print_table

INTERRUPTED = 130
_CAPACITY_SECONDS = 10.0  # at most, of the closed loop that shows what the machine can do


@dataclass(frozen=True)
class Bench:
    """What every kind of measurement needs. `load` holds all but the number of streams and their rate."""

    endpoint: Endpoint
    facts: dict[str, Any]  # about the server
    load: Load
    clip: EncodedClip
    wishes: ServerWishes
    own: OwnServer | None  # None: somebody else's


@dataclass(frozen=True)
class Sweep:
    """Numbers of streams, each with every load: shares of what the machine can do, or the `fps` of a stream."""

    streams: Sequence[int]
    shares: Sequence[float]
    fps: float | None = None


def loads(bench: Bench, sweep: Sweep, json: Path | None, plot: Path | None) -> int:
    """Every load of the sweep. Ctrl-C reports those that are through."""
    print(_headline(bench))
    reports: list[dict[str, Any]] = []
    capacities: dict[str, list[float]] = {}
    status = 0
    try:
        for streams in sweep.streams:
            _sweep(bench, replace(bench.load, streams=streams), sweep, reports, capacities)
    except KeyboardInterrupt:
        print("stopped early")
        status = INTERRUPTED
    if reports:
        _print_loads(reports)
    if json:
        write_report(json, {"server": bench.facts, "capacity_fps": capacities, "loads": reports})
    if plot:
        _plot(plot, reports, bench)
    bad = any(report["frames"]["lost"] or report["disagreements"] for report in reports)
    return status or int(bad or not reports)


def _sweep(
    bench: Bench, load: Load, sweep: Sweep, reports: list[dict[str, Any]], capacities: dict[str, list[float]]
) -> None:
    """The loads of one number of streams, between two looks at what the machine can do: on a busy one they differ."""
    if sweep.fps:
        reports.append(_one_load(bench, replace(load, fps=sweep.fps), None))
        return
    seen = capacities[str(load.streams)] = [_capacity(bench, load)]
    for share in sweep.shares:
        reports.append(_one_load(bench, replace(load, fps=share * seen[0] / load.streams), seen[0]))
    seen.append(_capacity(bench, load))
    print(f"{load.streams} streams in a closed loop: {seen[0]:.2f} frames/s before the loads, {seen[1]:.2f} after them")


def _capacity(bench: Bench, load: Load) -> float:
    """Frames/s of all streams together when each sends as fast as it is answered."""
    seconds = min(load.duration_seconds, _CAPACITY_SECONDS)
    closed = replace(load, delivery=LOSSLESS, max_frame_age_seconds=None, duration_seconds=seconds, hostile=())
    _say(f"{load.streams} streams in a closed loop for {closed.warm_up_seconds + seconds:.0f} s")
    return round(answered_fps(run_load(bench.endpoint, closed, bench.clip, closed_loop=True)), 3)


def _one_load(bench: Bench, load: Load, capacity: float | None) -> dict[str, Any]:
    _say(f"{load.streams} streams x {load.fps:.2f} frames/s for {load.warm_up_seconds + load.duration_seconds:.0f} s")
    return load_report(run_load(bench.endpoint, load, bench.clip), capacity)


def _print_loads(reports: Sequence[dict[str, Any]]) -> None:
    print("\nlatency in ms, from the time a frame was due until its answer was there")
    print_table(load_table(reports))
    print()
    print_table(stages_table(reports))
    for report in reports:
        for remark in remarks(report):
            print(f"{report['streams']} streams, {report['offered_fps']} frames/s: {remark}")
    if all(report["metrics_agree"] for report in reports):
        print("the server's notices, its own counts and its /metrics agree")


def _plot(path: Path, reports: Sequence[dict[str, Any]], bench: Bench) -> None:
    """A picture for each number of streams."""
    numbers = sorted({report["streams"] for report in reports})
    for number in numbers:
        chosen = [report for report in reports if report["streams"] == number]
        file = path if len(numbers) == 1 else path.with_stem(f"{path.stem}-{number}")
        first = chosen[0]
        what = f"{number} x {first['delivery']}, {first['size']}, objects: {first['objects']}"
        plot_loads(file, chosen, f"{what}; {bench.facts['engine']} {bench.facts['precision']}")
        print(f"wrote {file}")


def soak(bench: Bench, plan: SoakPlan, json: Path | None) -> int:
    """Memory and step time over a long time."""
    print(_headline(bench))
    report = run_soak(bench.endpoint, plan, bench.clip)
    streams = [("lossless", report["lossless"]), ("latest", report["latest"])]
    headers = ["stream", "offered", "answered", "dropped", "lost", "p50 ms", "p99 ms"]
    print_table(Table(headers, [_soaked(name, counted, report["latency"][name]) for name, counted in streams]))
    print(f"streams opened and closed meanwhile: {report['churn']['streams']}, lost {report['churn']['lost']}")
    if report["memory"]:
        print(_memory_line(report["memory"]))
    if report["step"]:
        print(_step_line(report["step"]))
    if report["beside_a_new_stream"]:
        print(_beside_line(report["beside_a_new_stream"]))
    for text in report["disagreements"]:
        print(f"MISMATCH: {text}")
    if json:
        write_report(json, {"server": bench.facts, "soak": report})
    bad = bool(report["lost"] or report["disagreements"] or report["lossless"]["error"] or report["latest"]["error"])
    return INTERRUPTED if report["stopped_early"] and not bad else int(bad)


def _memory_line(memory: dict[str, Any]) -> str:
    slope, confidence = memory["slope_mib_per_hour"], memory["slope_confidence_mib_per_hour"]
    rate = "too short for a slope" if slope is None else f"{slope:+.2f} +- {confidence:.2f} MiB an hour (95%)"
    return f"memory after warm-up: {memory['start_mib']} to {memory['end_mib']} MiB, {rate}"


def _beside_line(beside: dict[str, Any]) -> str:
    return (
        f"beside a new stream, turn about: {beside['old_p50_ms']} ms, the new one {beside['new_p50_ms']} ms "
        f"({beside['frames']} frames each), {beside['old_over_new']:.3f} times"
    )


def _step_line(step: dict[str, Any]) -> str:
    first, last, window = step["first_p50_ms"], step["last_p50_ms"], step["window"]
    return (
        f"step of the lossless stream: {first} ms (first {window}), {last} ms (last {window} of {step['frames']}), "
        f"{step['last_over_first']:.3f} times"
    )


def _soaked(name: str, counted: dict[str, Any], latency: dict[str, float] | None) -> list[object]:
    times = latency or {}
    dropped = sum(counted["dropped"].values())
    return [
        *(name, counted["offered"], counted["answered"], dropped, counted["lost"]),
        *(times.get("p50_ms"), times.get("p99_ms")),
    ]


def sigterm(bench: Bench, json: Path | None) -> int:
    """Whether a drain loses anything."""
    assert bench.own is not None, "checked with the arguments"
    print(_headline(bench))
    report = run_sigterm(bench.own, bench.load, bench.clip)
    frames = report["frames"]
    reported = sum(frames["dropped"].values()) + sum(frames["refused"].values())
    print(f"{report['streams']} lossless streams; SIGTERM with {report['in_flight_at_signal']} frames in flight")
    print(f"sent {frames['sent']} = answered {frames['answered']} + reported {reported} + lost {frames['lost']}")
    print(f"told to leave: {report['told_to_leave']} streams, closed well: {report['closed_well']}")
    print(f"last answer after {report['last_answer_seconds']:.2f} s", end=", ")
    print(f"exit status {report['exit_status']} after {report['exit_seconds']:.2f} s")
    print(f"a new stream meanwhile: {report['new_stream_refused'] or 'OPENED'}")
    for text in report["disagreements"]:
        print(f"MISMATCH: {text}")
    print("clean" if report["clean"] else "NOT CLEAN")
    if json:
        write_report(json, {"server": bench.facts, "sigterm": report})
    return int(not report["clean"])


def against_tracker(bench: Bench, rounds: int, json: Path | None) -> int:
    """What the server costs on top of its tracker."""
    assert bench.own is not None, "checked with the arguments"
    print(_headline(bench))
    settings, (height, width) = bench.own.settings, bench.load.size
    request = RoundsRequest(
        artifact=str(settings.get("artifact", default_artifact())),
        engine=bench.wishes.engine,
        threads=int(settings.get("threads", 0)),
        height=height,
        width=width,
        objects=bench.load.objects,
        short_side=int(settings["short_side"]),
    )
    served = (bench.facts["engine"], bench.facts["precision"])
    with bare_tracker(request, served) as steps:
        report = compare(bench.endpoint, bench.clip, steps, rounds, bench.load.duration_seconds)
    headers = [
        "round",
        "tracker fps",
        "served fps",
        "ratio",
        "tracker p50 ms",
        "latency p50 ms",
        "added ms",
        "around ms",
    ]
    lines = [[number, *each.values()] for number, each in enumerate(report["rounds"], start=1)]
    print_table(Table(headers, [*lines, ["median", *(report[name] for name in report["rounds"][0])]]))
    quiet = report["undisturbed"]
    print(
        f"one lossless stream: {report['fps_ratio']:.3f} of the bare tracker's frames/s "
        f"(undisturbed {quiet['fps_ratio']:.3f})"
    )
    print(
        f"one frame at a time: {report['added_p50_ms']:+.2f} ms p50 against a step of the bare tracker "
        f"(undisturbed {quiet['added_ms']:+.2f} ms)"
    )
    print(f"outside the step of the very frame, in the server and on the way: {report['around_p50_ms']:.2f} ms p50")
    if json:
        write_report(json, {"server": bench.facts, "against_tracker": report})
    return 0


def _headline(bench: Bench) -> str:
    facts, load = bench.facts, bench.load
    return (
        f"{facts['model']}, engine {facts['engine']} {facts['precision']}, frames {load.size[0]}x{load.size[1]}, "
        f"objects of a stream: {load.objects}"
    )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)

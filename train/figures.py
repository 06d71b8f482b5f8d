"""The figures of a run: how each loss began and where it is, the gates, and the one line that belongs into the log."""

import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

SMOOTHING = 0.95  # of the running means; a single step says little


class Figures:
    """First value and running mean of every loss by stage, and the scores after stages; kept with the run's state."""

    def __init__(self, kept: Mapping[str, Any] | None = None) -> None:
        kept = kept or {}
        self._losses: dict[str, dict[str, list[float]]] = kept.get("losses", {})
        self.gates: list[dict[str, Any]] = kept.get("gates", [])

    def state(self) -> dict[str, Any]:
        """What `__init__` takes."""
        return {"losses": self._losses, "gates": self.gates}

    def add(self, stage: str, losses: Mapping[str, float]) -> None:
        """Count one step."""
        kept = self._losses.setdefault(stage, {})
        for name, value in losses.items():
            first, mean, count = kept.get(name, (value, 0.0, 0))
            weight = max(1 / (count + 1), 1 - SMOOTHING)  # the plain mean until there is enough to smooth
            kept[name] = [first, mean + weight * (value - mean), count + 1]

    def lines(self) -> list[str]:
        """One line for each stage and each gate."""
        width = max((len(stage) for stage in self._losses), default=0)
        learnt = [
            f"{stage:<{width}}  "
            + ", ".join(f"{name} {first:.3f} to {mean:.3f}" for name, (first, mean, _) in kept.items())
            for stage, kept in self._losses.items()
        ]
        return learnt + [f"J&F after {gate['name']}: {_scores(gate)}" for gate in self.gates]


def _scores(gate: Mapping[str, Any]) -> str:
    return ", ".join(f"{kind} {value}" for kind, value in gate.items() if kind not in ("stage", "name"))


def log_line(command: list[str], origin: Mapping[str, Any], outcome: str, minutes: float, figures: Figures) -> str:
    """One line of Markdown that says what was run, on what, and what came out, to be pasted into train/LOG.md."""
    hardware, revision = origin["hardware"], origin["git_revision"] or "none"
    machine = ", ".join([f"{hardware['cores']} cores {hardware['cpu']}", *hardware["gpus"]])
    parts = [
        f"{datetime.now(tz=UTC):%Y-%m-%d}: `{shlex.join(command)}`",
        f"{len(origin['clips'])} clips, {origin['frames']:,} frames",
        f"{outcome} after {minutes:.1f} min, {origin['computed']}",
        *(" ".join(line.split()) for line in figures.lines()),
        f"machine: {machine}",
        f"revision {revision}",
    ]
    return "- " + "; ".join(parts) + "\n"

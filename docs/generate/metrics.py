"""Every Prometheus family of the server, from a registry like its own, and the alerts, from the rules file.

A fresh server shows all series of closed label sets at 0, so one look at it gives the names, labels and values.
"""

from typing import Any

import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from generate import ROOT, cell, table
from serve.metrics import Identity, Metrics

RULES = ROOT / "deploy/prometheus/rules"
FREE = "any"  # the value shown of labels that are not from a closed set


def families() -> list[Metric]:
    """All families, each with at least the series it starts with."""
    metrics = Metrics(CollectorRegistry())
    metrics.set_identity(Identity(FREE, FREE, FREE, FREE, FREE))
    return [family for family in metrics.registry.collect() if family.name.startswith("maskstream")]


def page() -> str:
    """The whole reference, Markdown."""
    rows = [
        (f"`{_exposed(family)}`", family.type, _labels(family), _buckets(family), cell(family.documentation))
        for family in families()
    ]
    return "\n".join([
        "# Metrics and alerts\n",
        "All families of the server, from its own registry. What to watch is in [Metrics](../metrics.md), what to do "
        "in [Operations](../operations.md).\n",
        "## Families\n",
        table(("family", "type", "labels", "buckets", ""), rows),
        "## Alerts\n",
        "From `deploy/prometheus/rules/alerts.yml`; each leads to what to do about it.\n",
        table(("alert", "severity", "for", "says"), [_alert(rule) for rule in _rules("alerts.yml")]),
        "## Recording rules\n",
        "From `deploy/prometheus/rules/recording.yml`.\n",
        table(("series", "expression"), [_record(rule) for rule in _rules("recording.yml")]),
    ])  # fmt: skip


def _exposed(family: Metric) -> str:
    return f"{family.name}_total" if family.type == "counter" else family.name


def _labels(family: Metric) -> str:
    values: dict[str, list[str]] = {}
    for sample in family.samples:
        for label, value in sample.labels.items():
            if label != "le" and value not in values.setdefault(label, []):
                values[label].append(value)
    return "; ".join(f"`{label}`: {', '.join(each)}" for label, each in values.items())


def _buckets(family: Metric) -> str:
    bounds = {sample.labels["le"]: float(sample.labels["le"]) for sample in family.samples if "le" in sample.labels}
    return ", ".join(f"{bound:g}" for bound in sorted(bounds.values()))


def _rules(name: str) -> list[dict[str, Any]]:
    groups = yaml.safe_load((RULES / name).read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def _alert(rule: dict[str, Any]) -> tuple[str, ...]:
    runbook = rule["annotations"]["runbook"].removeprefix("docs/")
    link = f"[{rule['alert']}](../{runbook})"
    return (link, rule["labels"]["severity"], str(rule.get("for", "at once")), cell(rule["annotations"]["summary"]))


def _record(rule: dict[str, Any]) -> tuple[str, ...]:
    return (f"`{rule['record']}`", f"`{' '.join(str(rule['expr']).split())}`".replace("|", "\\|"))

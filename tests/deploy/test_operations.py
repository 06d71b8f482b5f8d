"""docs/operations.md against what it talks about: alerts, settings, metrics, files. Flags: tests/test_documents.py."""

import re
import tomllib
from dataclasses import fields
from pathlib import Path

import yaml
from prometheus_client import CollectorRegistry
from proxies import DEPLOY

from serve.config import Limits, ServeConfig, load_config
from serve.metrics import Metrics

GUIDE = DEPLOY.parent / "docs/operations.md"
TEXT = GUIDE.read_text()


def alerts() -> dict[str, str]:
    """Runbook by name."""
    files = sorted((DEPLOY / "prometheus/rules").glob("*.yml"))
    groups = [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    rules = [rule for group in groups for rule in group["rules"] if "alert" in rule]
    return {rule["alert"]: rule["annotations"]["runbook"] for rule in rules}


def test_every_alert_has_its_section_and_every_section_its_alert() -> None:
    sections = re.findall(r"^### (\w+)$", TEXT, re.MULTILINE)
    assert sorted(sections) == sorted(alerts())
    for name, runbook in alerts().items():
        assert runbook == f"docs/operations.md#{name.lower()}"


def test_the_settings_of_the_replicas_can_be_loaded(tmp_path: Path) -> None:
    (written,) = re.findall(r"<<EOF\n(.*?)EOF", TEXT, re.DOTALL)
    file = tmp_path / "replica1.toml"
    (tmp_path / "tokens.toml").write_text("")
    text = written.replace("$((3 + n))", "4").replace("$n", "1").replace("tokens.toml", str(tmp_path / "tokens.toml"))
    file.write_text(text)
    config = load_config(file, {})
    assert (config.listen, config.http) == ("127.0.0.1:50051", "127.0.0.1:9464")
    assert tomllib.loads(text)["auth"]
    assert f"server {config.listen} max_conns={config.max_streams} " in (DEPLOY / "nginx/maskstream.conf").read_text()


def test_files_it_names_exist() -> None:
    named = set(re.findall(r"deploy/[\w@./-]*\w", TEXT))
    assert len(named) > 8
    assert [name for name in sorted(named) if not (DEPLOY.parent / name).exists()] == []


def test_settings_it_names_exist() -> None:
    known = {field.name for owner in (ServeConfig, Limits) for field in fields(owner)}
    snake = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)(?: = [^`]*)?`", TEXT))
    others = {"stop_grace_period", "max_conns", "max_fails", "client_max_body_size", "worker_shutdown_timeout"}
    others |= {"http2_body_preread_size", "client_body_buffer_size", "too_many_pings", "max_frame_age"}
    others |= {"encode_frame", "too_old"}  # a stage, a reason
    metrics = {name for name in snake if name.startswith("maskstream_")}
    assert snake - known - others - metrics == set()


def test_metrics_it_names_exist() -> None:
    registry = CollectorRegistry()
    Metrics(registry)
    served = {metric.name for metric in registry.collect()}
    rules = yaml.safe_load((DEPLOY / "prometheus/rules/recording.yml").read_text())
    recorded = {rule["record"] for group in rules["groups"] for rule in group["rules"]}
    named = set(re.findall(r"`([\w:]*maskstream[:_]\w[\w:]*)`", TEXT))
    assert len(named) > 3
    assert named - served - recorded == set()

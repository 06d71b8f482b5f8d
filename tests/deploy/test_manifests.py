"""The manifests for Kubernetes, compose and systemd against what they start: flags, settings, ports, paths, metrics.

Schemas are those of the package kubernetes-validate; kinds of operators (CRDs) are in none and are read with care only.
"""

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from argparse import Namespace
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from prometheus_client import CollectorRegistry
from proxies import DEPLOY, need

from serve.__main__ import build_parser
from serve.config import ServeConfig, load_config
from serve.http_endpoint import HttpEndpoint, split_address
from serve.metrics import Metrics
from serve.service import SERVICE_NAME

KUBERNETES, COMPOSE, SYSTEMD = DEPLOY / "kubernetes", DEPLOY / "compose", DEPLOY / "systemd/maskstream@.service"
MARGIN_SECONDS = 5  # beyond the grace period, for the process to end
BASELINE_MIB = 1280  # of a server beside its bank: docs/operations.md has the measurement
OPERATORS = (
    "monitoring.coreos.com/",
    "gateway.networking.k8s.io/",
    "gateway.envoyproxy.io/",
    "kustomize.config.k8s.io/",
)
VERSIONS = ("1.30", "1.37")  # the oldest that the text names, and the newest


def documents(file: Path) -> list[Any]:
    return [document for document in yaml.safe_load_all(file.read_text()) if document]


def manifests(*folders: str) -> Iterator[Any]:
    for folder in folders:
        for file in sorted((KUBERNETES / folder).glob("*.yaml")):
            if file.name not in ("kustomization.yaml", "prometheus-adapter.yaml"):
                yield from documents(file)


def one(kind: str, name: str = "maskstream") -> Any:
    everything = manifests("base", "monitoring", "gateway")
    (found,) = (m for m in everything if (m["kind"], m["metadata"]["name"]) == (kind, name))
    return found


@pytest.fixture(scope="module")
def pod() -> Any:
    return one("Deployment")["spec"]["template"]


@pytest.fixture(scope="module")
def container(pod: Any) -> Any:
    return pod["spec"]["containers"][0]


def settings(arguments: list[str], config: Path) -> ServeConfig:
    """As the server would have them, with `config` where the file lies here."""
    flags: Namespace = build_parser().parse_args(arguments)
    given = {name: value for name, value in vars(flags).items() if name in {"listen", "http"}}
    assert flags.config is not None
    return load_config(config, given)


@pytest.fixture(scope="module")
def served(container: Any) -> ServeConfig:
    return settings(container["args"], KUBERNETES / "base/serve.toml")


def test_every_file_can_be_read() -> None:
    files = sorted(DEPLOY.rglob("*.y*ml"))
    assert len(files) > 15
    assert [file for file in files if not documents(file)] == []


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_own_schema_takes_every_manifest(version: str) -> None:
    checked = []
    for manifest in (*manifests("base", "monitoring"), *documents(KUBERNETES / "secrets.example.yaml")):
        if not manifest["apiVersion"].startswith(OPERATORS):
            kubernetes_validate.validate(manifest, version, strict=True)
            checked.append(manifest["kind"])
    assert set(checked) >= {"Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy"}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**one("PodDisruptionBudget"), "spec": {"maxUnavailble": 1}}, version, strict=True)


@pytest.mark.parametrize("folder", ["base", "monitoring", "gateway"])
def test_a_kustomization_names_its_neighbours_and_builds(folder: str) -> None:
    (kustomization,) = documents(KUBERNETES / folder / "kustomization.yaml")
    named = {*kustomization["resources"], "kustomization.yaml", "prometheus-adapter.yaml", "../base"}
    assert {file.name for file in (KUBERNETES / folder).glob("*.yaml")} <= named
    done = subprocess.run(
        [need("kubectl"), "kustomize", str(KUBERNETES / folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    built = list(yaml.safe_load_all(done.stdout))
    assert all(manifest["metadata"].get("namespace", "maskstream") == "maskstream" for manifest in built)


def test_the_model_of_your_own_is_mounted_and_served(tmp_path: Path) -> None:
    shutil.copytree(KUBERNETES, tmp_path / "kubernetes")
    overlay = "resources: [base]\ncomponents: [own-model]\n"
    (tmp_path / "kubernetes/kustomization.yaml").write_text(overlay)
    command = [need("kubectl"), "kustomize", str(tmp_path / "kubernetes")]
    built = list(yaml.safe_load_all(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    (spec,) = (manifest["spec"]["template"]["spec"] for manifest in built if manifest["kind"] == "Deployment")
    flags = build_parser().parse_args(spec["containers"][0]["args"])
    mounts = {mount["name"]: mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]}
    assert flags.artifact.parent == Path(mounts["models"])
    assert {volume["name"] for volume in spec["volumes"]} == set(mounts)


# ---- the pod and its server ----------------------------------------------------------------------------------------


def test_the_pods_ports_are_the_servers(container: Any, served: ServeConfig) -> None:
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"grpc": split_address(served.listen)[1], "http": split_address(served.http)[1]}
    image = (DEPLOY.parent / "Dockerfile").read_text()
    assert f"EXPOSE {ports['grpc']} {ports['http']}" in image
    for name in ("maskstream", "maskstream-replicas"):
        for port in one("Service", name)["spec"]["ports"]:
            assert port["port"] == ports[port["targetPort"]]


def test_the_probes_ask_what_the_server_answers(container: Any) -> None:
    endpoint = HttpEndpoint("127.0.0.1:0", CollectorRegistry(), alive=lambda: True, ready=lambda: False)
    asked = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")}
    assert {probe["port"] for probe in asked.values()} == {"http"}
    answers = {name: endpoint.answer(probe["path"], "")[0] for name, probe in asked.items()}
    unready = HTTPStatus.SERVICE_UNAVAILABLE
    assert answers == {"startup": unready, "readiness": unready, "liveness": HTTPStatus.OK}
    scraped = one("ServiceMonitor")["spec"]["endpoints"][0]
    assert endpoint.answer(scraped["path"], "")[0] is HTTPStatus.OK


def test_the_pod_has_time_to_drain(pod: Any, container: Any, served: ServeConfig) -> None:
    sleep = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["spec"]["terminationGracePeriodSeconds"] == sleep + served.grace_seconds + MARGIN_SECONDS


def test_the_pod_has_memory_for_its_bank_and_the_engine_its_cores(container: Any, served: ServeConfig) -> None:
    resources = container["resources"]
    limit = int(resources["limits"]["memory"].removesuffix("Mi"))
    assert limit == int(resources["requests"]["memory"].removesuffix("Mi"))
    assert limit >= served.bank_mib + BASELINE_MIB
    assert served.threads == int(resources["requests"]["cpu"])


def test_the_pod_may_do_next_to_nothing(pod: Any, container: Any) -> None:
    assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
    user = pod["spec"]["securityContext"]["runAsUser"]
    assert f"USER {user}:{user}" in (DEPLOY.parent / "Dockerfile").read_text()
    own = container["securityContext"]
    assert (own["readOnlyRootFilesystem"], own["allowPrivilegeEscalation"]) == (True, False)
    assert own["capabilities"] == {"drop": ["ALL"]}
    writable = [m["mountPath"] for m in container["volumeMounts"] if not m.get("readOnly")]
    assert writable == ["/tmp"]
    (cache,) = (each["value"] for each in container["env"] if each["name"] == "XDG_CACHE_HOME")
    assert Path(cache).is_relative_to("/tmp")


def test_files_in_the_settings_are_where_the_secrets_are_mounted(container: Any) -> None:
    text = (KUBERNETES / "base/serve.toml").read_text()
    paths = re.findall(r'^# \w+ = "(/\S+)"$', text, re.MULTILINE)
    assert len(paths) == 3
    mounts = [Path(mount["mountPath"]) for mount in container["volumeMounts"]]
    assert all(Path(path).parent in mounts for path in paths)
    secrets = {manifest["metadata"]["name"]: manifest for manifest in documents(KUBERNETES / "secrets.example.yaml")}
    for path in paths:
        owner = "maskstream" if "secrets" in path else "maskstream-tls"
        assert Path(path).name in secrets[owner]["stringData"]
    assert {value for each in secrets.values() for value in each["stringData"].values()} == {""}
    uncommented = re.sub(r"^# (?=\[\w+\]$|\w+ = )", "", text, flags=re.MULTILINE)
    assert {"auth", "tls"} <= tomllib.loads(uncommented).keys()


def test_selectors_find_the_pods_and_the_network_policy_keeps_metrics_inside(pod: Any) -> None:
    labels = pod["metadata"]["labels"]
    policy = one("NetworkPolicy")["spec"]
    selectors = [one("Service", name)["spec"]["selector"] for name in ("maskstream", "maskstream-replicas")]
    selectors += [one(kind)["spec"]["selector"]["matchLabels"] for kind in ("Deployment", "PodDisruptionBudget")]
    assert all(selector == labels for selector in (*selectors, policy["podSelector"]["matchLabels"]))
    sources = {rule["ports"][0]["port"]: rule["from"] for rule in policy["ingress"]}
    inside = [{"namespaceSelector": {"matchLabels": {"maskstream.io/monitoring": "true"}}}]
    assert sources["http"] == inside
    assert policy["egress"] == []


# ---- what scales and routes ----------------------------------------------------------------------------------------


def test_the_autoscaler_counts_by_metrics_that_exist() -> None:
    (values,) = documents(KUBERNETES / "monitoring/prometheus-adapter.yaml")
    (rule,) = values["rules"]["custom"]
    registry = CollectorRegistry()
    Metrics(registry)
    served = {metric.name for metric in registry.collect()}
    used = set(re.findall(r"maskstream_\w+", rule["metricsQuery"] + rule["seriesQuery"]))
    assert used == {"maskstream_streams_active", "maskstream_stream_slots"}
    assert used <= served
    (metric,) = one("HorizontalPodAutoscaler")["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] == rule["name"]["as"]
    assert one("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"] == one("Deployment")["metadata"]["name"]


def test_the_gateway_routes_our_service_and_cuts_no_stream(served: ServeConfig) -> None:
    (rule,) = one("GRPCRoute")["spec"]["rules"]
    assert rule["matches"][0]["method"]["service"] == SERVICE_NAME
    assert rule["backendRefs"] == [{"name": "maskstream", "port": split_address(served.listen)[1]}]
    policy = one("BackendTrafficPolicy")["spec"]
    timers = policy["timeout"]["http"]
    assert (timers["requestTimeout"], timers["maxStreamDuration"], timers["streamIdleTimeout"]) == ("0s", "0s", "1h")
    assert policy["healthCheck"]["active"]["grpc"]["service"] == SERVICE_NAME
    most = one("HorizontalPodAutoscaler")["spec"]["maxReplicas"] * served.max_streams
    assert policy["circuitBreaker"]["maxParallelRequests"] > most


# ---- compose and systemd -------------------------------------------------------------------------------------------


def test_compose_starts_what_is_there() -> None:
    (compose,) = documents(COMPOSE / "compose.yaml")
    services = compose["services"]
    for service in services.values():
        for volume in service["volumes"]:
            source, target = volume.split(":")[:2]
            assert source in compose["volumes"] or (COMPOSE / source).exists(), f"{volume} has no source"
            assert target.startswith("/")
        assert service["read_only"] is True
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    server = services["maskstream"]
    config = settings(server["command"], COMPOSE / "serve.toml")
    assert server["stop_grace_period"] == f"{config.grace_seconds + MARGIN_SECONDS:.0f}s"
    assert int(server["mem_limit"].removesuffix("m")) >= config.bank_mib + BASELINE_MIB
    assert f":{split_address(config.http)[1]}/readyz" in server["healthcheck"]["test"][-1]
    ports = [split_address(address)[1] for address in (config.listen, config.http)]
    assert server["ports"] == [f"127.0.0.1:{port}:{port}" for port in ports]


def test_prometheus_in_compose_scrapes_the_server_as_the_example_does() -> None:
    (inside,) = documents(COMPOSE / "prometheus.yml")
    (example,) = documents(DEPLOY / "prometheus/prometheus.yml")
    assert inside["global"] == example["global"]
    assert inside["rule_files"] == example["rule_files"]
    (scrape,), (wanted,) = inside["scrape_configs"], example["scrape_configs"]
    assert scrape["static_configs"][0]["targets"] == ["maskstream:9464"]
    assert {**scrape, "static_configs": None} == {**wanted, "static_configs": None}
    (source,) = documents(COMPOSE / "grafana/datasources.yaml")
    assert source["datasources"][0]["url"] == "http://prometheus:9090"


def test_prometheus_takes_the_configuration_of_compose(tmp_path: Path) -> None:
    shutil.copy(COMPOSE / "prometheus.yml", tmp_path)
    shutil.copytree(DEPLOY / "prometheus/rules", tmp_path / "rules")
    command = [need("promtool"), "check", "config", str(tmp_path / "prometheus.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def unit() -> dict[str, list[str]]:
    told: dict[str, list[str]] = {}
    for line in SYSTEMD.read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            told.setdefault(name, []).append(value)
    return told


def test_the_unit_starts_reloads_and_stops_the_server(unit: dict[str, list[str]]) -> None:
    program, *arguments = shlex.split(unit["ExecStart"][0])
    flags = build_parser().parse_args(arguments)
    assert Path(program).name == "maskstream-serve"
    assert str(flags.announce) in unit["ExecStartPost"][0]
    assert flags.announce.parent == Path("/run") / unit["RuntimeDirectory"][0]
    assert unit["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    assert int(unit["TimeoutStopSec"][0]) >= ServeConfig().grace_seconds + MARGIN_SECONDS


def test_systemd_takes_the_unit_and_finds_it_closed(tmp_path: Path) -> None:
    program = need("systemd-analyze")
    text = SYSTEMD.read_text().replace("/opt/maskstream/bin/maskstream-serve", sys.executable)
    (tmp_path / SYSTEMD.name).write_text(text)
    verify = [program, "verify", "--man=no", str(tmp_path / "maskstream@one.service")]
    done = subprocess.run(verify, capture_output=True, text=True, check=False)
    told = [line for line in done.stderr.splitlines() if "maskstream@" in line]
    assert told == []
    security = [program, "security", "--offline=true", "--threshold=20", str(tmp_path / SYSTEMD.name)]
    done = subprocess.run(security, capture_output=True, text=True, check=False)
    assert done.returncode == 0, "an exposure of 2.0 or less, of 10:\n" + done.stdout[-2000:]

"""The dashboard is what its script makes, stands in Grafana's grid, and asks for nothing that does not exist."""

import importlib
import json
import re
from pathlib import Path

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as schema
from grafana_foundation_sdk.models import prometheus
from grafana_programs import FOLDER, grafana_program
from prometheus_client import PROCESS_COLLECTOR, generate_latest
from served import prompt, square

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD = json.loads((FOLDER / "maskstream.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel["targets"]]
RECORDED = re.findall(r"- record: (\S+)", (ROOT / "deploy" / "prometheus" / "rules" / "recording.yml").read_text())
NAME = re.compile(r"(?<![\w:$\"])(?:maskstream_|process_|python_|[a-z_]+:maskstream_|maskstream:)[\w:]*")


def names_in(expression: str) -> set[str]:
    """Series that an expression asks for; what stands in a selector or a legend is none."""
    return set(NAME.findall(re.sub(r"{[^}]*}|\[[^]]*\]", "", expression)))


def test_the_file_is_what_the_script_makes():
    assert grafana_program("make_dashboard").dashboard() == DASHBOARD, "run python deploy/grafana/make_dashboard.py"


def lost(ours, theirs, place=""):
    """Where Grafana's types, having read a part of the dashboard, do not give it back."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return [each for key, value in ours.items() for each in lost(value, theirs.get(key), f"{place}/{key}")]
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        return [e for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) for e in lost(a, b, f"{place}/{i}")]
    return [] if ours == theirs else [f"{place}: {ours!r}"]


def as_grafana_has_it(kind, part):
    return json.loads(JSONEncoder(sort_keys=True).encode(kind.from_json(part)))


def test_grafanas_own_types_know_every_field():
    assert lost(DASHBOARD, as_grafana_has_it(schema.Dashboard, DASHBOARD)) == []
    for panel in PANELS:
        of_its_kind = importlib.import_module(f"grafana_foundation_sdk.models.{panel['type']}")
        assert lost(panel["options"], as_grafana_has_it(of_its_kind.Options, panel["options"]), panel["title"]) == []
        custom = panel["fieldConfig"]["defaults"].get("custom", {})
        if custom:
            assert lost(custom, as_grafana_has_it(of_its_kind.FieldConfig, custom), panel["title"]) == []
        for target in panel["targets"]:
            assert lost(target, as_grafana_has_it(prometheus.Dataquery, target), panel["title"]) == []


@pytest.mark.parametrize(
    ("part", "where"),
    [({"schemaVersion": 39, "refreshed": "15s"}, "/refreshed"), ({"time": {"form": "now-1h"}}, "/time/form")],
)
def test_grafanas_types_notice_a_field_that_is_none(part, where):
    # the test above is worth what it notices
    assert [each.partition(":")[0] for each in lost(part, as_grafana_has_it(schema.Dashboard, part))] == [where]


def test_names_are_found_in_expressions():
    assert names_in('sum by (le) (rate(maskstream_a_total{job="maskstream_b"}[5m])) / job:maskstream_c:ratio') == {
        "maskstream_a_total", "job:maskstream_c:ratio"
    }  # fmt: skip


def test_every_expression_names_series_of_a_running_server_or_recorded_ones(running):
    stream = running.stream()
    stream.frame(prompts=[prompt(1, square(16, 16))])
    stream.receive("result")
    running.registry.register(PROCESS_COLLECTOR)
    lines = generate_latest(running.registry).decode().splitlines()
    shown = {re.split(r"[ {]", line, maxsplit=1)[0] for line in lines if line[0] != "#"}
    for expression in EXPRESSIONS:
        names = names_in(expression)
        assert names, expression
        assert names <= shown | set(RECORDED), expression


def test_every_family_but_the_bookkeeping_is_on_the_dashboard_or_in_what_is_recorded():
    used = "".join(EXPRESSIONS) + (ROOT / "deploy" / "prometheus" / "rules" / "recording.yml").read_text()
    families = set(re.findall(r"^\| `(maskstream_\w+)`", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE))
    seen_elsewhere = {"maskstream_engine_busy_ratio", "maskstream_warmup_seconds"}  # in GetServerInfo and in the log
    assert families
    assert {name for name in families if name not in used} == seen_elsewhere


def test_every_selector_names_the_job_so_that_two_deployments_do_not_mix():
    for expression in EXPRESSIONS:
        selectors = re.findall(r"{([^}]*)}", expression)
        assert expression == "maskstream:frame_budget_seconds" or selectors, expression
        assert all('job="$job"' in selector for selector in selectors), expression


def test_panels_have_their_own_number_and_place():
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_rows_answer_the_questions_in_order():
    assert [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"] == [
        "Are we in budget", "Age and drops", "Streams and slots", "Engine and batch", "Memory bank", "Host and loop"
    ]  # fmt: skip

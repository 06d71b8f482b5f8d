"""The pages that the site generates say what the code says, and its plots what the documents' tables say.

The strict build of the whole site is `make docs`, which CI runs; here is what that build cannot know.
"""

import dataclasses
import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from maskstream.v1 import maskstream_pb2 as pb
from serve.config import Limits, ServeConfig

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PLOTS = sorted(DOCS.glob("plots/*.json"))


@pytest.fixture(scope="module")
def made() -> Iterator[Any]:
    """`made("wire")`: a module of docs/generate, found as MkDocs finds it, beside the hook."""
    sys.path.insert(0, str(DOCS))
    yield lambda name: importlib.import_module(f"generate.{name}")
    sys.path.remove(str(DOCS))


def test_the_wire_reference_has_every_message_field_and_enum_value(made: Any) -> None:
    page = made("wire").page()
    file = pb.DESCRIPTOR
    for message in file.message_types_by_name.values():
        section = page.partition(f"### {message.name} ")[2].partition("\n### ")[0]
        for field in message.fields:
            assert f"| {field.number} | `{field.name}` |" in section
    for enum in file.enum_types_by_name.values():
        assert all(f"`{value.name}`" in page for value in enum.values)
    for service in file.services_by_name.values():
        assert all(f"`{method.name}`" in page for method in service.methods)


def test_the_wire_reference_keeps_comments_and_links(made: Any) -> None:
    page = made("wire").page()
    assert "| 1 | `seq` | `uint64` |  | Strictly increasing over all requests of a stream, gaps allowed." in page
    assert "| `Propagate` | stream of [PropagateRequest](#propagaterequest) |" in page
    links, places = set(re.findall(r"\(#([\w-]+)\)", page)), set(re.findall(r"\{#([\w-]+)\}", page))
    assert links
    assert links <= places


def test_the_metrics_reference_has_type_labels_and_buckets(made: Any) -> None:
    page = made("metrics").page()
    assert "| `maskstream_frames_total` | counter | `outcome`: answered, dropped, refused |" in page
    (batches,) = re.findall(r"^\| `maskstream_batch_size` \|.*$", page, re.MULTILINE)
    assert "| histogram |  | 1, 2, 4, 8, 16, 32, inf |" in batches
    assert "| [MaskstreamDown](../operations.md#maskstreamdown) | critical | 1m |" in page


def test_the_metrics_reference_has_what_a_server_shows(made: Any) -> None:
    names = {family.name for family in made("metrics").families()}
    written = set(re.findall(r"`maskstream_(\w+?)(?:_total)?`", (DOCS / "metrics.md").read_text()))
    assert len(written) > 20
    assert {f"maskstream_{name}" for name in written} <= names


def test_the_settings_reference_has_every_setting_with_its_default_and_comment(made: Any) -> None:
    page = made("settings").page()
    for kind in (ServeConfig, Limits):
        for field in dataclasses.fields(kind):
            if field.default is not dataclasses.MISSING:
                assert f"| `{field.name}` |" in page
    assert "| `max_streams` | whole number | `8` |" in page
    assert "| `reflection` | true or false | `false` |" in page
    assert '| `log_format` | text | `"text"` | or "json", an object a line |' in page
    assert "| `snapshot_key` | a file or folder | none | file with the secret" in page


def test_the_command_reference_has_every_flag_of_every_command(made: Any) -> None:
    commands = made("commands")
    page = commands.page()
    for name, parser in commands.parsers().items():
        section = page.partition(f"## {name}\n")[2].partition("\n## ")[0]
        flags = {flag for action in parser._actions for flag in action.option_strings}
        assert {flag for flag in flags if f"`{flag}" not in section} == set(), name
    assert {"maskstream track", "maskstream bench serve", "maskstream-serve"} <= set(commands.parsers())


# ---- plots -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PLOTS, ids=lambda path: path.stem)
def test_a_plot_shows_figures_that_a_document_has(path: Path, made: Any) -> None:
    plot = made("plots").load(path.stem)
    source = (ROOT / plot.source).read_text()
    cells = {cell.strip() for line in source.splitlines() if line.startswith("|") for cell in line.split("|")}
    assert {str(value) for _, value, _ in plot.bars} - cells == set()
    assert plot.command in source


@pytest.mark.parametrize("path", PLOTS, ids=lambda path: path.stem)
def test_a_plot_is_shown_somewhere(path: Path) -> None:
    assert any(f"<!-- plot: {path.stem} -->" in page.read_text() for page in DOCS.glob("*.md"))


def test_bars_are_as_long_as_their_values(made: Any) -> None:
    plots = made("plots")
    drawn = plots.svg(plots.Plot("t", "u", "c", "m", "s", [["a <b>", 10.0, 0], ["half", 5.0, 1]]))
    long, short = map(float, re.findall(r'<rect [^>]*? width="([\d.]+)"', drawn))
    assert long == 2 * short
    assert "a &lt;b&gt;" in drawn


# ---- the hook --------------------------------------------------------------------------------------------------------


@pytest.fixture
def hooks(made: Any) -> Any:
    pytest.importorskip("mkdocs")
    return importlib.import_module("hooks")


def test_links_out_of_the_site_become_words(hooks: Any) -> None:
    def shown(text: str, source: str = "metrics.md") -> str:
        return str(hooks.OUTSIDE.sub(lambda found: hooks.inside(found, source), text))

    assert shown("see [rules](../deploy/rules/)") == "see rules (`deploy/rules/`)"
    assert shown("see [README.md](../README.md)") == "see `README.md`"
    assert shown("see [Serving](serving.md#errors)") == "see [Serving](serving.md#errors)"
    assert shown("see [Serving](../serving.md)", "reference/x.md") == "see [Serving](../serving.md)"


def test_decisions_are_those_of_contributing(hooks: Any) -> None:
    dated = re.findall(r"^### (\d{4}-\d\d-\d\d: .*)$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    assert dated
    assert re.findall(r"^## (.*)$", hooks.decisions(), re.MULTILINE) == dated


def test_the_navigation_has_every_page(hooks: Any) -> None:
    named = set(re.findall(r": ([\w/]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    assert named == {page.name for page in DOCS.glob("*.md")} | set(hooks.pages())


def test_nothing_is_asked_of_another_host() -> None:
    settings = (ROOT / "mkdocs.yml").read_text()
    assert "font: false" in settings
    assert "://" not in settings
    assert all(json.loads(path.read_text()) for path in PLOTS)

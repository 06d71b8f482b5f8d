"""What MkDocs calls while it builds the site: adds the generated pages, draws plots, leads links out of docs/ nowhere.

Documents are also read in the repository, where links to files beside docs/ work. On the site those files are not
there, so such a link becomes its words and the name of the file.
"""

import importlib
import re
from pathlib import PurePosixPath

from generate import ROOT, commands, metrics, plots, settings, wire
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

OUTSIDE = re.compile(r"(?<!!)\[([^\]]+)\]\((\.\./[^)]+)\)")
PLOT = re.compile(r"^<!-- plot: ([a-z-]+) -->$", re.MULTILINE)
DECISIONS = "\n## Decisions\n"
HEADLESS = "    options: {show_root_heading: false, show_root_toc_entry: false}\n"
CLIENT_MODULES = ("maskstream.client", "maskstream.client_async")


def pages() -> dict[str, str]:
    """Every generated page, by its place on the site."""
    return {
        "reference/commands.md": commands.page(),
        "reference/settings.md": settings.page(),
        "reference/wire.md": wire.page(),
        "reference/metrics.md": metrics.page(),
        "reference/client_api.md": client_api(),
        "reference/decisions.md": decisions(),
        "reference/changes.md": seen_from_reference((ROOT / "CHANGELOG.md").read_text()),
    }


def decisions() -> str:
    """The decisions of CONTRIBUTING.md as a page of their own, the headings one level higher."""
    text = (ROOT / "CONTRIBUTING.md").read_text().partition(DECISIONS)[2].partition("\n## ")[0]
    return "# Decisions\n" + seen_from_reference(re.sub(r"^#(#+ )", r"\1", text, flags=re.MULTILINE))


def seen_from_reference(text: str) -> str:
    """Links of a document beside docs/ into it, as seen from reference/."""
    return text.replace("](docs/", "](../")


def client_api() -> str:
    """One entry for each name that the client's modules export, and the errors."""
    parts = ["# Client API\n", "From the docstrings; [Client](../client.md) has examples.\n"]
    for module in CLIENT_MODULES:
        parts.append(f"## {module}\n")
        parts += [f"::: {module}.{name}\n" for name in importlib.import_module(module).__all__]
    parts.append(f"## maskstream.errors\n\n::: maskstream.errors\n{HEADLESS}")
    return "\n".join(parts)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    for place, text in pages().items():
        files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Draw the plots, and take away links to what is not on the site."""
    markdown = PLOT.sub(lambda found: plots.figure(found[1]), markdown)
    return OUTSIDE.sub(lambda found: inside(found, page.file.src_uri), markdown)


def inside(link: re.Match[str], source: str) -> str:
    """A link that leaves docs/ as words and the name of the file; any other as it is."""
    depth = len(PurePosixPath(source).parents) - 1
    words, target = link[1], link[2]
    climbed = target.count("../")
    if climbed <= depth:
        return link[0]
    name = target.replace("../", "")
    return f"`{name}`" if words.strip("`") == name else f"{words} (`{name}`)"

"""What the documents show or link to exists: targets, imports, files. Commands: tests/test_documents_commands.py."""

import ast
import importlib
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
PYTHON_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND_BLOCK = re.compile(r"^```(?:sh|bash|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")


def commands() -> list[tuple[str, list[str]]]:
    """(document, words) of every command line that the documents show; lines joined by a backslash are one."""
    found = []
    for document in DOCUMENTS:
        for block in COMMAND_BLOCK.findall(document.read_text()):
            lines = block.replace("\\\n", " ").splitlines()
            words = [shlex.split(line.removeprefix("$ "), comments=True) for line in lines]
            found += [(document.name, line) for line in words if line]
    return found


def uses_of(program: str) -> list[tuple[str, list[str]]]:
    """(document, arguments) of every shown use of a program, with or without the folder it lies in."""
    return [(document, words[1:]) for document, words in commands() if Path(words[0]).name == program]


def test_the_readme_shows_the_two_commands_first() -> None:
    shown = [" ".join(words) for document, words in commands() if document == "README.md"]
    assert shown[:2] == ["make demo", "make test"]


def test_every_make_target_shown_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = {word for _, words in uses_of("make") for word in words if "=" not in word}
    assert shown
    assert shown <= targets


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_python_shown_parses_and_imports_what_exists(document: Path) -> None:
    missing = []
    for block in PYTHON_BLOCK.findall(document.read_text()):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] in {"maskstream", "serve"}:
                module = importlib.import_module(str(node.module))
                missing += [f"{node.module}.{name.name}" for name in node.names if not hasattr(module, name.name)]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files_that_exist(document: Path) -> None:
    targets = [
        link for link in LINK.findall(document.read_text()) if "://" not in link and not link.startswith("mailto:")
    ]
    assert [target for target in targets if not (document.parent / target).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_documents_name_no_place_on_one_machine(document: Path) -> None:
    assert re.findall(r"(?<![\w.])/(?:home|root|work|Users)/\S*", document.read_text()) == []

"""What the documents tell a reader to type or open exists: make targets, commands with their flags, imports, links."""

import ast
import importlib
import re
import shlex
import subprocess
import sys
import tomllib
from functools import cache
from itertools import takewhile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
SCRIPTS: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
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


@cache
def help_text(script: str, *subcommand: str) -> str:
    module, _, function = SCRIPTS[script].partition(":")
    program = f"import sys; from {module} import {function}; sys.argv[0] = {script!r}; sys.exit({function}())"
    command = [sys.executable, "-c", program, *subcommand, "--help"]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout


def test_the_readme_shows_the_two_commands_first() -> None:
    shown = [" ".join(words) for document, words in commands() if document == "README.md"]
    assert shown[:2] == ["make demo", "make test"]


def test_every_make_target_shown_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = {word for _, words in uses_of("make") for word in words if "=" not in word}
    assert shown
    assert shown <= targets


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_command_shown_has_the_flags_it_is_shown_with(script: str) -> None:
    unknown = []
    for document, arguments in uses_of(script):
        subcommand = list(takewhile(str.isalpha, arguments[:2])) if script == "maskstream" else []
        if subcommand[:1] != ["bench"]:  # the only command of two words
            subcommand = subcommand[:1]
        known = set(re.findall(r"--[a-z][a-z-]*", help_text(script, *subcommand)))
        flags = {argument.partition("=")[0] for argument in arguments if argument.startswith("--")}
        unknown += [f"{document}: {script} {' '.join(subcommand)} {flag}" for flag in sorted(flags - known)]
    assert unknown == []


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

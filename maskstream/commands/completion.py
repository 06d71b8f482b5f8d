"""maskstream completion: a script that lets a shell complete the words of all four programs.

The script is made by shtab from the very parsers, once, by the user: nothing runs when Tab is pressed, and a flag that
is added here needs no second list. Where it knows nothing better, the shell completes names of files.
"""

import argparse
import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from maskstream.errors import MaskstreamError
from maskstream.report import STDOUT

DESCRIPTION = """\
Print a script that completes the commands and flags of maskstream, maskstream-train, maskstream-export and
maskstream-serve. Programs whose packages are not installed are left out; print it again after installing them.

  maskstream completion bash > ~/.local/share/bash-completion/completions/maskstream
  source <(maskstream completion bash)                   for this shell alone
  maskstream completion zsh > ~/.zfunc/_maskstream       with fpath+=~/.zfunc before compinit in .zshrc
  maskstream completion fish > ~/.config/fish/completions/maskstream.fish"""

SHELLS = ("bash", "zsh", "fish")
# By name, not imported: the programs are siblings, and this one must run where the packages of another are missing.
PROGRAMS = {
    "maskstream": ("maskstream.commands.completion", "nested_parser"),
    "maskstream-train": ("train.__main__", "parser"),
    "maskstream-export": ("export.__main__", "nested_parser"),
    "maskstream-serve": ("serve.__main__", "build_parser"),
}
_FOLDERS = ("DIR", "ARTIFACT")


class CompletionError(MaskstreamError):
    """No script can be made."""

    reason = "COMPLETION_FAILED"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("shell", choices=SHELLS, help="whose script to print")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write which programs are in it; - replaces it")
    parser.add_argument("--quiet", action="store_true", help="no word on programs that are left out")


def run(arguments: argparse.Namespace) -> int:
    """Print the scripts of all programs that are installed, in one."""
    parsers = dict(_parsers(arguments.quiet))
    told = json.dumps({"shell": arguments.shell, "programs": list(parsers)}, indent=2) + "\n"
    if arguments.json == STDOUT:
        sys.stdout.write(told)
        return 0
    if arguments.json:
        arguments.json.write_text(told, encoding="utf-8")
    sys.stdout.write(script(parsers, arguments.shell))
    return 0


def script(parsers: dict[str, argparse.ArgumentParser], shell: str) -> str:
    """One script for all of these programs. Raises CompletionError where shtab is not installed."""
    try:
        import shtab
    except ImportError as error:
        raise CompletionError("completion needs the package shtab; pip install shtab") from error
    if shell != "bash":  # which adds a slash to folders only where it completes names by itself
        for parser in parsers.values():
            _name_files(parser, shtab.FILE, shtab.DIRECTORY)
    texts = [shtab.complete(parser, shell) for parser in parsers.values()]
    if shell == "bash":
        texts = [re.sub(r"^complete .*-F", "complete -o bashdefault -o default -F", text, flags=re.M) for text in texts]
    if shell == "zsh":
        return _one_for_zsh(texts, list(parsers))
    return "\n".join(texts)


def nested_parser() -> argparse.ArgumentParser:
    """The parser of `maskstream`, with "bench serve" as a command within "bench", as it is typed."""
    from maskstream import cli

    return cli.build_parser(nested=True)


def _parsers(quiet: bool) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for program, (module, function) in PROGRAMS.items():
        try:
            parser: argparse.ArgumentParser = getattr(importlib.import_module(module), function)()
        except ModuleNotFoundError as error:
            if not quiet:
                print(f"{program} is left out: it needs {error.name}", file=sys.stderr)
            continue
        parser.prog = program
        yield program, parser


def _name_files(parser: argparse.ArgumentParser, file: object, folder: object) -> None:
    """Tell shtab which values are names of files or folders: those that are read as a Path."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for part in action.choices.values():
                _name_files(part, file, folder)
        elif action.type is Path and not action.choices:
            action.complete = folder if action.metavar in _FOLDERS else file  # type: ignore[attr-defined]


def _one_for_zsh(texts: list[str], programs: list[str]) -> str:
    """zsh looks at the first line of a file for the programs in it."""
    bodies = [re.sub(r"\A#compdef .*\n", "", text) for text in texts]
    return f"#compdef {' '.join(programs)}\n" + "\n".join(bodies)

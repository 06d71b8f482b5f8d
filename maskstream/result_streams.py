"""--quiet and --json of a command: where what it prints goes. One way for all programs, around the whole run.

A command prints as it always does; around it, `--json -` turns what it prints to standard error, and `--quiet` lets it
fall. The JSON is copied to standard output at the end, so that a reader of a pipe gets all of it or nothing. Errors
are printed outside of this, and are always seen.
"""

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

_STDOUT = Path("-")


def add_result_arguments(parser: argparse.ArgumentParser, written: str = "the figures") -> None:
    """--json and --quiet, where the parser does not have them yet."""
    known = parser._option_string_actions
    if "--json" not in known:
        text = f"write {written} and where they come from; - is standard output"
        parser.add_argument("--json", metavar="FILE", type=Path, help=text)
    if "--quiet" not in known:
        parser.add_argument("--quiet", action="store_true", help="say nothing but errors")


@contextlib.contextmanager
def directed(arguments: argparse.Namespace) -> Iterator[None]:
    """For the run of a command with these flags; `arguments.json` is a real file meanwhile."""
    with contextlib.ExitStack() as stack:
        if arguments.json == _STDOUT:
            stack.enter_context(_json_on_stdout(arguments))
        if arguments.quiet:
            nowhere = stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
            stack.enter_context(contextlib.redirect_stderr(nowhere))
        yield


@contextlib.contextmanager
def _json_on_stdout(arguments: argparse.Namespace) -> Iterator[None]:
    with tempfile.TemporaryDirectory(prefix="maskstream-json-") as folder:
        arguments.json = Path(folder) / "report.json"
        try:
            with contextlib.redirect_stdout(sys.stderr):
                yield
        finally:
            if arguments.json.exists():  # also of a run that was stopped
                sys.stdout.write(arguments.json.read_text(encoding="utf-8"))
                sys.stdout.flush()

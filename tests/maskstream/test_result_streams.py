"""--quiet and --json: every command of every program takes both, and they turn what is printed where they say."""

import argparse
import importlib
import json
import sys
from pathlib import Path

import pytest

from maskstream import cli
from maskstream.commands import completion
from maskstream.report import write_report
from maskstream.result_streams import add_result_arguments, directed


def leaves(parser: argparse.ArgumentParser, name: str) -> dict[str, argparse.ArgumentParser]:
    """The parser and those of its commands; one that demands a command is none itself."""
    found = {}
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not any(group.required for group in groups):
        found[name] = parser
    for group in groups:
        for word, part in group.choices.items():
            found |= leaves(part, f"{name} {word}")
    return found


def all_commands() -> dict[str, argparse.ArgumentParser]:
    found = {}
    for program, (module, function) in completion.PROGRAMS.items():
        if program != "maskstream-serve":  # writes no results: its log has a format and a level of its own
            found |= leaves(getattr(importlib.import_module(module), function)(), program)
    return found


def test_every_command_takes_quiet_and_json() -> None:
    commands = all_commands()
    assert {"maskstream track-many", "maskstream bench serve", "maskstream-export compare"} <= set(commands)
    lacking = {
        name for name, parser in commands.items() if not {"--quiet", "--json"} <= set(parser._option_string_actions)
    }
    assert lacking == set()


def talk(arguments: argparse.Namespace) -> None:
    """As a command does."""
    print("a table")
    print("10 of 20", file=sys.stderr)
    if arguments.json:
        write_report(arguments.json, {"figure": 7})


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maskstream.report.provenance", dict)


def given(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_result_arguments(parser)
    return parser.parse_args(words)


@pytest.mark.parametrize(
    ("words", "out", "err"),
    [
        ([], "a table\n", "10 of 20\n"),
        (["--quiet"], "", ""),
        (["--json", "-"], '{\n  "figure": 7\n}\n', "a table\n10 of 20\n"),
        (["--json", "-", "--quiet"], '{\n  "figure": 7\n}\n', ""),
    ],
)
def test_where_a_command_is_heard(words: list[str], out: str, err: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = given(*words)
    with directed(arguments):
        talk(arguments)
    assert capsys.readouterr() == (out, err)


def test_a_file_beside_quiet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = given("--quiet", "--json", str(tmp_path / "a.json"))
    with directed(arguments):
        talk(arguments)
    assert json.loads((tmp_path / "a.json").read_text()) == {"figure": 7}
    assert capsys.readouterr() == ("", "")


def test_what_was_written_before_an_error_is_still_given(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = given("--json", "-", "--quiet")

    def stopped() -> None:
        with directed(arguments):
            talk(arguments)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert json.loads(capsys.readouterr().out) == {"figure": 7}


def test_errors_are_seen_when_all_else_is_quiet(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["evaluate", str(tmp_path / "nowhere"), "--quiet", "--json", "-"]) == cli.USER_ERROR
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "nowhere" in printed.err

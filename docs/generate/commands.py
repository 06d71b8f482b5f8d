"""Every command with its flags, from the parsers that the commands themselves use.

The help of each flag is what `--help` prints. Usage lines are broken at a fixed width, not at that of the terminal in
which the site is built.
"""

import argparse
from collections.abc import Iterator

from generate import cell, table

WIDTH = 80  # columns of a usage line


def parsers() -> dict[str, argparse.ArgumentParser]:
    """Every command by its name, those of `maskstream` one by one."""
    from export import __main__ as export_main
    from export import compare
    from maskstream import cli
    from serve import __main__ as serve_main
    from train import __main__ as train_main
    from train import ablation

    alone = [
        train_main.parser(), export_main.parser(), export_main.verify_parser(), compare.parser(),
        serve_main.build_parser(), ablation.parser(),
    ]  # fmt: skip
    return {f"maskstream {name}": one for name, one in subcommands(cli.build_parser())} | {p.prog: p for p in alone}


def subcommands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Name and parser of each subcommand, in the order in which help lists them."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.items()


def page() -> str:
    """The whole reference, Markdown."""
    parts = ["# Commands\n", "Every flag, as `--help` prints it.\n"]
    for name, parser in parsers().items():
        parts += _command(name, parser)
    return "\n".join(parts)


def _command(name: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    yield f"## {name}\n"
    yield _block(parser.description or "")
    yield _block(_usage(parser))
    shape = parser._get_formatter()
    for group in parser._action_groups:
        shown = [action for action in group._group_actions if action.help != argparse.SUPPRESS]
        rows = [(_flags(action), cell(shape._expand_help(action) if action.help else "")) for action in shown]
        if rows:
            yield f"**{group.title}**\n"
            yield table(("flag", "meaning"), rows)
    if parser.epilog:
        yield _block(parser.epilog % {"prog": parser.prog})


def _block(text: str) -> str:
    return f"```text\n{text.strip()}\n```\n" if text.strip() else ""


def _usage(parser: argparse.ArgumentParser) -> str:
    shape = argparse.RawDescriptionHelpFormatter(parser.prog, width=WIDTH)
    shape.add_usage(parser.usage, parser._actions, parser._mutually_exclusive_groups)
    return shape.format_help()


def _flags(action: argparse.Action) -> str:
    value = "" if action.nargs == 0 else f" {_value(action)}"
    if not action.option_strings:
        return f"`{_value(action)}`"
    return ", ".join(f"`{flag}{value}`" for flag in action.option_strings)


def _value(action: argparse.Action) -> str:
    if isinstance(action.metavar, tuple):
        return " ".join(action.metavar)
    if action.metavar is None and action.choices is not None:
        return "{" + ",".join(map(str, action.choices)) + "}"
    return action.metavar or (action.dest.upper() if action.option_strings else action.dest)

"""Every setting of the server's TOML file, from the dataclasses that read it, with the comments beside them.

The comments are read with Python's own tokenizer: what stands after a field on its line.
"""

import dataclasses
import inspect
import tokenize
import typing
from io import StringIO
from pathlib import Path
from typing import Any

from generate import cell, table
from serve.config import ServeConfig

FILE = "a file or folder"


def page() -> str:
    """The whole reference, Markdown."""
    parts = [
        "# Settings of the server\n",
        "`maskstream-serve --config FILE` reads TOML; flags go over the file, the file goes over these defaults. A key "
        "that is not here is refused. How the settings work together is in [Serving](../serving.md).\n",
        "## Outside any table\n",
        _fields(ServeConfig),
    ]
    for name, kind in typing.get_type_hints(ServeConfig).items():
        if dataclasses.is_dataclass(kind):
            parts += [f"## [{name}]\n", f"{inspect.getdoc(kind)}\n", _fields(kind)]
    return "\n".join(parts)


def _fields(kind: Any) -> str:
    hints = typing.get_type_hints(kind)
    said = comments(kind)
    rows = [
        (f"`{entry.name}`", _type(hints[entry.name]), _default(entry.default), cell(said.get(entry.name, "")))
        for entry in dataclasses.fields(kind)
        if not dataclasses.is_dataclass(hints[entry.name])
    ]
    return table(("setting", "type", "default", ""), rows)


def comments(kind: Any) -> dict[str, str]:
    """What is said after each field, on its line."""
    found, name = {}, ""
    for token in tokenize.generate_tokens(StringIO(inspect.getsource(kind)).readline):
        if token.type == tokenize.NAME and token.line[: token.start[1]].strip() == "":
            name = token.string
        elif token.type == tokenize.COMMENT and token.line.lstrip().startswith(f"{name}:"):
            found[name] = token.string.lstrip("# ")
    return found


def _type(kind: Any) -> str:
    return (
        FILE if kind == Path | None else {int: "whole number", float: "number", bool: "true or false"}.get(kind, "text")
    )


def _default(value: Any) -> str:
    if value is None:
        return "none"
    shown = str(value).lower() if isinstance(value, bool) else repr(value)
    return f"`{shown}`".replace("'", '"')

"""Pages of the site that are made from the code while it is built, so that they cannot say anything else than it.

One module a page; each has `page() -> str`, Markdown. docs/hooks.py hands them to MkDocs. They are not kept in the
repository: what is generated and committed grows old.
"""

from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def cell(text: str) -> str:
    """Text for one cell of a table: on one line, with its bars and angle brackets as they are."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table of cells that are already escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"

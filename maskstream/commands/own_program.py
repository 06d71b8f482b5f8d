"""Starting a module of this distribution as a program of its own, whatever the folder that the user is in.

`python -m` looks into the current folder first, where a `serve` or `train` of the user's may lie: -P keeps it out.
"""

import os
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]  # the folder that holds maskstream, serve, ...


def command(module: str, *arguments: str) -> list[str]:
    """The command line of `python -m module arguments`."""
    return [sys.executable, "-P", "-m", module, *arguments]


def environment() -> dict[str, str]:
    """Our environment, with our own modules ahead of others of their names."""
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}

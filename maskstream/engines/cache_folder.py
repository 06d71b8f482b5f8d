"""Where engines keep what is made once on a machine: a folder of the user's cache, as the XDG rules have it."""

import os
from pathlib import Path


def cache_folder() -> Path | None:
    """Under XDG_CACHE_HOME where that is absolute, else ~/.cache; None for a user without a home. It may not exist."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        folder = given if given.is_absolute() else Path("~/.cache").expanduser()
    except RuntimeError:
        return None
    return folder / "maskstream"

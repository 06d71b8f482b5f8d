"""What a check found: one line for a person, with what to install when something is missing.

A check never ends the examination: one that fails is a finding as well, which says how it failed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

OK, NOTE, MISSING, FAILED = "ok", "note", "missing", "failed"

_CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Finding:
    """One line. `advice` says what would be gained and the exact command, empty when there is nothing to do."""

    area: str
    name: str
    state: str  # of OK, NOTE (works, worth knowing), MISSING, FAILED
    detail: str
    advice: str = ""


Check = Callable[[], Sequence[Finding]]


def checked(area: str, check: Check) -> list[Finding]:
    """What `check` finds; a check that raises is a finding itself."""
    try:
        return list(check())
    except Exception as error:  # noqa: BLE001 - whatever is wrong with a machine is what is looked for
        return [Finding(area, "this check", FAILED, f"could not be made: {type(error).__name__}: {error}")]


def install(extra: str, checkout: Path = _CHECKOUT) -> str:
    """The command that installs an extra: from the checkout this runs from, else by the distribution's name."""
    return f'pip install "{"." if (checkout / "pyproject.toml").is_file() else "maskstream"}[{extra}]"'

"""Who is calling."""

from typing import Any


def client_of(context: Any) -> str:
    """The peer's address without its port."""
    return str(context.peer()).rpartition(":")[0]

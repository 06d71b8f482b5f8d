"""What an engine keeps for input shapes it has seen: buffers, bindings, recordings. Bounded, the least used goes first.

A stream's shapes change when objects come and go. Memory of a GPU is set aside for each, so it must not grow with all
that was ever asked for.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

Kept = TypeVar("Kept")
Inputs = Mapping[str, Any]  # arrays by name, always in the same order


class ShapeCache(Generic[Kept]):
    """One thing for each set of input shapes, made by `make` from the first inputs of those shapes."""

    def __init__(self, kept: int, make: Callable[[Inputs], Kept]) -> None:
        """`kept` sets of shapes at most. Raises ValueError when that is none."""
        if kept < 1:
            raise ValueError(f"{kept} sets of shapes cannot be kept; keep 1 or more")
        self._kept, self._make = kept, make
        self._known: OrderedDict[tuple[tuple[int, ...], ...], Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def of(self, inputs: Inputs) -> Kept:
        """What belongs to the shapes of `inputs`; what goes in its place is let go before it is made."""
        shapes = tuple(array.shape for array in inputs.values())
        if shapes not in self._known:
            while len(self._known) >= self._kept:
                self._known.popitem(last=False)
            self._known[shapes] = self._make(inputs)
        self._known.move_to_end(shapes)
        return self._known[shapes]

    def clear(self) -> None:
        """Let everything go."""
        self._known.clear()

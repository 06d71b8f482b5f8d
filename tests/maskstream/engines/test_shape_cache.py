"""What belongs to a set of shapes is made once, and no more than agreed on is held."""

import numpy as np
import pytest

from maskstream.engines.shape_cache import ShapeCache


def inputs(size: int) -> dict[str, np.ndarray]:
    return {"a": np.zeros((size, 2)), "b": np.zeros(3)}


def test_equal_shapes_share_and_others_do_not() -> None:
    made: list[int] = []
    cache = ShapeCache(4, lambda given: made.append(given["a"].shape[0]) or object())
    first = cache.of(inputs(1))
    assert cache.of(inputs(1)) is first
    assert cache.of(inputs(2)) is not first
    assert made == [1, 2]


def test_the_least_used_goes_before_another_is_made() -> None:
    made: list[int] = []
    held: list[int] = []

    def make(given: dict[str, np.ndarray]) -> str:
        held.append(len(cache))
        made.append(given["a"].shape[0])
        return str(made[-1])

    cache = ShapeCache(2, make)
    for size in (1, 2, 1, 3, 1, 2):
        assert cache.of(inputs(size)) == str(size)
    assert made == [1, 2, 3, 2], "1 was in use throughout"
    assert max(held) < 2
    cache.clear()
    assert len(cache) == 0


def test_what_cannot_be_made_leaves_nothing_behind() -> None:
    def refuse(given: object) -> None:
        raise MemoryError("none left")

    cache = ShapeCache(2, refuse)
    with pytest.raises(MemoryError):
        cache.of(inputs(1))
    assert len(cache) == 0


def test_a_cache_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="keep 1 or more"):
        ShapeCache(0, lambda given: None)

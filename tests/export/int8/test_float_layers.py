"""The search: nothing stays in float that need not, and the worst goes first."""

from export.int8.float_layers import choose_float_blocks

COSTS = {"a": 0.01, "b": 0.2, "c": 0.0, "d": 0.05}


def additive(float_blocks: frozenset[str]) -> float:
    return 1 - sum(cost for block, cost in COSTS.items() if block not in float_blocks)


def silent(line: str) -> None:
    pass


def test_nothing_is_ranked_where_int8_keeps_the_masks() -> None:
    def never(float_blocks: frozenset[str]) -> float:
        raise AssertionError("ranked without need")

    choice = choose_float_blocks(list(COSTS), 0.7, additive, never, silent)
    assert (choice.float_blocks, choice.losses) == ((), {})
    assert choice.mask_iou == additive(frozenset())


def test_the_costliest_stay_in_float_until_the_masks_are_kept() -> None:
    lines: list[str] = []
    choice = choose_float_blocks(list(COSTS), 0.95, additive, additive, lines.append)
    assert choice.float_blocks == ("b", "d")
    assert abs(choice.mask_iou - 0.99) < 1e-9
    assert {block: round(loss, 6) for block, loss in choice.losses.items()} == COSTS
    assert lines[-1] == "d stays in float: masks overlap by 0.9900"


def test_blocks_that_cost_nothing_alone_but_together_are_found_by_measuring_again() -> None:
    def together(float_blocks: frozenset[str]) -> float:
        return 0.5 if not float_blocks & {"a", "b"} else 1.0

    choice = choose_float_blocks(["a", "b", "c"], 0.9, together, lambda left: 1.0, silent)
    assert choice.float_blocks == ("a",)


def test_when_nothing_helps_all_are_in_float() -> None:
    choice = choose_float_blocks(["a", "b"], 0.9, lambda left: 0.1, lambda left: 0.5, silent)
    assert set(choice.float_blocks) == {"a", "b"}
    assert choice.mask_iou == 0.1

"""Which blocks of layers stay in float: as few as bring the masks back, the most harmful first, by measurement.

All blocks are quantised first; often that is the end of it. If masks suffer, each block is quantised alone and what it
costs is measured; the costliest are then left in float one after the other until the masks are as asked for. What a
block costs alone is not all it costs together with others, so the sum is measured again after each.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

Score = Callable[[frozenset[str]], float]  # blocks that stay in float -> overlap of the masks with those of float32


@dataclass(frozen=True)
class Choice:
    """What stays in float, and the mask overlap then; `losses` has what each block costs alone, if it was measured."""

    float_blocks: tuple[str, ...]
    mask_iou: float
    losses: dict[str, float] = field(default_factory=dict)


def choose_float_blocks(
    blocks: Sequence[str], needed: float, score: Score, quick_score: Score, say: Callable[[str], None]
) -> Choice:
    """The fewest blocks, in the order of their cost, that bring `score` to at least `needed`.

    `quick_score` ranks them; it may look at less. When all blocks are in float, that is the answer, whatever it scores.
    """
    reached = score(frozenset())
    if reached >= needed:
        return Choice((), reached)
    say(f"all in int8, masks overlap by {reached:.4f}, {needed} is asked for: measuring each of {len(blocks)} blocks")
    losses = {}
    for block in blocks:
        losses[block] = max(0.0, 1.0 - quick_score(frozenset(blocks) - {block}))
        say(f"  {block} in int8 costs {losses[block]:.4f}")
    ranked = sorted(blocks, key=lambda block: -losses[block])
    left: list[str] = []
    while reached < needed and len(left) < len(ranked):
        left.append(ranked[len(left)])
        reached = score(frozenset(left))
        say(f"{left[-1]} stays in float: masks overlap by {reached:.4f}")
    return Choice(tuple(left), reached, losses)

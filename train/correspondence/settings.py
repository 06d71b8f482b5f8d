"""What correspondence learning can be told. Flat, and numbers only, so that `--set correspondence.<name>=1` works.

Each learner has a weight; one with weight 0 is not there: no view is made for it and no term computed. Switching on
another learner leaves the pictures that the others see as they were.
"""

from dataclasses import dataclass, fields

FINE = "fine_"  # before the names of what belongs to the keys at stride 8


@dataclass(frozen=True)
class CorrespondenceSettings:
    """Batch shape, weights and each learner's constants. Gaps are in frames, `side` and `stride` in pixels.

    Raises ValueError for a negative weight.
    """

    clips: int = 8
    side: int = 160
    stride: int = 16
    near_gap: int = 4
    far_gap: int = 24
    far_share: float = 0.3  # of the pairs
    temperature: float = 0.07  # of walk, match and anchors
    edge_dropout: float = 0.1
    anchors: int = 16  # of a clip, at random places
    anchor_grid: int = 0  # where above 0: so many anchors a side, on a grid with a random offset, instead of `anchors`
    fine_weight: float = 1.0  # of the terms of the fine keys against those of the tokens' keys
    walk_weight: float = 1.0
    match_weight: float = 0.5
    anchor_weight: float = 0.3
    anchor_warmup_steps: int = 200  # the labels come from the keys themselves, so the keys must mean something first
    equivariance_weight: float = 0.0
    equivariance_temperature: float = 0.07
    equivariance_window: float = 1.5  # tokens, each way: how far a place may have moved
    equivariance_gap: int = 4  # pairs farther apart than this are left out
    reconstruction_weight: float = 0.0
    reconstruction_temperature: float = 0.05
    reconstruction_window: int = 2  # tokens, each way
    reconstruction_gap: int = 8  # pairs farther apart than this are left out
    reconstruction_cells: int = 2  # colours a side of a token; must divide `stride`

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self) if field.name.endswith("_weight")):
            weight = getattr(self, name)
            if not weight >= 0:
                raise ValueError(f"correspondence.{name} is {weight}; take more than 0, or 0 to leave the learner out")

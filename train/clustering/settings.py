"""Settings of the clustering. Flat, so that `--set clustering.NAME=VALUE` reaches each of them.

Rules of cleaning that are 0 are off. The fields of one method mean nothing to the others.
"""

from dataclasses import dataclass

from train.clustering.pseudo_window import DOUBT

METHODS = ("kmeans", "sinkhorn", "spectral")


@dataclass(frozen=True)
class ClusterSettings:
    """How windows are drawn, clustered and cleaned. Areas and border shares are fractions.

    Raises ValueError for an unknown method, listing those there are, and for a number of clusters that has no labels.
    """

    method: str = "kmeans"
    clusters: int = 8
    windows_per_clip: int = 3
    frames: int = 4
    frame_gap: int = 3
    short_side: int = 384  # pixels; the working size for the keys
    batch_frames: int = 4  # frames that pass the encoder at once; raise it on a GPU
    position_weight: float = 0.5
    time_weight: float = 0.0
    temperature: float = 0.1
    iterations: int = 15
    restarts: int = 2
    balance: float = 0.3  # sinkhorn: 0 lets sizes be what they are, 1 makes all clusters equally large
    landmarks: int = 300  # spectral: the graph joins every token to a few of these
    neighbours: int = 10  # spectral: to how many
    smallest_area: float = 0.006
    largest_area: float = 0.4
    border_share: float = 0.35
    stability: float = 0.0  # least IoU of the mask carried to the next frame by the keys with the mask found there
    contrast: float = 0.0  # least change of the keys across the outline, relative to that between any two neighbours
    sharpen_radius: int = 6  # pixels at the clip's size

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"clustering method {self.method!r}; there are: {', '.join(METHODS)}")
        if not 1 <= self.clusters < DOUBT:
            raise ValueError(f"clustering.clusters={self.clusters}; labels are there for 1..{DOUBT - 1}")
        if not 0 <= self.balance <= 1:
            raise ValueError(f"clustering.balance={self.balance}; expected 0 (free sizes) to 1 (equal sizes)")

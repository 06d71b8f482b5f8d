"""Space-time clustering: pseudo masks from nothing but the keys of a clip."""

from train.clustering.pseudo_window import DOUBT, IGNORE, PseudoWindow
from train.clustering.report import best_overlap, cluster_entropy, cluster_report, mean_overlap
from train.clustering.settings import METHODS, ClusterSettings
from train.clustering.window_cache import pseudo_windows
from train.clustering.windows import cluster_clips

__all__ = [
    "DOUBT",
    "IGNORE",
    "METHODS",
    "ClusterSettings",
    "PseudoWindow",
    "best_overlap",
    "cluster_clips",
    "cluster_entropy",
    "cluster_report",
    "mean_overlap",
    "pseudo_windows",
]

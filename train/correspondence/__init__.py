"""Correspondence learning: the frame encoder learns which places of two frames are the same, from unlabelled clips."""

from train.correspondence.batch import CorrespondenceBatch, sample_batch
from train.correspondence.learners import Learner, active_learners, correspondence_losses
from train.correspondence.settings import FINE, CorrespondenceSettings

__all__ = [
    "FINE",
    "CorrespondenceBatch",
    "CorrespondenceSettings",
    "Learner",
    "active_learners",
    "correspondence_losses",
    "sample_batch",
]

"""Pseudo masks of a few frames, and what their labels mean.

A doubtful pixel keeps the likelier label and carries the DOUBT bit: it belongs to the mask that goes into memory but
teaches nothing as a target. Leaving doubtful pixels out of both shrinks every given mask by the same rim that no target
forbids, and the decoder learns to grow masks by a pixel or two a frame.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

DOUBT = 128  # bit beside a label: likely this one, but not sure enough to be taught
IGNORE = 255  # nothing is known at all: outside the frame

Labels = npt.NDArray[np.uint8]  # [F, H, W]


@dataclass(frozen=True)
class PseudoWindow:
    """A few frames of one clip and their pseudo masks: 0 is background, 1..M objects; with DOUBT where unsure."""

    clip: int
    frame_indices: tuple[int, ...]
    labels: Labels

    @property
    def object_ids(self) -> list[int]:
        """Labels that stand for an object in the first frame."""
        return [int(label) for label in np.unique(self.labels[0]) if 0 < label < DOUBT]

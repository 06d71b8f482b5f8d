"""One frame of a video with its answer, whoever gave it: a tracker in this process, or a server."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from maskstream.masks import Box, IdMap
from maskstream.tracker import Frame


class SeenObject(Protocol):
    """What tracker and client both say of one object in one frame."""

    @property
    def object_id(self) -> int: ...
    @property
    def score(self) -> float: ...
    @property
    def visible(self) -> float: ...
    @property
    def area(self) -> int: ...
    @property
    def box(self) -> Box | None: ...
    @property
    def lost(self) -> bool: ...


@dataclass(frozen=True)
class FollowedFrame:
    """One frame with its answer."""

    index: int  # of the frame in its source; some are missing where a live source was too fast
    pts_seconds: float
    frame: Frame
    id_map: IdMap
    objects: tuple[SeenObject, ...]
    stage_seconds: Mapping[str, float]
    age_seconds: float | None = None  # of a live frame: from the camera to this answer
    dropped: int = 0  # frames that a live source lost to newer ones since the last answer

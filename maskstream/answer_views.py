"""An answer's masks as other libraries take them: boolean masks, palette images, supervision, COCO, a picture.

They are made when they are asked for, from the id map, which is what an answer holds; so they have its size, which is
the frame's own unless the stream was opened with `output_size`. supervision is imported by `to_supervision` alone.
"""

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from maskstream.errors import MaskstreamError
from maskstream.frame_input import FrameLike, as_frame
from maskstream.masks import IdMap, bounding_box, object_ids
from maskstream.overlay import draw_overlay
from maskstream.pictures import davis_palette
from maskstream.tracker import Frame, ObjectState

if TYPE_CHECKING:
    import supervision

_CATEGORY = 1  # of COCO: there is one kind of thing


class NoMasks(ValueError):
    """The frame was dropped or refused: its answer has no masks."""


class AnswerViews:
    """What a `FrameAnswer` can be turned into. All but `has_masks` raise NoMasks where there are none."""

    index: int | None
    id_map: IdMap | None
    objects: tuple[ObjectState, ...]
    dropped: str | None
    error: MaskstreamError | None

    @property
    def has_masks(self) -> bool:
        """Whether the frame was answered with masks, and neither dropped nor refused."""
        return self.id_map is not None

    def mask(self, object_id: int) -> npt.NDArray[np.bool_]:
        """bool [H, W]: the pixels of one object; none of them for an object that is lost or not followed."""
        found: npt.NDArray[np.bool_] = self._masks() == object_id
        return found

    def to_pil(self) -> Image.Image:
        """A palette image [H, W] with the colours of DAVIS, whose pixel values are the object ids; saved as PNG it is
        what data sets for video object segmentation hold.
        """
        image = Image.fromarray(np.ascontiguousarray(self._masks()))
        image.putpalette(davis_palette().tobytes())
        return image

    def to_supervision(self) -> "supervision.Detections":
        """supervision.Detections of the n objects that are seen, by rising id.

        `xyxy` float [n, 4] in pixels (left, top, right, bottom; the last two are the first column and row outside),
        `mask` bool [n, H, W], `confidence` [n] in 0..1, and both `tracker_id` and `class_id` [n] are the object's id:
        there are no classes, and annotators colour by them. Raises ImportError when supervision is not installed.
        """
        masks = self._masks()
        try:
            import supervision
        except ImportError as error:
            raise ImportError("to_supervision needs the package supervision: pip install supervision") from error
        ids = object_ids(masks)
        if not ids:
            return supervision.Detections.empty()
        scores = self._scores()
        return supervision.Detections(
            xyxy=np.array([_corners(masks == object_id) for object_id in ids], np.float32),
            mask=np.stack([masks == object_id for object_id in ids]),
            confidence=np.array([scores.get(object_id, 0.0) for object_id in ids], np.float32),
            class_id=np.array(ids, int),
            tracker_id=np.array(ids, int),
        )

    def coco(self, image_id: int | None = None) -> list[dict[str, Any]]:
        """An annotation of COCO for each object that is seen, by rising id, ready for json: `image_id` (the frame's
        index if None), `category_id` 1, `track_id` the object's id, `segmentation` as packed runs, `area` in pixels,
        `bbox` [x, y, width, height], `score` in 0..1.
        """
        from maskstream.sinks.coco import segmentation  # with all sinks, which most clients never need

        masks, scores = self._masks(), self._scores()
        image = self.index if image_id is None else image_id
        return [
            {
                "image_id": image,
                "category_id": _CATEGORY,
                "track_id": object_id,
                "iscrowd": 0,
                "segmentation": segmentation(masks == object_id),
                "area": int(np.count_nonzero(masks == object_id)),
                "bbox": list(bounding_box(masks == object_id) or ()),
                "score": round(float(scores.get(object_id, 0.0)), 4),
            }
            for object_id in object_ids(masks)
        ]

    def overlay(self, frame: FrameLike) -> Frame:
        """A new picture uint8 [H, W, 3] RGB: the frame with each object tinted, outlined and labelled with its id.

        The masks are stretched to the frame where its size is another one. Raises InvalidFrame for what is no picture.
        """
        picture, masks = as_frame(frame), self._masks()
        height, width = picture.shape[:2]
        if masks.shape != (height, width):
            masks = cv2.resize(masks, (width, height), interpolation=cv2.INTER_NEAREST_EXACT).astype(np.uint8)
        return draw_overlay(picture, masks)

    def _masks(self) -> IdMap:
        if self.id_map is None:
            why = f"dropped: {self.dropped}" if self.dropped else f"refused: {self.error}"
            raise NoMasks(f"frame {self.index} has no masks, it was {why}; ask `has_masks` first")
        return self.id_map

    def _scores(self) -> dict[int, float]:
        return {seen.object_id: seen.score for seen in self.objects}


def _corners(mask: npt.NDArray[np.bool_]) -> tuple[int, int, int, int]:
    x, y, width, height = bounding_box(mask) or (0, 0, 0, 0)
    return x, y, x + width, y + height

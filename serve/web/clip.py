"""The bundled clip as JPEGs, for a first look without a video or a camera: the one that `maskstream demo` follows.

It is rendered when somebody asks for it, as far as they ask, and kept: some megabytes, the same for everybody.
"""

import threading
from collections.abc import Iterator

import cv2

from maskstream.masks import IdMap
from maskstream.moving_shapes import FRAMES_PER_SECOND, Frame, render_frames

NUM_FRAMES = 90
SIZE = (480, 854)  # height, width
NUM_OBJECTS = 3
_JPEG_QUALITY = 90


class BundledClip:
    """Made at once, rendered later; `frame` and `first_mask` are work of tens of milliseconds, for a worker thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._frames: list[bytes] = []
        self._mask = b""
        self._renderer: Iterator[tuple[Frame, IdMap]] = render_frames(NUM_FRAMES, SIZE, num_objects=NUM_OBJECTS)

    def facts(self) -> dict[str, object]:
        """What the page must know before the first frame."""
        height, width = SIZE
        ids = list(range(1, NUM_OBJECTS + 1))
        return {"frames": NUM_FRAMES, "fps": FRAMES_PER_SECOND, "width": width, "height": height, "objects": ids}

    def frame(self, index: int) -> bytes | None:
        """A frame as JPEG, None where the clip has ended."""
        if not 0 <= index < NUM_FRAMES:
            return None
        with self._lock:
            while len(self._frames) <= index:
                frame, id_map = next(self._renderer)
                if not self._frames:
                    self._mask = cv2.imencode(".png", id_map)[1].tobytes()
                quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
                self._frames.append(cv2.imencode(".jpg", frame[:, :, ::-1], quality)[1].tobytes())
            return self._frames[index]

    def first_mask(self) -> bytes:
        """The exact ids of the first frame, as a grey PNG."""
        self.frame(0)
        return self._mask

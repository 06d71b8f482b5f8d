"""Still pictures: photographs in and out by OpenCV, id maps as PNG files by Pillow.

In a mask file the pixel value is the object id, as DAVIS keeps it: a palette PNG (mode P, whose colours are only for
the eye) or a grey one. OpenCV would turn a palette into colours and lose the ids, so it never reads masks; and an RGB
file is refused, because a colour names no object.
"""

import struct
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from maskstream.errors import MaskFileError, VideoError
from maskstream.masks import MAX_OBJECT_ID, IdMap

Picture = npt.NDArray[np.uint8]  # [H, W, 3] RGB

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
MAX_MASK_PIXELS = 2**26  # 8192 x 8192; a small PNG may claim far more and would be unpacked into memory
_ID_MODES = ("P", "L", "1", "I;16", "I")
_PNG_HEAD = struct.Struct(">8s8xII")  # signature, (length and name of the first chunk,) width, height
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def read_picture(path: Path) -> Picture:
    """A photograph as uint8 [H, W, 3] RGB, turned upright. Raises VideoError when it is missing or undecodable."""
    try:
        data = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise VideoError(f"{path}: cannot be read ({error.strerror})") from error
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if picture is None:
        raise VideoError(f"{path}: {'not a picture' if data.size else 'the file is empty'}; expected a JPEG or PNG")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)  # type: ignore[return-value]


def write_jpeg(path: Path, picture: Picture, quality: int = 90) -> None:
    """Write uint8 [H, W, 3] RGB as a JPEG; the folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_jpeg(picture, quality))


def encode_jpeg(picture: Picture, quality: int = 90) -> bytes:
    """JPEG bytes of uint8 [H, W, 3] RGB."""
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def read_id_map(path: Path) -> IdMap:
    """The object ids of a mask PNG, uint8 [H, W]. Raises MaskFileError when it is missing or holds no ids."""
    _check_png(path)
    try:
        with Image.open(path) as image:
            if image.mode not in _ID_MODES:
                raise MaskFileError(
                    f"{path}: a mask file holds object ids, this one holds {image.mode} colours; "
                    "save it as a palette or grey PNG whose pixel value is the object id"
                )
            ids = np.asarray(image)  # of a palette image: the indices
    except (OSError, SyntaxError, ValueError) as error:  # Pillow reports a broken PNG as SyntaxError
        raise MaskFileError(f"{path}: the PNG is damaged ({error}); save the mask again") from error
    highest = int(ids.max(initial=0))
    if highest > MAX_OBJECT_ID:
        raise MaskFileError(f"{path}: object id {highest} is too high; number the objects 1..{MAX_OBJECT_ID}")
    return ids.astype(np.uint8)


def write_id_map(path: Path, id_map: IdMap) -> None:
    """Write ids uint8 [H, W] as a palette PNG with the DAVIS colours; the folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.ascontiguousarray(id_map))
    image.putpalette(davis_palette().tobytes())
    image.save(path, format="PNG")


@cache
def davis_palette() -> npt.NDArray[np.uint8]:
    """uint8 [256, 3] RGB: bits 0, 3, 6 of the id fill red from its highest bit down; 1, 4, 7 green; 2, 5 blue."""
    ids = np.arange(256)
    palette = np.zeros((256, 3), dtype=np.uint8)
    for bit in range(8):
        palette[:, bit % 3] |= (((ids >> bit) & 1) << (7 - bit // 3)).astype(np.uint8)
    return palette


def _check_png(path: Path) -> None:
    """Look at the first bytes only, so that a hostile size is refused before anything is unpacked."""
    try:
        with path.open("rb") as file:
            head = file.read(_PNG_HEAD.size)
    except OSError as error:
        raise MaskFileError(f"{path}: cannot be read ({error.strerror}); expected a mask PNG") from error
    if len(head) < _PNG_HEAD.size or not head.startswith(_PNG_SIGNATURE):
        what = "not a PNG" if head else "the file is empty"
        raise MaskFileError(f"{path}: {what}; expected a palette or grey PNG whose pixel value is the object id")
    _, width, height = _PNG_HEAD.unpack(head)
    if width * height > MAX_MASK_PIXELS:
        raise MaskFileError(f"{path}: a mask of {width}x{height} is larger than {MAX_MASK_PIXELS} pixels allow")

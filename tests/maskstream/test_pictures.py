"""Id maps survive PNG files as ids, and files that hold none are refused."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskstream.errors import MaskFileError, VideoError
from maskstream.pictures import davis_palette, read_id_map, read_picture, write_id_map, write_jpeg


def all_ids() -> np.ndarray:
    return np.arange(256, dtype=np.uint8).reshape(8, 32)


def test_ids_survive_a_palette_png(tmp_path: Path) -> None:
    write_id_map(tmp_path / "new" / "mask.png", all_ids())
    np.testing.assert_array_equal(read_id_map(tmp_path / "new" / "mask.png"), all_ids())


def test_palette_png_is_written_with_davis_colours(tmp_path: Path) -> None:
    write_id_map(tmp_path / "mask.png", all_ids())
    with Image.open(tmp_path / "mask.png") as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")).reshape(-1, 3), davis_palette())


def test_davis_palette() -> None:
    assert davis_palette()[:10].tolist() == [
        *([0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128], [128, 0, 128], [0, 128, 128]),
        *([128, 128, 128], [64, 0, 0], [192, 0, 0]),
    ]
    assert davis_palette()[255].tolist() == [224, 224, 192]


def test_palette_is_never_read_as_colours(tmp_path: Path) -> None:
    """A palette whose colours have nothing to do with the ids, and only as many entries as needed."""
    image = Image.fromarray(np.array([[0, 1], [2, 1]], dtype=np.uint8))
    image.putpalette([9, 9, 9, 250, 250, 250, 9, 9, 9])
    image.save(tmp_path / "mask.png", bits=2)
    assert read_id_map(tmp_path / "mask.png").tolist() == [[0, 1], [2, 1]]


def test_grey_and_two_valued_png_hold_ids(tmp_path: Path) -> None:
    Image.fromarray(all_ids()).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_id_map(tmp_path / "grey.png"), all_ids())
    Image.fromarray(np.eye(4, dtype=bool)).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(read_id_map(tmp_path / "bits.png"), np.eye(4, dtype=np.uint8))


def test_sixteen_bit_ids_are_read_up_to_255(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 255]], dtype=np.uint16)).save(tmp_path / "good.png")
    assert read_id_map(tmp_path / "good.png").tolist() == [[0, 255]]
    Image.fromarray(np.array([[0, 256]], dtype=np.uint16)).save(tmp_path / "high.png")
    with pytest.raises(MaskFileError, match="object id 256 is too high"):
        read_id_map(tmp_path / "high.png")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_colours_are_refused(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (4, 4)).save(tmp_path / "mask.png")
    with pytest.raises(MaskFileError, match=f"holds {mode} colours"):
        read_id_map(tmp_path / "mask.png")


def test_files_that_are_no_png_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("a mask, I promise, and long enough to have a header")
    for name, message in (("empty.png", "file is empty"), ("text.png", "not a PNG"), ("none.png", "cannot be read")):
        with pytest.raises(MaskFileError, match=message):
            read_id_map(tmp_path / name)


def test_truncated_png_is_refused(tmp_path: Path) -> None:
    write_id_map(tmp_path / "mask.png", np.random.default_rng(0).integers(0, 255, (90, 90)).astype(np.uint8))
    data = (tmp_path / "mask.png").read_bytes()
    (tmp_path / "mask.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(MaskFileError, match="damaged"):
        read_id_map(tmp_path / "mask.png")


def test_png_that_claims_a_huge_size_is_refused_by_its_header(tmp_path: Path) -> None:
    header = b"IHDR" + struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    (tmp_path / "huge.png").write_bytes(png)
    with pytest.raises(MaskFileError, match="30000x30000"):
        read_id_map(tmp_path / "huge.png")


def test_photographs_keep_red_red(tmp_path: Path) -> None:
    red = np.zeros((16, 16, 3), dtype=np.uint8)
    red[..., 0] = 200
    write_jpeg(tmp_path / "red.jpg", red)
    assert np.abs(read_picture(tmp_path / "red.jpg").astype(int) - red).max() < 6


def test_photographs_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("not a picture")
    for name, message in (
        ("empty.jpg", "file is empty"),
        ("text.jpg", "not a picture"),
        ("none.jpg", "cannot be read"),
    ):
        with pytest.raises(VideoError, match=message):
            read_picture(tmp_path / name)

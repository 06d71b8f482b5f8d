"""The zip for the YouTube-VOS server: its paths, its masks, and nothing that was there before."""

import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from maskstream.submission import Submission


def test_zip_holds_the_masks_at_the_paths_the_server_takes(tmp_path: Path) -> None:
    id_map = np.arange(64, dtype=np.uint8).reshape(8, 8)
    submission = Submission(tmp_path)
    for video, frame in (("b", "00000"), ("a", "00005"), ("a", "00010")):
        submission.add(video, frame, id_map)
    with zipfile.ZipFile(submission.finish()) as archive:
        expected = ["Annotations/a/00005.png", "Annotations/a/00010.png", "Annotations/b/00000.png"]
        assert sorted(archive.namelist()) == expected
        with Image.open(io.BytesIO(archive.read("Annotations/a/00005.png"))) as image:
            assert image.mode == "P"  # the ids are the pixel values
            np.testing.assert_array_equal(np.asarray(image), id_map)
    assert submission.num_masks == 3


def test_masks_of_an_earlier_run_are_left_out(tmp_path: Path) -> None:
    id_map = np.zeros((8, 8), dtype=np.uint8)
    Submission(tmp_path).add("old", "00000", id_map)
    submission = Submission(tmp_path)
    submission.add("new", "00000", id_map)
    submission.finish()
    with zipfile.ZipFile(submission.finish()) as archive:  # a second time overwrites the first
        assert archive.namelist() == ["Annotations/new/00000.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["Annotations", "submission.zip"]

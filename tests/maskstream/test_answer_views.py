"""An answer's masks in other libraries' forms, against masks counted by hand."""

import sys

import numpy as np
import pytest
from served import picture, square

from maskstream.answer_views import NoMasks
from maskstream.client import FrameAnswer, MaskStreamClient, Prompt
from maskstream.errors import InvalidFrame, RequestRefused
from maskstream.pictures import read_id_map
from maskstream.tracker import ObjectState

# Object 2 is a bar of 3 x 2 pixels whose left upper corner is at x 4, y 1; object 7 one pixel; 9 is lost.
ID_MAP = np.zeros((6, 8), np.uint8)
ID_MAP[1:3, 4:7] = 2
ID_MAP[5, 0] = 7
SEEN = (
    ObjectState(7, 0.5, 0.75, 1, (0, 5, 1, 1), False),
    ObjectState(2, 0.875, 0.9, 6, (4, 1, 3, 2), False),
    ObjectState(9, 0.0, 0.1, 0, None, True),
)
ANSWER = FrameAnswer(12, 3, ID_MAP, SEEN)


def test_a_mask_is_the_pixels_of_one_object():
    assert ANSWER.has_masks
    assert ANSWER.mask(2).dtype == bool
    assert np.argwhere(ANSWER.mask(7)).tolist() == [[5, 0]]
    assert ANSWER.mask(2).sum() == 6
    assert not ANSWER.mask(9).any()


def test_the_palette_image_holds_the_ids_and_is_read_back(tmp_path):
    image = ANSWER.to_pil()
    assert (image.mode, image.size) == ("P", (8, 6))
    assert (np.asarray(image) == ID_MAP).all()
    assert image.convert("RGB").getpixel((4, 1)) == (0, 128, 0), "DAVIS paints object 2 green"
    image.save(tmp_path / "mask.png")
    assert (read_id_map(tmp_path / "mask.png") == ID_MAP).all()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_supervision_gets_boxes_masks_ids_and_scores():
    supervision = pytest.importorskip("supervision", reason="needs the package supervision")
    found = ANSWER.to_supervision()
    assert found.xyxy.tolist() == [[4, 1, 7, 3], [0, 5, 1, 6]]
    assert found.tracker_id.tolist() == found.class_id.tolist() == [2, 7]
    assert found.confidence.tolist() == [0.875, 0.5]
    assert (found.mask == np.stack([ID_MAP == 2, ID_MAP == 7])).all()
    assert found.area.tolist() == [6, 1]
    assert len(FrameAnswer(0, 1, np.zeros((6, 8), np.uint8)).to_supervision()) == 0
    scene = np.zeros((6, 8, 3), np.uint8)
    assert supervision.MaskAnnotator().annotate(scene, found)[1, 4].any(), "its annotators take it"


def test_without_supervision_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(ImportError, match="pip install supervision"):
        ANSWER.to_supervision()


def test_coco_holds_runs_down_the_columns():
    bar, dot = ANSWER.coco()
    assert (bar["image_id"], bar["track_id"], bar["area"], bar["bbox"], bar["score"]) == (12, 2, 6, [4, 1, 3, 2], 0.875)
    assert decoded(bar) == (ID_MAP == 2).tolist()
    assert decoded(dot) == (ID_MAP == 7).tolist()
    assert ANSWER.coco(image_id=4)[0]["image_id"] == 4


def decoded(annotation):
    """The mask of packed runs, written from their definition."""
    height, width = annotation["segmentation"]["size"]
    counts, letters = [], iter(annotation["segmentation"]["counts"].encode())
    for letter in letters:
        value, shift, group = 0, 0, letter - 48
        while True:
            value |= (group & 0x1F) << shift
            shift += 5
            if not group & 0x20:
                break
            group = next(letters) - 48
        if group & 0x10:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
    flat = np.repeat([place % 2 == 1 for place in range(len(counts))], counts)
    return flat.reshape(width, height).T.tolist()


def test_an_overlay_tints_the_objects_and_nothing_else():
    frame = np.full((120, 160, 3), 100, np.uint8)
    drawn = ANSWER.overlay(frame)  # 20 times the size of the masks
    assert drawn.shape == frame.shape
    assert (drawn[50, 110] != frame[50, 110]).any()
    assert (drawn[115, 150] == 100).all()
    assert (frame == 100).all(), "the frame itself is left alone"
    with pytest.raises(InvalidFrame):
        ANSWER.overlay("frame.jpg")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (FrameAnswer(3, 0, dropped="TOO_OLD"), "frame 3 has no masks, it was dropped: TOO_OLD"),
        (FrameAnswer(4, 0, error=RequestRefused("no object is followed", "NO_OBJECTS")), "no object is followed"),
    ],
)
def test_an_answer_without_masks_says_why(answer, why):
    assert not answer.has_masks
    for view in (lambda: answer.mask(1), answer.to_pil, answer.to_supervision, answer.coco):
        with pytest.raises(NoMasks, match=why):
            view()


def test_views_of_a_servers_answer(running):
    with MaskStreamClient(running.server.listen) as client, client.open() as stream:
        (answer,) = stream.propagate([picture()], {0: [Prompt(4, square(16, 16))]})
    assert answer.mask(4).sum() == answer.objects[0].area == answer.coco()[0]["area"]

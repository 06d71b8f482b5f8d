"""The bundled clip: what the demo and the benchmarks take for granted of it."""

import numpy as np
import pytest

from maskstream.masks import object_ids
from maskstream.moving_shapes import RenderedClip, render, render_frames
from maskstream.scores import jaccard


@pytest.fixture(scope="module")
def clip() -> RenderedClip:
    """The default clip at a third of its size."""
    return render(90, (160, 284))


def test_shapes_and_ids(clip: RenderedClip) -> None:
    assert len(clip.frames) == len(clip.id_maps) == 90
    assert {frame.shape for frame in clip.frames} == {(160, 284, 3)}
    assert {frame.dtype for frame in clip.frames} == {np.dtype(np.uint8)}
    assert object_ids(clip.id_maps[0]) == [1, 2, 3]


def test_same_arguments_give_the_same_pixels() -> None:
    first, second, other = render(3, (96, 128)), render(3, (96, 128)), render(3, (96, 128), seed=5)
    for a, b in zip(first.frames + first.id_maps, second.frames + second.id_maps, strict=True):
        np.testing.assert_array_equal(a, b)
    assert (first.frames[0] != other.frames[0]).mean() > 0.5


def test_every_object_is_in_sight_at_first_and_moves(clip: RenderedClip) -> None:
    for object_id in (1, 2, 3):
        first, later = clip.id_maps[0] == object_id, clip.id_maps[45] == object_id
        assert first.mean() > 0.02
        assert jaccard(first, later) < 0.3
        assert min((id_map == object_id).mean() for id_map in clip.id_maps) > 0.002  # never wholly lost


def test_objects_hide_each_other_and_come_back(clip: RenderedClip) -> None:
    areas = np.array([[(id_map == i).sum() for i in (1, 2, 3)] for id_map in clip.id_maps])
    dips = areas.min(axis=0) / np.maximum(areas[0], areas[-1])
    assert dips.min() < 0.5  # one at least loses half of what is seen of it, and shows it again


def test_copying_the_first_mask_is_not_enough(clip: RenderedClip) -> None:
    overlaps = [jaccard(clip.id_maps[0] == i, clip.id_maps[t] == i) for i in (1, 2, 3) for t in range(1, 89)]
    assert np.mean(overlaps) < 0.35


def test_things_and_scene_have_structure_and_share_colours(clip: RenderedClip) -> None:
    frame, id_map = clip.frames[0].astype(float), clip.id_maps[0]
    for object_id in (0, 1, 2, 3):
        assert frame[id_map == object_id].std(axis=0).mean() > 12  # no flat blobs
    ground = np.unique((frame[id_map == 0] // 32).astype(int), axis=0)
    for object_id in (1, 2, 3):
        thing = np.unique((frame[id_map == object_id] // 32).astype(int), axis=0)
        shared = (thing[:, None] == ground[None]).all(axis=2).any(axis=1).mean()
        assert shared > 0.2


def test_the_scene_moves_too(clip: RenderedClip) -> None:
    background = (clip.id_maps[0] == 0) & (clip.id_maps[45] == 0)
    change = np.abs(clip.frames[0].astype(int) - clip.frames[45])[background].mean()
    assert change > 15


def test_colours_do_not_wrap_round() -> None:
    """A tone brighter than white once came out as green."""
    frame = render(1, (480, 854)).frames[0].astype(int)
    assert not ((frame[..., 0] < 40) & (frame[..., 1] > 200) & (frame[..., 2] > 120)).any()


@pytest.mark.parametrize("num_objects", [1, 16])
def test_any_number_of_objects_is_in_sight_at_first(num_objects: int) -> None:
    _, id_map = next(render_frames(1, (240, 426), num_objects=num_objects))
    assert object_ids(id_map) == list(range(1, num_objects + 1))


def test_impossible_clips_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 frame"):
        render(0)
    with pytest.raises(ValueError, match=r"1\.\.255 objects"):
        render(1, num_objects=256)

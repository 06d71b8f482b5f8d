"""The YouTube-VOS layout: who is handed out when, what is expected, what can be scored, and splits that are damaged."""

import json
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeNetworks
from youtube_layout import SIZE, add_frames, add_video, names, squares

from maskstream.errors import MaskFileError, VideoError
from maskstream.evaluation import AnsweredStep, evaluate_sequence
from maskstream.pictures import write_id_map
from maskstream.youtube_vos import ListedVideo, find_split, open_split


def only_video(root: Path) -> ListedVideo:
    split = open_split(root)
    (name,) = split.names()
    return split.video(name)


def prompts(video: ListedVideo) -> dict[str, list[int]]:
    return {s.name: [prompt.object_id for prompt in s.prompts] for s in video.steps() if s.prompts}


def answers(video: ListedVideo) -> dict[str, AnsweredStep]:
    found: dict[str, AnsweredStep] = {}
    evaluate_sequence(FakeNetworks(), video, on_step=lambda answered: found.update({answered.step.name: answered}))
    return found


def test_object_that_appears_late_is_handed_out_on_its_first_frame(tmp_path: Path) -> None:
    late = squares(7)  # says nothing of object 1, which is still there
    add_video(tmp_path, "a", range(0, 25, 5), {1: [0, 5, 10, 15, 20], 7: [10, 15, 20]}, {0: squares(1), 10: late})
    video = only_video(tmp_path)
    assert prompts(video) == {"00000": [1], "00010": [7]}
    found = answers(video)
    np.testing.assert_array_equal(found["00005"].id_map, squares(1))
    np.testing.assert_array_equal(found["00020"].id_map, squares(1, 7))  # object 1 was not taken for background


def test_late_object_takes_no_pixels_but_its_own(tmp_path: Path) -> None:
    overlapping = np.zeros(SIZE, dtype=np.uint8)
    overlapping[0:32, 16:48] = 2  # the right half of object 1 and as much beside it
    add_video(tmp_path, "a", [0, 5, 10], {1: [0, 5, 10], 2: [5, 10]}, {0: squares(1), 5: overlapping})
    answer = answers(only_video(tmp_path))["00005"].id_map
    np.testing.assert_array_equal(answer == 2, overlapping == 2)
    np.testing.assert_array_equal(answer == 1, (squares(1) == 1) & (overlapping == 0))


def test_two_objects_that_start_on_one_frame(tmp_path: Path) -> None:
    add_video(tmp_path, "a", range(0, 20, 5), {2: [5, 10, 15], 5: [5, 10, 15]}, {5: squares(2, 5)})
    video = only_video(tmp_path)
    assert prompts(video) == {"00005": [2, 5]}
    np.testing.assert_array_equal(answers(video)["00015"].id_map, squares(2, 5))


def test_ids_that_are_not_contiguous_are_kept(tmp_path: Path) -> None:
    add_video(tmp_path, "a", [0, 5], {40: [0, 5], 2: [0, 5], 255: [0, 5]}, {0: squares(2, 40, 255)})
    video = only_video(tmp_path)
    assert [listed.object_id for listed in video.objects] == [2, 40, 255]
    assert prompts(video) == {"00000": [2, 40, 255]}
    assert set(np.unique(answers(video)["00005"].id_map)) == {0, 2, 40, 255}


def test_every_fifth_frame_is_expected_and_all_are_followed(tmp_path: Path) -> None:
    split = tmp_path / "valid"
    add_video(split, "a", [5, 10, 15], {1: [5, 10]}, {5: squares(1)})
    add_frames(tmp_path / "all_frames/valid_all_frames/JPEGImages/a", range(20))
    steps = list(only_video(tmp_path).steps())
    assert [s.name for s in steps] == names(*range(5, 11))  # none before the first listed frame, none after the last
    assert [s.name for s in steps if s.expected] == ["00005", "00010"]


def test_video_that_is_not_among_all_frames_is_taken_from_the_split(tmp_path: Path) -> None:
    add_video(tmp_path / "valid", "a", [0, 5], {1: [0, 5]}, {0: squares(1)})
    add_frames(tmp_path / "all_frames/valid_all_frames/JPEGImages/b", range(3))
    assert [path.parent for path in only_video(tmp_path).frames] == [tmp_path / "valid/JPEGImages/a"] * 2


def test_frames_are_in_order_whatever_the_order_in_meta_json(tmp_path: Path) -> None:
    add_video(tmp_path, "a", [0, 5, 10], {1: [10, 0, 5]}, {0: squares(1), 10: squares(1)})
    assert prompts(only_video(tmp_path)) == {"00000": [1]}


def test_first_mask_that_does_not_show_the_object_is_passed_over(tmp_path: Path) -> None:
    add_video(tmp_path, "a", [0, 5, 10], {1: [0, 5, 10], 2: [0, 5, 10]}, {0: squares(1), 5: squares(1, 2)})
    assert prompts(only_video(tmp_path)) == {"00000": [1], "00005": [2]}


def test_train_split_is_scored_to_its_last_frame(tmp_path: Path) -> None:
    masks = {0: squares(1), 5: squares(1, 2), 10: squares(1, 2), 15: squares(1)}
    add_video(tmp_path / "train", "a", range(0, 20, 5), {1: [0, 5, 10, 15], 2: [5, 10]}, masks)
    video = only_video(tmp_path)
    result = evaluate_sequence(FakeNetworks(), video)
    assert video.has_truth
    assert list(result.decoded.objects) == [1, 2]
    assert result.decoded.objects[2].j.mean > 0.99  # frame 15, which is not listed for it, does not count
    assert [answers(video)[name].j is not None for name in names(0, 5, 10, 15)] == [False, True, True, True]


def test_the_last_frame_counts(tmp_path: Path) -> None:
    masks = {0: squares(1), 5: squares(1)}
    masks[10] = (squares(2) // 2).astype(np.uint8)  # object 1 has jumped
    add_video(tmp_path, "a", [0, 5, 10], {1: [0, 5, 10]}, masks)
    scores = evaluate_sequence(FakeNetworks(), only_video(tmp_path)).decoded.objects[1]
    assert scores.j.mean == pytest.approx(0.5, abs=0.01)


def test_masks_that_only_hand_out_are_no_truth(tmp_path: Path) -> None:
    """In `valid`, the mask of frame 5 shows object 2 alone; to score object 1 by it would be wrong."""
    add_video(tmp_path, "a", [0, 5], {1: [0, 5], 2: [5]}, {0: squares(1), 5: squares(2)})
    video = only_video(tmp_path)
    assert not video.has_truth
    assert all(step.truth is None for step in video.steps())
    assert evaluate_sequence(FakeNetworks(), video).decoded.mean is None


def test_void_pixels_are_nobodys(tmp_path: Path) -> None:
    with_void = np.where(squares(255) != 0, 255, squares(1)).astype(np.uint8)
    add_video(tmp_path, "a", [0, 5], {1: [0, 5]}, {0: with_void, 5: with_void})
    steps = list(only_video(tmp_path).steps())
    assert steps[1].truth is not None
    np.testing.assert_array_equal(steps[1].truth, squares(1))
    assert prompts(only_video(tmp_path)) == {"00000": [1]}


def test_split_is_the_folder_itself_or_one_in_it(tmp_path: Path) -> None:
    assert find_split(tmp_path) is None
    for name in ("test", "train", "valid"):
        add_video(tmp_path / name, "a", [0], {1: [0]}, {0: squares(1)})
        assert find_split(tmp_path) == tmp_path / name  # valid before train before test
    assert find_split(tmp_path / "train") == tmp_path / "train"


def test_videos_can_be_chosen(tmp_path: Path) -> None:
    for name in ("b", "a"):
        add_video(tmp_path, name, [0], {1: [0]}, {0: squares(1)})
    split = open_split(tmp_path)
    assert split.names() == ["b", "a"]
    assert split.names(["a"]) == ["a"]
    with pytest.raises(VideoError, match=r"meta.json: lists no video c, but 2 others"):
        split.names(["a", "c"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "meta.json: cannot be read .*; expected {"),
        ("[]", 'meta.json: no "videos" in it'),
        ('{"videos": {}}', 'meta.json: no "videos" in it'),
        ('{"videos": {"a": {}}}', 'meta.json: video a: no "objects"'),
        ('{"videos": {"a": {"objects": {"0": {"frames": ["0"]}}}}}', "video a: '0' is no object id; expected a number"),
        ('{"videos": {"a": {"objects": {"1": {}}}}}', 'video a, object 1: "frames" is no list of frame names'),
        ('{"videos": {"a": {"objects": {"1": {"frames": []}}}}}', 'object 1: "frames" is no list of frame names'),
    ],
)
def test_broken_meta_json_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "meta.json").write_text(text)
    with pytest.raises(VideoError, match=message):
        open_split(tmp_path)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        VideoError, match=r"no meta.json in it, nor in valid, train, test under it; expected the YouTube"
    ):
        open_split(tmp_path)
    add_video(tmp_path, "a", [0, 5], {1: [0, 5]}, {0: squares(1)})
    (tmp_path / "JPEGImages/a/00005.jpg").unlink()
    with pytest.raises(VideoError, match=r"JPEGImages/a: no 00005.jpg, which .*meta.json lists"):
        only_video(tmp_path)
    (tmp_path / "Annotations/a").rename(tmp_path / "Annotations/b")
    with pytest.raises(VideoError, match=r"Annotations: no folder a, which meta.json lists; expected the YouTube"):
        only_video(tmp_path)


def test_object_without_a_first_mask_is_named(tmp_path: Path) -> None:
    add_video(tmp_path, "a", [0, 5], {1: [0, 5], 2: [5]}, {0: squares(1)})
    with pytest.raises(VideoError, match=r"a: no PNG shows object 2, .* lists from frame 00005 on; .* in 00005.png"):
        only_video(tmp_path)


def test_mask_with_an_id_that_is_not_listed_is_named(tmp_path: Path) -> None:
    add_video(tmp_path, "a", [0, 5], {1: [0, 5], 2: [0, 5]}, {0: squares(1, 2), 5: squares(1, 7)})
    with pytest.raises(VideoError, match=r"00005.png: holds object id 7, which meta.json does not list for a; .* 1, 2"):
        list(only_video(tmp_path).steps())


def test_names_in_meta_json_lead_nowhere_else(tmp_path: Path) -> None:
    add_video(tmp_path / "valid", "a", [0], {1: [0]}, {0: squares(1)})
    meta = json.loads((tmp_path / "valid/meta.json").read_text())
    (tmp_path / "valid/meta.json").write_text(json.dumps({"videos": {"../Annotations/a": meta["videos"]["a"]}}))
    with pytest.raises(VideoError, match=r"no folder \.\./Annotations/a"):
        only_video(tmp_path)


def test_files_of_another_size_or_kind_are_named(tmp_path: Path) -> None:
    add_video(tmp_path, "a", [0, 5], {1: [0, 5]}, {0: squares(1)})
    write_id_map(tmp_path / "Annotations/a/00000.png", np.ones((8, 9), dtype=np.uint8))
    with pytest.raises(VideoError, match=r"00000.png is 9x8, its frame is 96x64"):
        list(only_video(tmp_path).steps())
    (tmp_path / "Annotations/a/00000.png").write_bytes(b"no PNG")
    with pytest.raises(MaskFileError, match=r"00000.png: not a PNG"):
        only_video(tmp_path)

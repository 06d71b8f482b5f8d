"""The DAVIS layout in its variants, and datasets that are not whole."""

from pathlib import Path

import numpy as np
import pytest

from maskstream.dataset import find_sequences, find_single_object_sequences
from maskstream.errors import VideoError
from maskstream.pictures import write_id_map, write_jpeg
from maskstream.video import VideoWriter

SIZE = (32, 48)


def frames(count: int) -> list[np.ndarray]:
    return [np.full((*SIZE, 3), 20 * index, dtype=np.uint8) for index in range(count)]


def add_sequence(
    root: Path, name: str, num_frames: int = 4, *, video: bool = False, resolution: str = "480p", num_masks: int = 0
) -> None:
    folder = root / "JPEGImages" / resolution
    if video:
        with VideoWriter(folder / f"{name}.mp4") as writer:
            for frame in frames(num_frames):
                writer.write(frame)
    else:
        for index, frame in enumerate(frames(num_frames)):
            write_jpeg(folder / name / f"{index:05d}.jpg", frame)
    for index in range(num_masks or num_frames):
        id_map = np.zeros(SIZE, dtype=np.uint8)
        id_map[4:12, 4 + index : 20 + index] = 1
        write_id_map(root / "Annotations" / resolution / name / f"{index:05d}.png", id_map)


@pytest.mark.parametrize("video", [False, True])
def test_frames_and_masks_come_in_pairs(tmp_path: Path, video: bool) -> None:
    add_sequence(tmp_path, "bear", video=video)
    (sequence,) = find_sequences(tmp_path)
    pairs = list(sequence.pairs())
    assert [int(frame[0, 0, 0]) for frame, _ in pairs] == pytest.approx([0, 20, 40, 60], abs=4)
    assert [int(truth.argmax()) % SIZE[1] for _, truth in pairs] == [4, 5, 6, 7]


def test_all_sequences_without_a_list_and_the_named_ones_in_their_order(tmp_path: Path) -> None:
    for name in ("cow", "bear", "dog"):
        add_sequence(tmp_path, name)
    assert [sequence.name for sequence in find_sequences(tmp_path)] == ["bear", "cow", "dog"]
    assert [sequence.name for sequence in find_sequences(tmp_path, ["dog", "bear"])] == ["dog", "bear"]


def test_validation_list_is_followed(tmp_path: Path) -> None:
    for name in ("bear", "cow", "dog"):
        add_sequence(tmp_path, name)
    listing = tmp_path / "ImageSets" / "2017" / "val.txt"
    listing.parent.mkdir(parents=True)
    listing.write_text("dog\nbear\n")
    assert [sequence.name for sequence in find_sequences(tmp_path)] == ["dog", "bear"]


def test_another_resolution_is_taken(tmp_path: Path) -> None:
    add_sequence(tmp_path, "bear", resolution="Full-Resolution")
    assert find_sequences(tmp_path)[0].frames.parent.name == "Full-Resolution"


def test_void_counts_as_background_but_two_valued_masks_keep_their_object(tmp_path: Path) -> None:
    add_sequence(tmp_path, "bear")
    folder = tmp_path / "Annotations" / "480p" / "bear"
    for path in folder.iterdir():
        write_id_map(path, np.tile(np.array([0, 1, 255], dtype=np.uint8), (SIZE[0], SIZE[1] // 3)))
    assert {int(i) for _, truth in find_sequences(tmp_path)[0].pairs() for i in np.unique(truth)} == {0, 1}
    for path in folder.iterdir():
        write_id_map(path, np.tile(np.array([0, 255], dtype=np.uint8), (SIZE[0], SIZE[1] // 2)))
    assert {int(i) for _, truth in find_sequences(tmp_path)[0].pairs() for i in np.unique(truth)} == {0, 255}


@pytest.mark.parametrize("video", [False, True])
@pytest.mark.parametrize("num_masks", [3, 6])
def test_numbers_of_frames_and_masks_must_agree(tmp_path: Path, video: bool, num_masks: int) -> None:
    add_sequence(tmp_path, "bear", 4, video=video, num_masks=num_masks)
    with pytest.raises(VideoError, match=rf"has 4 frames, but .*bear has {num_masks} masks"):
        list(find_sequences(tmp_path)[0].pairs())


def test_sizes_of_frames_and_masks_must_agree(tmp_path: Path) -> None:
    add_sequence(tmp_path, "bear")
    write_id_map(tmp_path / "Annotations/480p/bear/00002.png", np.zeros((8, 9), dtype=np.uint8))
    with pytest.raises(VideoError, match=r"00002.png is 9x8, its frame in .*bear is 48x32"):
        list(find_sequences(tmp_path)[0].pairs())


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="Annotations: no such folder; expected the DAVIS layout"):
        find_sequences(tmp_path)
    add_sequence(tmp_path, "bear")
    with pytest.raises(VideoError, match="no sequence cat, mouse; there are: bear"):
        find_sequences(tmp_path, ["cat", "bear", "mouse"])
    (tmp_path / "JPEGImages/480p/bear").rename(tmp_path / "JPEGImages/480p/lion")
    with pytest.raises(VideoError, match=r"neither a folder bear nor bear.mp4"):
        find_sequences(tmp_path)


def test_list_of_davis_2016_is_read_in_both_its_forms(tmp_path: Path) -> None:
    for name in ("bear", "cow", "dog"):
        add_sequence(tmp_path, name, 1)
    files = [
        f"/JPEGImages/480p/{name}/{i:05d}.jpg /Annotations/480p/{name}/{i:05d}.png"
        for name in ("dog", "bear")
        for i in range(3)
    ]
    for folder, text in (("2016", "cow\nbear\n"), ("480p", "\n".join(files))):  # the second goes before the first
        listing = tmp_path / "ImageSets" / folder / "val.txt"
        listing.parent.mkdir(parents=True)
        listing.write_text(text)
        expected = ["cow", "bear"] if folder == "2016" else ["dog", "bear"]
        assert [sequence.name for sequence in find_single_object_sequences(tmp_path)] == expected
    assert [sequence.name for sequence in find_sequences(tmp_path)] == ["cow", "bear"]  # of names where there are any


def test_line_that_lists_no_sequence_is_named(tmp_path: Path) -> None:
    add_sequence(tmp_path, "bear", 1)
    listing = tmp_path / "ImageSets/480p/val.txt"
    listing.parent.mkdir(parents=True)
    listing.write_text("/00000.jpg /00000.png\n")
    with pytest.raises(VideoError, match=r"480p/val.txt: cannot read the line '/00000.jpg /00000.png'; expected a seq"):
        find_single_object_sequences(tmp_path)


def test_void_pixels_are_background_in_davis_2017_and_object_in_davis_2016(tmp_path: Path) -> None:
    """davis2017-evaluation sets 255 to 0; fperazzi/davis-2017 takes all that is not 0 for a single object."""
    add_sequence(tmp_path, "bear", 2)
    id_map = np.tile(np.array([0, 1, 7, 255], dtype=np.uint8), (SIZE[0], SIZE[1] // 4))
    for path in (tmp_path / "Annotations/480p/bear").iterdir():
        write_id_map(path, id_map)
    (many,), (one,) = find_sequences(tmp_path), find_single_object_sequences(tmp_path)
    for _, truth in many.pairs():
        assert truth[0, :4].tolist() == [0, 1, 7, 0]
    for _, truth in one.pairs():
        assert truth[0, :4].tolist() == [0, 1, 1, 1]


def test_steps_hand_out_each_object_once(tmp_path: Path) -> None:
    add_sequence(tmp_path, "bear", 4)
    late = np.zeros(SIZE, dtype=np.uint8)
    late[4:12, 4:20], late[20:30, 4:20] = 1, 9
    for index in (2, 3):
        write_id_map(tmp_path / f"Annotations/480p/bear/{index:05d}.png", late)
    steps = list(find_sequences(tmp_path)[0].steps())
    assert [step.name for step in steps] == ["00000", "00001", "00002", "00003"]
    assert [[prompt.object_id for prompt in step.prompts] for step in steps] == [[1], [], [9], []]
    np.testing.assert_array_equal(steps[2].prompts[0].mask, late == 9)
    assert all(step.expected and step.truth is not None for step in steps)

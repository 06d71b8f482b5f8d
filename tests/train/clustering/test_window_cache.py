"""Pseudo masks are made once, and never read for anything but what they were made from."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from maskstream.model.frame_encoder import FrameEncoder
from train.clips import Clip
from train.clustering import ClusterSettings, PseudoWindow, pseudo_windows, window_cache
from train.recipes import tiny
from train.saving import SaveFailed

SETTINGS = ClusterSettings(clusters=3, frames=2, short_side=96)


@pytest.fixture
def encoder() -> FrameEncoder:
    torch.manual_seed(0)
    return FrameEncoder(tiny().model).eval()


@pytest.fixture
def clusterings(monkeypatch: pytest.MonkeyPatch) -> list[ClusterSettings]:
    """Clustering that is instant; its settings are listed each time."""
    done: list[ClusterSettings] = []

    def instead(
        encoder: FrameEncoder, clips: Sequence[Clip], settings: ClusterSettings, rng: np.random.Generator
    ) -> list[PseudoWindow]:
        done.append(settings)
        labels = rng.integers(0, 4, (2, *clips[1].frames.shape[1:3]), dtype=np.uint8)
        return [PseudoWindow(1, (3, 5), labels)]

    monkeypatch.setattr(window_cache, "cluster_clips", instead)
    return done


def same(one: list[PseudoWindow], other: list[PseudoWindow]) -> bool:
    pairs = list(zip(one, other, strict=True))
    equal = all(np.array_equal(a.labels, b.labels) and a.labels.dtype == b.labels.dtype for a, b in pairs)
    return equal and all((a.clip, a.frame_indices) == (b.clip, b.frame_indices) for a, b in pairs)


def test_windows_are_read_back_as_they_were_made(encoder: FrameEncoder, clips: list[Clip], tmp_path: Path) -> None:
    settings = replace(SETTINGS, windows_per_clip=1, smallest_area=0.02)
    made = window_cache.cluster_clips(encoder, clips, settings, np.random.default_rng([0, 1]))
    assert made
    assert same(pseudo_windows(encoder, clips, settings, (0, 1), tmp_path / "new"), made)
    assert same(pseudo_windows(encoder, clips, settings, (0, 1), tmp_path / "new"), made)
    assert [path.suffix for path in (tmp_path / "new").iterdir()] == [".pt"]


def test_a_second_call_does_not_cluster(
    encoder: FrameEncoder, clips: list[Clip], tmp_path: Path, clusterings: list[ClusterSettings]
) -> None:
    first = pseudo_windows(encoder, clips, SETTINGS, (0, 1), tmp_path)
    assert same(pseudo_windows(encoder, clips, SETTINGS, (0, 1), tmp_path), first)
    assert len(clusterings) == 1


def test_whatever_changes_makes_other_windows(
    encoder: FrameEncoder,
    clips: list[Clip],
    tmp_path: Path,
    clusterings: list[ClusterSettings],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def cluster(settings: ClusterSettings = SETTINGS, seed: Sequence[int] = (0, 1), some: list[Clip] = clips) -> None:
        pseudo_windows(encoder, some, settings, seed, tmp_path)

    cluster()
    cluster(replace(SETTINGS, temperature=0.2))
    cluster(seed=(0, 2))
    cluster(seed=(1, 1))
    cluster(some=clips[:2])
    cluster(some=[replace(clips[0], name="other"), *clips[1:]])
    cluster(some=[replace(clips[0], frames=clips[0].frames[:-1]), *clips[1:]])
    with torch.no_grad():
        next(encoder.parameters()).view(-1)[0] += 1e-3
    cluster()
    monkeypatch.setattr(window_cache, "CLUSTERING_VERSION", 10**6)
    cluster()
    assert len(clusterings) == len(list(tmp_path.iterdir())) == 9


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def of_another_run(path: Path) -> None:
    torch.save({"key": "0" * 16, "windows": []}, path)


def of_other_sizes(path: Path) -> None:
    record = torch.load(path)
    record["windows"][0]["labels"] = record["windows"][0]["labels"][:, 1:].clone()
    torch.save(record, path)


def of_a_list(path: Path) -> None:
    torch.save([1, 2], path)


@pytest.mark.parametrize("damage", [cut_short, emptied, of_another_run, of_other_sizes, of_a_list])
def test_a_damaged_file_is_said_and_made_again(
    encoder: FrameEncoder,
    clips: list[Clip],
    tmp_path: Path,
    clusterings: list[ClusterSettings],
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], None],
) -> None:
    labels = [window.labels.copy() for window in pseudo_windows(encoder, clips, SETTINGS, (0, 1), tmp_path)]
    (path,) = tmp_path.iterdir()
    damage(path)
    again = pseudo_windows(encoder, clips, SETTINGS, (0, 1), tmp_path)
    assert np.array_equal(again[0].labels, labels[0])
    warning = capsys.readouterr().err
    assert warning.count("\n") == 1
    assert f"warning: {path}: not readable" in warning
    assert same(pseudo_windows(encoder, clips, SETTINGS, (0, 1), tmp_path), again)
    assert len(clusterings) == 2
    assert capsys.readouterr().err == ""


def test_a_file_is_written_whole_or_not_at_all(
    encoder: FrameEncoder,
    clips: list[Clip],
    tmp_path: Path,
    clusterings: list[ClusterSettings],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full_disk(record: object, path: Path) -> None:
        path.write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(window_cache.torch, "save", full_disk)
        with pytest.raises(SaveFailed, match="No space left"):
            pseudo_windows(encoder, clips, SETTINGS, (0, 1), tmp_path)
    assert list(tmp_path.iterdir()) == []
    pseudo_windows(encoder, clips, SETTINGS, (0, 1), tmp_path)
    assert len(clusterings) == 2


def test_no_windows_at_all_are_remembered_too(
    encoder: FrameEncoder, clips: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window_cache, "cluster_clips", lambda *given: [])
    assert pseudo_windows(encoder, clips, SETTINGS, (0, 1), tmp_path) == []
    monkeypatch.setattr(window_cache, "cluster_clips", None)
    assert pseudo_windows(encoder, clips, SETTINGS, (0, 1), tmp_path) == []

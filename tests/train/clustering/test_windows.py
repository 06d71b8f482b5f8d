"""Windows are drawn by seed alone: how they are computed does not change them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from maskstream.model.frame_encoder import FrameEncoder
from train.clips import Clip
from train.clustering import METHODS, ClusterSettings, best_overlap, cluster_clips
from train.recipes import tiny

SETTINGS = ClusterSettings(clusters=3, frames=3, short_side=96, iterations=5, windows_per_clip=2, smallest_area=0.02)


@pytest.fixture(scope="module")
def encoder() -> FrameEncoder:
    torch.manual_seed(0)
    return FrameEncoder(tiny().model).eval()


def windows_of(encoder: FrameEncoder, clips: list[Clip], **changes: int) -> list[tuple[int, tuple[int, ...], bytes]]:
    made = cluster_clips(encoder, clips, replace(SETTINGS, **changes), np.random.default_rng([3, 1]))
    return [(window.clip, window.frame_indices, window.labels.tobytes()) for window in made]


def test_a_seed_repeats_itself_whatever_the_batch(encoder: FrameEncoder, clips: list[Clip]) -> None:
    first = windows_of(encoder, clips)
    assert first
    assert windows_of(encoder, clips) == first
    assert [w[:2] for w in windows_of(encoder, clips, batch_frames=2)] == [w[:2] for w in first]
    assert [w[:2] for w in windows_of(encoder, clips, batch_frames=64)] == [w[:2] for w in first]


def test_windows_have_frames_in_order_and_labels_at_the_clips_size(encoder: FrameEncoder, clips: list[Clip]) -> None:
    made = cluster_clips(encoder, clips, SETTINGS, np.random.default_rng(0))
    for window in made:
        assert np.diff(window.frame_indices).tolist() == [3, 3]
        assert 0 <= window.frame_indices[0] < window.frame_indices[-1] < 16
        assert window.labels.shape == (3, 96, 128)
        assert window.labels.dtype == np.uint8
        assert window.object_ids, "windows without any object teach nothing"


def test_a_clip_shorter_than_a_window_repeats_its_last_frame(encoder: FrameEncoder, clips: list[Clip]) -> None:
    short = Clip("short", clips[0].frames[:2])
    made = cluster_clips(encoder, [short], SETTINGS, np.random.default_rng(0))
    assert {window.frame_indices for window in made} <= {(0, 1, 1), (1, 1, 1)}


class ColourEncoder(torch.nn.Module):
    """Keys are the colours of 16 x 16 pixels, from their mean: what keys would be like if colours were all."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("pixel_mean", torch.zeros(1))

    def backbone(self, frame_BHW3: torch.Tensor) -> list[torch.Tensor]:
        return [torch.nn.functional.avg_pool2d(frame_BHW3.permute(0, 3, 1, 2).float() - 120, 16)]

    def key(self, top: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(top, dim=1)


@pytest.mark.parametrize("method", METHODS)
def test_a_square_that_moves_over_a_ground_is_found(clips: list[Clip], method: str) -> None:
    settings = replace(SETTINGS, method=method, clusters=2, short_side=192, windows_per_clip=1)
    (window,) = cluster_clips(ColourEncoder().eval(), clips[:1], settings, np.random.default_rng(1))  # type: ignore[arg-type]
    truth = np.stack([clips[0].frames[i].mean(axis=2) > 110 for i in window.frame_indices]).astype(np.uint8)
    assert best_overlap(window.labels, truth)[1] > 0.6


def test_progress_is_told(encoder: FrameEncoder, clips: list[Clip], capfd: pytest.CaptureFixture[str]) -> None:
    windows_of(encoder, clips)
    assert "clustering: 6/6 windows" in capfd.readouterr().err


def test_an_encoder_in_training_mode_is_refused(encoder: FrameEncoder, clips: list[Clip]) -> None:
    encoder.train()
    try:
        with pytest.raises(ValueError, match="evaluation mode"):
            windows_of(encoder, clips)
    finally:
        encoder.eval()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_an_encoder_on_a_gpu_draws_the_same_windows(encoder: FrameEncoder, clips: list[Clip]) -> None:
    here = windows_of(encoder, clips)
    there = windows_of(encoder.cuda(), clips)
    encoder.cpu()
    assert [w[:2] for w in there] == [w[:2] for w in here]

"""Mask learning: samples with true geometry, losses that ignore what is unknown and absent."""

import numpy as np
import pytest
import torch

from maskstream.model.segmenter import Segmenter
from train.clips import Clip
from train.clustering import DOUBT, IGNORE, PseudoWindow
from train.mask_learning import (
    MaskBatch,
    MaskSettings,
    _cross_entropy,
    _deformed,
    _pick_objects,
    _soft_labels,
    _targets,
    mask_losses,
    sample_mask_batch,
)
from train.recipes import tiny

SETTINGS = MaskSettings(clips=3, side=64, context_frames=2)


@pytest.fixture
def windows(clips: list[Clip]) -> list[PseudoWindow]:
    labels = np.zeros((4, 96, 128), np.uint8)
    for t in range(4):
        labels[t, 30:66, 5 + 12 * t : 41 + 12 * t] = 1
    labels[:, 0:4] = IGNORE
    return [PseudoWindow(index, (0, 3, 6, 9), labels) for index in range(len(clips))]


@pytest.mark.parametrize("paste_share", [0.0, 1.0])
def test_samples_have_objects_in_their_first_frame(
    clips: list[Clip], windows: list[PseudoWindow], paste_share: float
) -> None:
    settings = MaskSettings(clips=8, side=64, context_frames=2, paste_share=paste_share)
    batch = sample_mask_batch(np.random.default_rng(0), clips, windows, settings)
    assert batch.frames.shape == (8, 3, 64, 64, 3)
    assert batch.indices[:, 0].eq(0).all()
    labels = batch.labels.numpy()
    assert set(np.unique(labels)) <= {0, 1, 2, 3, IGNORE}
    assert np.mean([(sample[0] == 1).any() for sample in labels]) > 0.5


def test_without_windows_everything_is_pasted(clips: list[Clip]) -> None:
    batch = sample_mask_batch(np.random.default_rng(0), clips, [], SETTINGS)
    assert not (batch.labels == IGNORE).any()


def test_objects_are_renumbered_alike_in_all_frames() -> None:
    labels = np.array([[[0, 4, 9, IGNORE]], [[9, 4 | DOUBT, 0, IGNORE]]], np.uint8)
    picked = _pick_objects(np.random.default_rng(1), labels, most=2)
    assert picked[0, 0, 3] == picked[1, 0, 3] == IGNORE
    assert picked[0, 0, 1] | DOUBT == picked[1, 0, 1]
    assert picked[0, 0, 2] == picked[1, 0, 0]


def test_soft_labels_are_shares_of_cells() -> None:
    labels = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    labels[..., :2, :4] = 1
    labels[..., 4:, :] = IGNORE
    soft = _soft_labels(labels, objects=2)
    assert soft.shape == (1, 1, 2, 2, 2)
    assert soft[0, 0, 0, 0, 0] == 0.5
    assert soft[0, 0, :, 1].sum() == 0


def test_unknown_pixels_have_no_part_in_the_loss() -> None:
    labels = torch.full((1, 8, 8), IGNORE, dtype=torch.uint8)
    labels[:, :4, :4] = 1
    target, known = _targets(labels, torch.ones(1, 1, dtype=torch.bool))
    logits = torch.zeros(1, 1, 2, 2, requires_grad=True)
    _cross_entropy(logits, target, known).backward()
    assert logits.grad is not None
    assert (logits.grad != 0).sum() == 1


def test_doubtful_pixels_are_in_memory_but_not_in_the_target() -> None:
    labels = torch.full((1, 1, 8, 8), 1 | DOUBT, dtype=torch.uint8)
    assert _soft_labels(labels, objects=1).eq(1).all()
    _, known = _targets(labels[:, 0], torch.ones(1, 1, dtype=torch.bool))
    assert not known.any()


def test_an_object_that_was_not_shown_at_first_is_background_later() -> None:
    """Its logit is masked out; as a target it would cost ten thousand and drown every other gradient."""
    labels = torch.full((1, 8, 8), 2, dtype=torch.uint8)
    labels[:, :4] = 1
    target, known = _targets(labels, torch.tensor([[True, False]]))
    assert known.all()
    assert target[0].tolist() == [[1, 1], [0, 0]]


def test_deformed_masks_still_share_each_pixel() -> None:
    soft = torch.zeros(2, 2, 8, 8)
    soft[:, 0, :, :4] = 1
    soft[:, 1, :, 4:] = 1
    for seed in range(10):
        torch.manual_seed(seed)
        assert _deformed(soft, share=1.0).sum(dim=1).max() <= 1 + 1e-6


def test_losses_teach_the_mask_networks_and_leave_the_encoder_frozen(
    clips: list[Clip], windows: list[PseudoWindow]
) -> None:
    torch.manual_seed(0)
    segmenter = Segmenter(tiny().model)
    batch = sample_mask_batch(np.random.default_rng(0), clips, windows, SETTINGS)
    losses = mask_losses(segmenter, batch, SETTINGS)
    (losses["ce"] + losses["dice"]).backward()
    taught = {name.split(".")[0] for name, p in segmenter.named_parameters() if p.grad is not None}
    assert {"mask_decoder"} <= taught
    assert segmenter.frame_encoder.stem[0].weight.grad is None
    assert segmenter.frame_encoder.context_head[0][0].weight.grad is not None


def test_mask_learning_learns(clips: list[Clip], windows: list[PseudoWindow]) -> None:
    """Twenty-five steps on one batch bring the loss down by a third at least."""
    torch.manual_seed(0)
    segmenter = Segmenter(tiny().model)
    batch: MaskBatch = sample_mask_batch(np.random.default_rng(0), clips, windows, SETTINGS)
    optimizer = torch.optim.Adam(segmenter.parameters(), lr=5e-3)
    totals = []
    for step in range(25):
        torch.manual_seed(step % 2)
        losses = mask_losses(segmenter, batch, SETTINGS)
        total = losses["ce"] + losses["dice"]
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(float(total.detach()))
    assert totals[-1] < 0.67 * totals[0]

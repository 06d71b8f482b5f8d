"""Mask learning: samples with true geometry, losses that ignore what is unknown and absent."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from maskstream.model.segmenter import Features, Segmenter
from train.clips import Clip
from train.clustering import DOUBT, IGNORE, PseudoWindow
from train.mask_learning import (
    MaskBatch,
    MaskSettings,
    _cross_entropy,
    _Memory,
    _pick_objects,
    _soft_labels,
    _targets,
    _there_and_back,
    deformed,
    mask_losses,
    sample_mask_batch,
)
from train.recipes import tiny

SETTINGS = MaskSettings(clips=3, side=64, context_frames=2, scored_frames=2, objects=3)


def generators(count: int, seed: int = 0) -> list[np.random.Generator]:
    return [np.random.default_rng([seed, index]) for index in range(count)]


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
    settings = replace(SETTINGS, paste_share=paste_share)
    batch = sample_mask_batch(generators(8), clips, windows, settings)
    assert batch.frames.shape == (8, 3, 64, 64, 3)
    assert batch.indices[:, 0].eq(0).all()
    labels = batch.labels.numpy()
    assert set(np.unique(labels)) <= {0, 1, 2, 3, IGNORE}
    assert np.mean([(sample[0] == 1).any() for sample in labels]) > 0.5


def test_without_windows_everything_is_pasted(clips: list[Clip]) -> None:
    batch = sample_mask_batch(generators(3), clips, [], SETTINGS)
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
    soft = torch.zeros(4, 2, 8, 8)
    soft[:, 0, :, :4] = 1
    soft[:, 1, :, 4:] = 1
    spoilt = deformed(soft, torch.arange(4), torch.tensor([[0, 0], [0, 0], [0, 0], [0, 2]]))
    assert spoilt.sum(dim=1).max() <= 1 + 1e-6
    assert torch.equal(spoilt[0], soft[0])
    assert spoilt[1, 0, 0].tolist() == [1, 1, 1, 0.5, 0.5, 0, 0, 0]
    assert spoilt[2, 0, 0].tolist() == [1, 1, 1, 0, 0, 0, 0, 0]
    assert spoilt[3, 0, 0].tolist() == [0, 0, 1, 1, 1, 1, 0, 0]


def test_a_short_window_is_walked_there_and_back() -> None:
    assert _there_and_back(4, 6).tolist() == [0, 1, 2, 3, 2, 1]
    assert _there_and_back(1, 3).tolist() == [0, 0, 0]


def test_a_sample_depends_on_its_own_generator_alone(clips: list[Clip], windows: list[PseudoWindow]) -> None:
    """So that processes may share a batch."""
    whole = sample_mask_batch(generators(4), clips, windows, SETTINGS)
    halves = [sample_mask_batch(generators(4)[part], clips, windows, SETTINGS) for part in (slice(2), slice(2, 4))]
    for name in ("frames", "labels", "indices", "predicted", "deformed", "shifts"):
        assert torch.equal(getattr(whole, name), torch.cat([getattr(half, name) for half in halves]))


def test_the_losses_of_equal_shares_average_to_those_of_the_batch(
    clips: list[Clip], windows: list[PseudoWindow]
) -> None:
    segmenter = Segmenter(tiny().model).eval()
    losses = [
        mask_losses(segmenter, sample_mask_batch(generators(4)[part], clips, windows, SETTINGS), SETTINGS)
        for part in (slice(4), slice(2), slice(2, 4))
    ]
    for name, value in losses[0].items():
        torch.testing.assert_close((losses[1][name] + losses[2][name]) / 2, value, rtol=1e-4, atol=1e-6)


def test_losses_teach_the_mask_networks_and_leave_the_encoder_frozen(
    clips: list[Clip], windows: list[PseudoWindow]
) -> None:
    torch.manual_seed(0)
    segmenter = Segmenter(tiny().model)
    batch = sample_mask_batch(generators(3), clips, windows, SETTINGS)
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
    batch: MaskBatch = sample_mask_batch(generators(3), clips, windows, SETTINGS)
    optimizer = torch.optim.Adam(segmenter.parameters(), lr=5e-3)
    totals = []
    for _ in range(25):
        losses = mask_losses(segmenter, batch, SETTINGS)
        total = losses["ce"] + losses["dice"]
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(float(total.detach()))
    assert totals[-1] < 0.67 * totals[0]


def test_memory_holds_nothing_of_an_object_that_is_absent() -> None:
    """As a bank does: the read-out divides by what holds the object, and adds all that is there."""
    segmenter = Segmenter(tiny().model).eval()
    frames = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    features = Features(*(part[None] for part in segmenter.encode_frame(frames)))
    present_BO = torch.tensor([[True, False]])
    memory = _Memory(segmenter, features, torch.rand(1, 2, 16, 16), present_BO)
    memory.append(1, torch.rand(1, 2, 16, 16), ~present_BO)
    _, value_BOVTN, valid_BOT, _ = memory.view(torch.tensor([[0.0, 1.0]]), 1)
    assert torch.equal(value_BOVTN.abs().sum(dim=(2, 4)) > 0, valid_BOT > 0)

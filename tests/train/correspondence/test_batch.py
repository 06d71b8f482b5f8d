"""Batches: only what is asked for, each item from its own generator, and views that show what the facts say."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from train.clips import Clip
from train.correspondence.batch import sample_batch
from train.correspondence.lab_colours import lab_of
from train.correspondence.settings import CorrespondenceSettings

SHIPPED = CorrespondenceSettings(side=64, far_gap=8)
ALL = replace(SHIPPED, equivariance_weight=1.0, reconstruction_weight=1.0)
NONE = replace(SHIPPED, walk_weight=0.0, match_weight=0.0, anchor_weight=0.0)


def generators(*seeds: int) -> list[np.random.Generator]:
    return [np.random.default_rng(seed) for seed in seeds]


def test_parts_of_a_batch_are_the_batch(clips: list[Clip]) -> None:
    whole = sample_batch(generators(0, 1, 2, 3), clips, ALL)
    halves = [sample_batch(generators(*seeds), clips, ALL) for seeds in ((0, 1), (2, 3))]
    for name, view in whole.views.items():
        assert torch.equal(view, torch.cat([half.views[name] for half in halves]))
    for name, fact in whole.facts.items():
        assert torch.equal(fact, torch.cat([half.facts[name] for half in halves]))


def test_shapes_and_types(clips: list[Clip]) -> None:
    batch = sample_batch(generators(0, 1), clips, ALL)
    plain = ["first", "other"]
    assert sorted(batch.views) == sorted(plain + [f"{n}_{how}" for n in plain for how in ("again", "dropped")])
    assert {(view.shape, view.dtype) for view in batch.views.values()} == {((2, 64, 64, 3), torch.uint8)}
    assert {name: tuple(fact.shape) for name, fact in batch.facts.items()} == {
        "gap_frames": (2,),
        "dropped_channel": (2,),
        "first_places": (2, 16, 2),
        "other_places": (2, 16, 2),
        "first_colours": (2, 16, 4, 2),
        "other_colours": (2, 16, 4, 2),
        "fine_first_places": (2, 64, 2),
        "fine_other_places": (2, 64, 2),
        "fine_first_colours": (2, 64, 4, 2),
        "fine_other_colours": (2, 64, 4, 2),
    }
    without = sample_batch(generators(0, 1), clips, replace(ALL, fine_weight=0.0))
    assert not [name for name in without.facts if name.startswith("fine_")]


@pytest.mark.parametrize(
    ("weight", "views"),
    [
        ("walk_weight", {"first", "other", "first_again"}),
        ("match_weight", {"first", "first_again"}),
        ("anchor_weight", {"first", "other", "other_again"}),
        ("equivariance_weight", {"first", "other_again"}),
        ("reconstruction_weight", {"first_dropped", "other_dropped"}),
    ],
)
def test_a_learner_brings_its_views_and_leaves_the_others_as_they_were(
    weight: str, views: set[str], clips: list[Clip]
) -> None:
    alone = sample_batch(generators(4), clips, replace(NONE, **{weight: 0.5}))
    assert set(alone.views) == views
    together = sample_batch(generators(4), clips, ALL)
    for name, view in alone.views.items():
        assert torch.equal(view, together.views[name])
    for name, fact in alone.facts.items():
        assert torch.equal(fact, together.facts[name])


def test_no_learner_no_view(clips: list[Clip]) -> None:
    assert sample_batch(generators(0), clips, NONE).views == {}


def test_the_dropped_channel_is_not_in_the_pictures(clips: list[Clip]) -> None:
    batch = sample_batch(generators(*range(8)), clips, replace(NONE, reconstruction_weight=1.0))
    assert set(batch.facts["dropped_channel"].tolist()) == {0, 1}
    for frame in ("first", "other"):
        for item, channel in enumerate(batch.facts["dropped_channel"].tolist()):
            left = lab_of(batch.views[f"{frame}_dropped"][item].numpy())[..., 1:] * 127
            colours = batch.facts[f"{frame}_colours"][item, ..., channel] * 127
            assert np.abs(left[..., channel]).max() < 1.5
            assert np.abs(left[..., 1 - channel]).max() > 10
            assert colours.abs().max() > 10


def test_colours_are_those_of_the_plain_view(clips: list[Clip]) -> None:
    batch = sample_batch(generators(0), clips, replace(ALL, reconstruction_cells=1))
    patch = batch.views["first"][0, 16:32, 48:64].numpy()  # token (x 3, y 1)
    np.testing.assert_allclose(
        batch.facts["first_colours"][0, 1 * 4 + 3, 0].numpy(), lab_of(patch)[..., 1:].mean(axis=(0, 1)), atol=1e-5
    )


def test_gaps_are_those_of_the_frames() -> None:
    """Each frame's grey is its index."""
    ramp = np.broadcast_to(np.arange(40, dtype=np.uint8)[:, None, None, None], (40, 80, 96, 3))
    batch = sample_batch(generators(*range(60)), [Clip("ramp", ramp)], replace(SHIPPED, far_gap=12))
    first, other = (batch.views[name][:, 32, 32, 0].int() for name in ("first", "other"))
    gaps = batch.facts["gap_frames"]
    assert ((first - other).abs() == gaps).all()
    assert set(gaps.tolist()) >= {1, 2, 3, 4}
    assert 4 < gaps.max() <= 12
    assert 0.05 < (gaps > 4).float().mean() < 0.5

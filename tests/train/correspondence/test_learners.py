"""All learners behind the one interface: terms, weights, randomness, devices, and that a network learns by each."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from token_keys import LATE, dice, equal_keys
from torch import Tensor

from maskstream.model.frame_encoder import FrameEncoder
from train.clips import Clip
from train.correspondence import (
    FINE,
    CorrespondenceBatch,
    CorrespondenceSettings,
    active_learners,
    correspondence_losses,
    sample_batch,
)
from train.recipes import tiny

NONE = CorrespondenceSettings(
    side=64, near_gap=2, far_share=0.0, anchors=8, walk_weight=0.0, match_weight=0.0, anchor_weight=0.0
)
WEIGHTS = {
    "walk": "walk_weight",
    "match": "match_weight",
    "anchors": "anchor_weight",
    "equivariance": "equivariance_weight",
    "reconstruction": "reconstruction_weight",
}
ALL = replace(NONE, **dict.fromkeys(WEIGHTS.values(), 1.0))


@pytest.fixture(scope="module")
def batch(clips: list[Clip]) -> CorrespondenceBatch:
    return sample_batch([np.random.default_rng(seed) for seed in range(4)], clips, ALL)


@pytest.fixture(scope="module")
def keys(batch: CorrespondenceBatch) -> dict[str, Tensor]:
    """Any keys: they are compared with themselves only."""
    drawn = torch.randn((len(batch.views), 4, 16, 16), generator=dice())
    return dict(zip(batch.views, torch.nn.functional.normalize(drawn, dim=2), strict=True))


def test_terms_are_those_with_a_weight_times_the_weight(keys: dict[str, Tensor], batch: CorrespondenceBatch) -> None:
    every = correspondence_losses(keys, batch.facts, ALL, LATE, dice())
    assert list(every) == list(WEIGHTS)
    assert correspondence_losses({}, batch.facts, NONE, LATE, dice()) == {}
    for name, weight in WEIGHTS.items():
        alone, doubled = (
            correspondence_losses(keys, batch.facts, replace(NONE, edge_dropout=0.0, **{weight: w}), LATE, dice())
            for w in (1.0, 2.0)
        )
        assert list(alone) == [name]
        assert doubled[name] == 2 * alone[name] > 0


def test_randomness_is_the_generators(keys: dict[str, Tensor], batch: CorrespondenceBatch) -> None:
    one, two = (correspondence_losses(keys, batch.facts, ALL, LATE, dice()) for _ in range(2))
    other = correspondence_losses(keys, batch.facts, ALL, LATE, torch.Generator().manual_seed(8))
    assert one == two
    assert {name for name in one if one[name] != other[name]} == {"walk", "anchors"}


def test_global_randomness_is_left_alone(keys: dict[str, Tensor], batch: CorrespondenceBatch) -> None:
    before = torch.random.get_rng_state()
    correspondence_losses(keys, batch.facts, ALL, LATE, dice())
    assert torch.equal(before, torch.random.get_rng_state())


def test_autocast_does_not_lower_the_precision(keys: dict[str, Tensor], batch: CorrespondenceBatch) -> None:
    plain = correspondence_losses(keys, batch.facts, ALL, LATE, dice())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = correspondence_losses(keys, batch.facts, ALL, LATE, dice())
    assert cast == plain
    halves = {name: key.bfloat16() for name, key in keys.items()}
    for name, loss in correspondence_losses(halves, batch.facts, ALL, LATE, dice()).items():
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(plain[name].item(), rel=0.05)


def test_no_tensor_is_left_on_the_cpu(keys: dict[str, Tensor], batch: CorrespondenceBatch) -> None:
    """Device `meta` computes nothing but refuses to mix with the CPU, as a GPU would."""
    keys_away, facts_away = ({name: t.to("meta") for name, t in part.items()} for part in (keys, batch.facts))
    for _, learner in active_learners(replace(ALL, anchor_grid=2)) + active_learners(ALL):
        assert learner.loss(keys_away, facts_away, LATE, dice()).device.type == "meta"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_the_same_losses(keys: dict[str, Tensor], batch: CorrespondenceBatch) -> None:
    there = {name: key.cuda() for name, key in keys.items()}
    here = correspondence_losses(keys, batch.facts, ALL, LATE, dice())
    for name, loss in correspondence_losses(there, batch.facts, ALL, LATE, dice()).items():
        assert loss.item() == pytest.approx(here[name].item(), rel=1e-3)


def test_collapsed_keys_are_no_way_out(batch: CorrespondenceBatch) -> None:
    """Equal keys everywhere cost more than a nat in every term that has nothing but keys to compare."""
    collapsed = dict.fromkeys(batch.views, equal_keys(4))
    losses = correspondence_losses(collapsed, batch.facts, ALL, LATE, dice())
    assert all(losses[name] > 1 for name in WEIGHTS if name != "reconstruction")


def test_fine_keys_are_taught_by_the_learners_of_what_is_near(batch: CorrespondenceBatch) -> None:
    """Each by the facts of its own grid, and in proportion to the weight of the fine terms."""
    settings = replace(NONE, walk_weight=1.0, anchor_weight=1.0, fine_weight=0.5)
    torch.manual_seed(0)
    encoder = FrameEncoder(tiny().model)
    keys = {}
    for view, picture in batch.views.items():
        _, map8, top = encoder.backbone(picture)
        keys[view], keys[f"{FINE}{view}"] = encoder.key(top).flatten(2), encoder.fine_key(map8, top).flatten(2)
    losses = correspondence_losses(keys, batch.facts, settings, LATE, dice())
    assert sorted(losses) == ["anchors", "fine_walk", "walk"]
    double = correspondence_losses(keys, batch.facts, replace(settings, fine_weight=1.0), LATE, dice())
    torch.testing.assert_close(double["fine_walk"], 2 * losses["fine_walk"])
    losses["fine_walk"].backward()  # type: ignore[no-untyped-call]
    assert encoder.fine_head.weight.grad is not None
    assert encoder.key_head[-1].weight.grad is None
    assert "fine_walk" not in correspondence_losses(keys, batch.facts, replace(settings, fine_weight=0.0), LATE, dice())


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_small_network_learns_by_it(name: str, batch: CorrespondenceBatch) -> None:
    settings = replace(NONE, **{WEIGHTS[name]: 1.0})
    torch.manual_seed(0)
    encoder = FrameEncoder(tiny().model)
    optimizer = torch.optim.Adam(encoder.parameters(), lr=3e-3)
    losses = []
    for _ in range(20):
        keys = {view: encoder.key(encoder.backbone(picture)[-1]).flatten(2) for view, picture in batch.views.items()}
        loss = correspondence_losses(keys, batch.facts, settings, LATE, dice())[name]
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-3:]) < 0.9 * losses[0]

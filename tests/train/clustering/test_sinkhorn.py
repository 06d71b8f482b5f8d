"""Balanced assignment leans sizes towards each other as far as it is told to, and stays finite."""

import pytest
import torch
from torch.nn.functional import normalize

from train.clustering.settings import ClusterSettings
from train.clustering.sinkhorn import prices, soft_sinkhorn


def ninety_and_ten() -> torch.Tensor:
    """Logits of 100 points for 2 centres: 90 lean to the first by one, 10 to the second."""
    return torch.tensor([[1.0, 0.0]] * 90 + [[0.0, 1.0]] * 10)


def sizes(logits: torch.Tensor, balance: float) -> torch.Tensor:
    price = prices(logits, balance, 200, torch.zeros(logits.shape[1]))
    return torch.softmax(logits + price, dim=1).sum(dim=0)


def test_full_balance_makes_sizes_equal() -> None:
    assert torch.allclose(sizes(ninety_and_ten(), 1.0), torch.tensor([50.0, 50.0]), atol=0.01)


def test_without_balance_there_are_no_prices() -> None:
    logits = ninety_and_ten()
    assert torch.equal(prices(logits, 0.0, 5, torch.zeros(2)), torch.zeros(2))
    own = torch.sigmoid(torch.tensor(1.0))
    assert torch.allclose(sizes(logits, 0.0), torch.stack((90 * own + 10 * (1 - own), 90 * (1 - own) + 10 * own)))


def test_sizes_between_are_leaned_on_and_not_forced() -> None:
    first = [float(sizes(ninety_and_ten(), balance)[0]) for balance in (0.0, 0.3, 0.6, 0.9, 1.0)]
    assert first == sorted(first, reverse=True)
    assert 51 < first[2] < first[0] - 1


def test_a_price_is_the_penalised_share() -> None:
    """At the fixed point, price = balance * log(equal share / share taken) + balance * price: solved by hand."""
    logits, balance = ninety_and_ten(), 0.5
    price = prices(logits, balance, 200, torch.zeros(2))
    share = torch.softmax(logits + price, dim=1).mean(dim=0)
    assert torch.allclose(price, balance / (1 - balance) * torch.log(0.5 / share), atol=1e-4)


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_no_temperature_overflows(scale: float) -> None:
    price = prices(ninety_and_ten() * scale, 0.5, 20, torch.zeros(2))
    assert torch.isfinite(price).all()


def test_a_small_thing_keeps_its_own_cluster() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.tensor([0] * 180 + [1] * 15 + [2] * 5)
    points = normalize(torch.eye(3)[truth] + 0.05 * torch.randn(200, 3, generator=generator), dim=1)
    settings = ClusterSettings(method="sinkhorn", clusters=3, restarts=4)
    soft = soft_sinkhorn(points, settings, torch.Generator().manual_seed(0))
    assert len({(int(a), int(b)) for a, b in zip(truth, soft.argmax(dim=1), strict=True)}) == 3
    assert torch.allclose(soft.sum(dim=1), torch.ones(200))

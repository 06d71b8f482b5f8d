"""The three networks: shapes, what the untrained decoder does, and independence of what must be independent."""

import pytest
import torch

from maskstream.model.config import ModelConfig
from maskstream.model.mask_encoder import from_cells, to_cells
from maskstream.model.segmenter import Features, Segmenter, soft_aggregate

SMALL = {
    "key_channels": 8,
    "fine_channels": 4,
    "context_channels": 8,
    "value_channels": 8,
    "skip8_channels": 8,
    "skip4_channels": 8,
}
LIVE = ModelConfig(widths=(8, 8, 16), blocks=(1, 1, 1), **SMALL)
PAPER = ModelConfig(stride=8, widths=(8, 8, 16, 16), blocks=(1, 1, 1, 1), **SMALL)


def memory_of(
    segmenter: Segmenter, features: Features, soft: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """A bank of one slot that holds this very frame."""
    value = segmenter.encode_mask(features.context, soft)[:, :, :, None]
    return features.key.flatten(2)[:, :, None], value, torch.ones(*soft.shape[:2], 1), torch.ones(len(soft), 1)


@pytest.mark.parametrize("config", [LIVE, PAPER], ids=["stride16", "stride8"])
def test_shapes_follow_the_spec(config: ModelConfig) -> None:
    segmenter = Segmenter(config).eval()
    features = segmenter.encode_frame(torch.randint(0, 256, (2, 64, 96, 3), dtype=torch.uint8))
    height, width = 64 // config.stride, 96 // config.stride
    assert features.key.shape == (2, config.spec().key_channels, height, width)
    assert features.skip4.shape[2:] == (16, 24)
    value = segmenter.encode_mask(features.context, torch.rand(2, 3, 16, 24))
    assert value.shape == (2, 3, config.spec().value_channels, height * width)


def test_keys_have_unit_length() -> None:
    features = Segmenter(LIVE).eval().encode_frame(torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8))
    key, folded = features.key[:, :8], features.key[:, 8:]
    torch.testing.assert_close(key.norm(dim=1), torch.ones(1, 4, 4))
    torch.testing.assert_close(torch.nn.functional.pixel_shuffle(folded, 2).norm(dim=1), torch.ones(1, 8, 8))


@pytest.mark.parametrize("config", [LIVE, PAPER], ids=["stride16", "stride8"])
def test_an_untrained_decoder_is_label_propagation(config: ModelConfig) -> None:
    torch.manual_seed(0)
    segmenter = Segmenter(config).eval()
    features = segmenter.encode_frame(torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8))
    soft = torch.zeros(1, 1, 16, 16)
    soft[..., 4:12, 4:12] = 1
    decoded, coarse = segmenter.segment(features, *memory_of(segmenter, features, soft))
    assert ((decoded > 0.5) == (coarse > 0.5)).all()
    assert coarse.mean() > 0.05


def test_objects_do_not_change_each_other_where_they_do_not_meet() -> None:
    """Adding a second, empty object leaves the first one's logits as they were."""
    torch.manual_seed(0)
    segmenter = Segmenter(LIVE).eval()
    features = segmenter.encode_frame(torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8))
    one = torch.zeros(1, 1, 16, 16)
    one[..., 2:9, 2:9] = 1
    two = torch.cat((one, torch.zeros_like(one)), dim=1)
    alone, _ = segmenter.segment_passes(features, memory_of(segmenter, features, one))
    beside, _ = segmenter.segment_passes(features, memory_of(segmenter, features, two))
    torch.testing.assert_close(beside[-1][:, :1], alone[-1], atol=1e-5, rtol=1e-4)


def test_cells_and_back_is_the_identity() -> None:
    soft = torch.rand(3, 16, 32)
    torch.testing.assert_close(from_cells(to_cells(soft, 16), 16), soft)


def test_soft_aggregate_shares_one_probability_among_objects_and_background() -> None:
    soft = soft_aggregate(torch.tensor([2.0, -1.0]).view(1, 2, 1, 1))
    expected = torch.softmax(torch.tensor([0.0, 2.0, -1.0]), dim=0)[1:]
    torch.testing.assert_close(soft.flatten(), expected)


def test_refinement_starts_as_no_change_and_learns_from_the_mask_it_is_given() -> None:
    torch.manual_seed(0)
    segmenter = Segmenter(LIVE).eval()
    features = segmenter.encode_frame(torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8))
    memory = memory_of(segmenter, features, torch.rand(1, 2, 16, 16))
    torch.nn.init.normal_(segmenter.mask_decoder.at4[-1].weight, std=0.1)
    passes, coarse = segmenter.segment_passes(features, memory, passes=2)
    assert len(passes) == 3
    assert torch.equal(passes[0], segmenter.segment_passes(features, memory, passes=0)[0][0])
    torch.nn.init.normal_(segmenter.mask_decoder.from_refined.weight, std=0.1)
    refined, again = segmenter.segment_passes(features, memory, passes=1)
    assert torch.equal(again, coarse)
    assert not torch.allclose(refined[1], passes[1])
    refined[1].sum().backward()
    assert segmenter.mask_decoder.from_refined.weight.grad is not None

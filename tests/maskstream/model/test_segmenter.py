"""The three networks: shapes, what the untrained decoder does, and independence of what must be independent."""

import pytest
import torch

from maskstream.model.config import ModelConfig
from maskstream.model.mask_decoder import logit
from maskstream.model.mask_encoder import from_cells, to_cells
from maskstream.model.segmenter import Features, Segmenter, soft_aggregate, uncontested

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
    torch.testing.assert_close(folded.unflatten(1, (4, 4)).norm(dim=2), torch.ones(1, 4, 4, 4))


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


def test_each_object_is_decoded_in_the_knowledge_of_the_others() -> None:
    """Seven people side by side: what one holds must be able to lower what its neighbour claims."""
    torch.manual_seed(0)
    segmenter = Segmenter(LIVE).eval()
    for part in (segmenter.mask_decoder.from_others, segmenter.mask_decoder.at4[-1]):
        torch.nn.init.normal_(part.weight, std=0.1)
    features = segmenter.encode_frame(torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8))
    memory = memory_of(segmenter, features, torch.rand(1, 2, 16, 16))
    coarse = torch.zeros(1, 2, 16, 16)
    coarse[0, 0, :, :8] = 1
    neighbour = coarse.clone()
    neighbour[0, 1, :, 8:] = 1
    readout = memory[1][:, :, :, 0]
    decode = segmenter.mask_decoder
    alone, beside = (decode(readout, masks, *features[1:])[0, 0] for masks in (coarse, neighbour))
    assert (alone - beside).abs()[:, 8:].mean() > 1e-3


def test_where_objects_meet_the_propagated_mask_answers_and_elsewhere_the_decoded_one() -> None:
    decoded, coarse = torch.zeros(1, 2, 40, 40), torch.zeros(1, 2, 40, 40)
    coarse[0, 0, :, :20], coarse[0, 1, :, 20:24] = 1, 1
    decoded[0, 0] = 0.9  # the decoder gives the first object all
    answer = uncontested(decoded, coarse)
    assert answer[0, 0, :, :12].eq(0.9).all(), "far from the other"
    assert answer[0, 1, :, 20:24].eq(1).all(), "the second keeps what is its own by correspondence"
    assert answer[0, 0, :, 20:24].eq(0).all()
    assert answer.sum(dim=1).max() <= 1
    assert torch.equal(uncontested(decoded[:, :1], coarse[:, :1]), decoded[:, :1]), "an object alone is decoded"


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


def test_the_logit_of_a_sure_mask_is_finite_in_bfloat16() -> None:
    """0.999, where logits were once cut off, is 1 in bfloat16, and its logit infinite."""
    probability = torch.tensor([0.0, 0.25, 0.5, 1.0])
    expected = torch.logit(probability, eps=1e-3)
    torch.testing.assert_close(logit(probability), expected, atol=2e-3, rtol=0)
    torch.testing.assert_close(logit(probability.bfloat16()), expected, atol=2e-3, rtol=0)

"""Networks made ready for half precision: the same numbers but for rounding, nothing infinite."""

import pytest
import torch
from exported import small_checkpoint
from torch import nn

from maskstream.engines.torch_precision import fold_norms, prepared
from maskstream.model.segmenter import Features

CPU = torch.device("cpu")


def test_every_batch_norm_is_folded_and_changes_nothing() -> None:
    segmenter = small_checkpoint().segmenter()
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in segmenter.modules())
    frame = torch.randint(0, 256, (1, 64, 96, 3), dtype=torch.uint8)
    with torch.inference_mode():
        before = segmenter.encode_frame(frame)
        assert fold_norms(segmenter) == norms > 0
        after = segmenter.encode_frame(frame)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in segmenter.modules())
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_frames_are_normalised_in_float32(dtype: torch.dtype) -> None:
    """Black is -2.117904 in the first channel, which half precision would know to 8 or 11 bits."""
    segmenter = prepared(small_checkpoint().segmenter(), dtype, CPU)
    black = segmenter.frame_encoder.normalise(torch.zeros(1, 2, 2, 3, dtype=torch.uint8))
    assert float(black[0, 0, 0, 0]) == pytest.approx(-0.485 / 0.229, abs=1e-6)
    with torch.inference_mode():
        features = segmenter.encode_frame(torch.zeros(1, 32, 32, 3, dtype=torch.uint8))
    assert (features.key.dtype, features.context.dtype) == (torch.float32, dtype)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_mask_that_is_certain_is_decoded_to_a_number(dtype: torch.dtype) -> None:
    """Memory that says 1 everywhere: in bfloat16, 1 - 0.001 is 1, and the logit of that is infinite."""
    segmenter = prepared(small_checkpoint().segmenter(), dtype, CPU)
    with torch.inference_mode():
        features = segmenter.encode_frame(torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8))
        soft = torch.ones(1, 1, 16, 16, dtype=dtype)
        value_BOVN = segmenter.encode_mask(features.context, soft)
        slots = segmenter.config.capacity
        memory = (features.key.flatten(2)[:, :, None], value_BOVN[:, :, :, None], torch.ones(1, 1, 1), torch.ones(1, 1))
        repeated = (part.repeat_interleave(slots, dim=dim) for part, dim in zip(memory, (2, 3, 2, 1), strict=True))
        decoded, _ = segmenter.segment(Features(*features), *repeated)
    assert torch.isfinite(decoded).all()
    assert float(decoded.float().min()) > 0.9

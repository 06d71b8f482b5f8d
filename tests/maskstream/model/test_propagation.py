"""Propagation: both read-outs and their joining compute what the plain arithmetic says."""

from dataclasses import replace

import numpy as np
import torch
from torch.nn.functional import normalize, pixel_unshuffle

from maskstream import affinity as reference
from maskstream.model.config import FINE_STRIDE, ModelConfig
from maskstream.model.fine_read_out import BLOCK, MARGIN, fine_read_out
from maskstream.model.mask_encoder import to_cells
from maskstream.model.propagation import FINE_WEIGHT, propagate
from maskstream.model.segmenter import Segmenter

CONFIG = ModelConfig(key_channels=8, fine_channels=6, value_channels=4)
HEIGHT, WIDTH, OBJECTS, SLOTS = 4, 7, 2, 3  # tokens; 8 x 14 fine positions, so blocks are cut off at two borders
VALID = torch.tensor([[[1.0, 0.3, 0.0], [0.0, 0.3, 0.0]]])  # late second object, doubtful slot, empty slot
AGE = torch.tensor([[9.0, 1.0, 3.0]])


def random_parts(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Unit fine query, unit fine keys and soft masks at stride 4."""
    generator = torch.Generator().manual_seed(seed)
    size = (2 * HEIGHT, 2 * WIDTH)
    query = normalize(torch.randn(1, CONFIG.fine_channels, *size, generator=generator), dim=1)
    key = normalize(torch.randn(1, SLOTS, CONFIG.fine_channels, *size, generator=generator), dim=2)
    return query, key, torch.rand(1, SLOTS, OBJECTS, 4 * HEIGHT, 4 * WIDTH, generator=generator)


def cells_of(soft_BTOHW: torch.Tensor) -> torch.Tensor:
    """Mask cells [B, O, cells, T, N] of tokens, as a value carries them."""
    cells = to_cells(soft_BTOHW.flatten(0, 2), CONFIG.stride).flatten(2)
    ordered: torch.Tensor = cells.unflatten(0, (1, SLOTS, OBJECTS)).permute(0, 2, 3, 1, 4)
    return ordered


def folded(fine_BKHW: torch.Tensor) -> torch.Tensor:
    """Fine keys [B, K, H, W] as a token carries them [B, 4 * K, h, w]: the channels of each together."""
    return pixel_unshuffle(fine_BKHW, 2).unflatten(1, (fine_BKHW.shape[1], 4)).transpose(1, 2).flatten(1, 2)


def bank_of(key_BTKHW: torch.Tensor) -> torch.Tensor:
    """Fine keys of one stream's slots as a memory holds them [1, 4 * K, T, N]."""
    return folded(key_BTKHW[0]).flatten(2).permute(1, 0, 2)[None]


def test_the_encoder_folds_fine_keys_as_the_read_out_expects() -> None:
    segmenter = Segmenter(replace(CONFIG, widths=(8, 8, 16), blocks=(1, 1, 1))).eval()
    frame = torch.randint(0, 256, (1, 32, 48, 3), dtype=torch.uint8)
    with torch.no_grad():
        _, map8, top = segmenter.frame_encoder.backbone(frame)
        expected = folded(segmenter.frame_encoder.fine_key(map8, top))
        assert torch.equal(segmenter.encode_frame(frame).key[:, CONFIG.key_channels :], expected)


def fine_reference(query: torch.Tensor, key: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Affinity [P, T, N] and mass [P] of the fine read-out."""
    settings = reference.ReadOutSettings(
        CONFIG.fine_temperature,
        CONFIG.locality_start_pixels / FINE_STRIDE,
        CONFIG.locality_growth_pixels / FINE_STRIDE,
    )
    size = (2 * HEIGHT, 2 * WIDTH)
    key_KTN = key[0].permute(1, 0, 2, 3).flatten(2).numpy()
    similarity = reference.similarity(query[0].flatten(1).numpy(), key_KTN, AGE[0].numpy(), size, settings)
    similarity = np.where(reference.near(size, BLOCK, MARGIN)[:, None], similarity, -1e4)
    trust = VALID[0].amax(dim=0).numpy()
    return reference.affinity(similarity, trust), reference.mass(similarity, trust, CONFIG.fine_temperature)


def test_the_fine_read_out_equals_plain_arithmetic_over_the_window_of_each_block() -> None:
    query, key, soft = random_parts(1)
    held = (VALID > 0).float()
    cells = cells_of(soft) * held[:, :, None, :, None]
    mask, mass = fine_read_out(folded(query), bank_of(key), cells, held, VALID.amax(dim=1), AGE, CONFIG)
    affinity, total = fine_reference(query, key)
    weight = affinity * total[:, None, None]
    held_masks = (soft[0] * held[0].T[:, :, None, None]).numpy()  # [T, O, H/4, W/4]
    np.testing.assert_allclose(mass[0].flatten(1).numpy(), np.einsum("ptn,ot->op", weight, held[0].numpy()), rtol=1e-4)
    for row in range(2):
        for column in range(2):
            inner = held_masks[:, :, row::2, column::2].reshape(SLOTS, OBJECTS, -1)
            expected = np.einsum("ptn,ton->op", weight, inner)
            np.testing.assert_allclose(mask[0, :, row::2, column::2].flatten(1).numpy(), expected, rtol=1e-4)


def random_tokens(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys of tokens, of the frame [1, K, h, w] and of the bank [1, K, T, N]."""
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(1, CONFIG.key_channels, HEIGHT, WIDTH, generator=generator)
    key = torch.randn(1, CONFIG.key_channels, SLOTS, HEIGHT * WIDTH, generator=generator)
    return normalize(query, dim=1), normalize(key, dim=1)


def value_of(soft: torch.Tensor) -> torch.Tensor:
    """What a bank holds of masks, with nothing learnt: zero in slots without the object."""
    value = torch.cat((torch.zeros(1, OBJECTS, 4, SLOTS, HEIGHT * WIDTH), cells_of(soft)), dim=2)
    return value * (VALID > 0)[:, :, None, :, None]


def test_the_coarse_mask_joins_both_read_outs_on_one_scale() -> None:
    query, key, soft = random_parts(2)
    token_query, token_key = random_tokens(3)
    value = value_of(soft)
    packed_query = torch.cat((token_query, folded(query)), dim=1)
    readout, coarse = propagate(packed_query, torch.cat((token_key, bank_of(key)), dim=1), value, VALID, AGE, CONFIG)
    assert torch.equal(readout[0, :, 4:].unflatten(2, (HEIGHT, WIDTH)), to_cells(coarse[0], CONFIG.stride))

    settings = reference.ReadOutSettings(
        CONFIG.temperature, CONFIG.locality_start_pixels / CONFIG.stride, CONFIG.locality_growth_pixels / CONFIG.stride
    )
    similarity = reference.similarity(
        token_query[0].flatten(1).numpy(), token_key[0].numpy(), AGE[0].numpy(), (HEIGHT, WIDTH), settings
    )
    trust = VALID[0].amax(dim=0).numpy()
    token_affinity = reference.affinity(similarity, trust)
    token_mass = reference.mass(similarity, trust, CONFIG.temperature)
    fine_affinity, fine_mass = fine_reference(query, key)
    for row, column in ((0, 0), (5, 9), (13, 26), (15, 27)):  # positions at stride 4
        token, fine = (row // 4) * WIDTH + column // 4, (row // 2) * 2 * WIDTH + column // 2
        for o in range(OBJECTS):
            valid = (VALID[0, o] > 0).numpy()
            token_masks = soft[0, :, o, row % 4 :: 4, column % 4 :: 4].flatten(1).numpy() * valid[:, None]
            fine_masks = soft[0, :, o, row % 2 :: 2, column % 2 :: 2].flatten(1).numpy() * valid[:, None]
            found = token_mass[token] * (token_affinity[token] * token_masks).sum()
            fine_weight = FINE_WEIGHT * fine_mass[fine] ** 2 * (fine_affinity[fine].sum(axis=1) * valid).sum()
            found += fine_weight * (fine_affinity[fine] * fine_masks).sum()
            total = token_mass[token] * (token_affinity[token].sum(axis=1) * valid).sum()
            total += fine_weight * (fine_affinity[fine].sum(axis=1) * valid).sum()
            np.testing.assert_allclose(float(coarse[0, o, row, column]), found / total, atol=1e-4)


def test_an_object_is_read_as_if_the_others_were_not_there() -> None:
    """Which slots hold the others changes nothing: the second object is in one slot, the first in two."""
    query, key, soft = random_parts(6)
    token_query, token_key = random_tokens(7)
    frame, memory = torch.cat((token_query, folded(query)), dim=1), torch.cat((token_key, bank_of(key)), dim=1)
    valid = (VALID > 0).float()  # the same trust in a slot, whoever is asked
    value = value_of(soft)
    _, together = propagate(frame, memory, value, valid, AGE, CONFIG)
    for one in range(OBJECTS):
        _, alone = propagate(frame, memory, value[:, one : one + 1], valid[:, one : one + 1], AGE, CONFIG)
        np.testing.assert_allclose(together[:, one : one + 1].numpy(), alone.numpy(), rtol=1e-4, atol=1e-6)


def test_a_small_motion_is_followed_by_its_pixels_not_by_whole_tokens() -> None:
    """A mask that moved by half a token comes out moved by half a token."""
    generator = torch.Generator().manual_seed(4)
    fine = normalize(torch.randn(1, 32, 8, 10, generator=generator), dim=1)
    moved = torch.roll(fine, 1, dims=3)
    config = replace(CONFIG, fine_channels=32)
    soft = torch.zeros(1, 1, 16, 20)
    soft[:, :, 4:12, 6:12] = 1
    flat = torch.zeros(1, config.key_channels, 4, 5)
    value = torch.cat((torch.zeros(1, 4, 4, 5), to_cells(soft[0], 16)), dim=1).flatten(2)[:, None, :, None]
    key = torch.cat((flat, folded(fine)), dim=1).flatten(2)[:, :, None]
    query = torch.cat((flat, folded(moved)), dim=1)
    _, coarse = propagate(query, key, value, torch.ones(1, 1, 1), torch.ones(1, 1), config)
    assert torch.equal(coarse[:, :, :, 2:] > 0.5, torch.roll(soft, 2, dims=3)[:, :, :, 2:] > 0.5)


def test_a_thing_is_found_far_from_where_it_was_though_what_lies_there_now_is_a_little_like_it() -> None:
    """Fine keys near by match badly (cosine 0.4), the token far away well (0.85): the far one decides."""
    generator = torch.Generator().manual_seed(5)
    config = replace(CONFIG, key_channels=128, fine_channels=128)
    height, width, shift = 6, 24, 15
    alike = normalize(torch.randn(1, 128, 1, 1, generator=generator), dim=1)
    own = normalize(torch.randn(1, 128, 2 * height, 2 * width, generator=generator), dim=1)
    fine = 0.63 * alike + 0.77 * own
    token = normalize(torch.randn(1, 128, height, width, generator=generator), dim=1)
    changed = normalize(torch.randn(1, 128, height, width, generator=generator), dim=1)
    soft = torch.zeros(1, 1, 4 * height, 4 * width)
    soft[:, :, 8:16, 8:20] = 1
    value = torch.cat((torch.zeros(1, 4, height, width), to_cells(soft[0], 16)), dim=1).flatten(2)[:, None, :, None]
    key = torch.cat((token, folded(fine)), dim=1).flatten(2)[:, :, None]
    seen = 0.85 * torch.roll(token, shift, 3) + 0.53 * changed
    query = torch.cat((seen, folded(torch.roll(fine, 2 * shift, 3))), dim=1)
    _, coarse = propagate(query, key, value, torch.ones(1, 1, 1), torch.full((1, 1), 40.0), config)
    found, expected = coarse > 0.5, torch.roll(soft, 4 * shift, dims=3) > 0.5
    assert (found & expected).sum() > 0.8 * (found | expected).sum()

"""The torch read-out computes what the plain arithmetic says."""

import numpy as np
import torch

from maskstream import affinity as reference
from maskstream.model.config import ModelConfig
from maskstream.model.read_out import affinity, read_out


def test_torch_read_out_equals_plain_arithmetic_with_empty_slots_and_late_objects() -> None:
    rng = np.random.default_rng(0)
    height, width, slots, objects = 3, 5, 4, 2
    tokens = height * width
    config = ModelConfig(locality_start_pixels=20.0, locality_growth_pixels=9.0)
    query = rng.normal(size=(8, tokens)).astype(np.float32) * 0.1
    key = rng.normal(size=(8, slots, tokens)).astype(np.float32) * 0.1
    value = rng.normal(size=(objects, 6, slots, tokens)).astype(np.float32)
    valid = np.array([[1, 1, 0, 0], [0, 1, 1, 0]], np.float32)  # the second object came late, the last slot is empty
    trust = np.array([1, 0.2, 0.7, 0], np.float32)
    age = np.array([7, 3, 1, 9], np.float32)
    value *= valid[:, None, :, None]

    settings = reference.ReadOutSettings(config.temperature, 20.0 / config.stride, 9.0 / config.stride)
    weights = reference.affinity(reference.similarity(query, key, age, (height, width), settings), trust)
    expected = reference.read_out(weights, value, valid)

    tensor = torch.from_numpy
    query_BKhw = tensor(query).unflatten(1, (height, width))[None]
    valid_BOT = tensor(valid)[None]
    found, log_mass = affinity(query_BKhw, tensor(key)[None], tensor(trust)[None], tensor(age)[None], config)
    readout, mass = read_out(found, tensor(value)[None], valid_BOT)
    np.testing.assert_allclose(found[0].numpy(), weights, atol=1e-6)
    np.testing.assert_allclose(readout[0].numpy(), expected, atol=1e-4)
    similarity = reference.similarity(query, key, age, (height, width), settings)
    expected_mass = reference.mass(similarity, trust, config.temperature)
    np.testing.assert_allclose(log_mass[0].numpy(), np.log(expected_mass), atol=1e-4)
    np.testing.assert_allclose(mass[0].numpy(), np.einsum("ptn,ot->op", weights, valid), atol=1e-5)


def test_no_weight_is_a_denormal_number_however_well_the_best_token_matches() -> None:
    """Denormal weights of far tokens once made a read eight times slower than all other arithmetic in it."""
    config = ModelConfig()
    key = torch.nn.functional.normalize(torch.randn(1, 8, 1, 900, generator=torch.Generator().manual_seed(0)), dim=1)
    query = key[:, :, 0].unflatten(2, (30, 30))  # every position finds itself: the highest similarity there can be
    found, _ = affinity(query, key, torch.ones(1, 1), torch.ones(1, 1), config)
    assert found[found > 0].min() >= torch.finfo(torch.float32).tiny

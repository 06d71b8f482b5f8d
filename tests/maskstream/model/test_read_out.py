"""The torch read-out computes what the plain arithmetic says."""

import numpy as np
import torch

from maskstream import affinity as reference
from maskstream.model.config import ModelConfig
from maskstream.model.read_out import read_out


def read_with(
    query: np.ndarray,
    key: np.ndarray,
    value: np.ndarray,
    valid: np.ndarray,
    trust: np.ndarray,
    age: np.ndarray,
    config: ModelConfig,
) -> tuple[np.ndarray, np.ndarray]:
    """Sums and masses of torch's read-out, of one stream."""
    arrays = (torch.from_numpy(array)[None] for array in (query, key, value, valid, trust, age))
    sums, masses = read_out(*arrays, config)
    return sums[0].numpy(), masses[0].numpy()


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

    sums, masses = read_with(query.reshape(8, height, width), key, value, valid, trust, age, config)
    np.testing.assert_allclose(sums / masses[:, None], expected, atol=1e-4)
    similarity = reference.similarity(query, key, age, (height, width), settings)
    mass = reference.mass(similarity, trust, config.temperature)
    np.testing.assert_allclose(masses, np.einsum("ptn,ot->op", weights, valid) * mass, rtol=1e-4)


def test_half_precision_reads_the_same_from_weights_that_end_far_below_its_smallest_number() -> None:
    """Weights of exp(-40) and values in half precision: each position is scaled before and after."""
    rng = np.random.default_rng(1)
    config = ModelConfig()
    query, key = np.zeros((8, 2, 3), np.float32), np.zeros((8, 2, 6), np.float32)  # no likeness: exp(-1 / temperature)
    value = rng.normal(size=(1, 4, 2, 6)).astype(np.float32)
    full, one, age = np.ones((1, 2), np.float32), np.ones(2, np.float32), np.full(2, 1e6, np.float32)
    sums, masses = read_with(query, key, value, full, one, age, config)
    halved, half_masses = read_with(query, key, value.astype(np.float16), full, one, age, config)
    assert masses.max() < 1e-10
    np.testing.assert_allclose(half_masses, masses, rtol=1e-6)
    np.testing.assert_allclose(halved / half_masses[:, None], sums / masses[:, None], atol=3e-3)


def test_no_product_of_weight_and_value_is_a_denormal_number_however_far_the_tokens_are() -> None:
    """Denormal weights of far tokens once made a read eight times slower than all other arithmetic in it."""
    config = ModelConfig()
    query = -np.ones((8, 30, 30), np.float32) / 8**0.5  # the opposite of every key: the lowest similarity there can be
    key = np.ones((8, 1, 900), np.float32) / 8**0.5
    value = np.full((1, 1, 1, 900), 1e-6, np.float32)
    one = np.ones((1, 1), np.float32)
    sums, masses = read_with(query, key, value, one, one[0], one[0], config)
    assert sums.min() / 900 >= torch.finfo(torch.float32).tiny
    np.testing.assert_allclose(sums[0] / masses, 1e-6, rtol=1e-4)

"""Sealed states: what comes back is what went in, and nothing else than what was sealed is ever taken."""

import hmac
import json
import logging
import struct

import numpy as np
import pytest
from fakes import FakeNetworks
from hypothesis import example, given, settings
from hypothesis import strategies as st
from served import picture, square

from maskstream.tracker import Prompt, Tracker
from maskstream.tracker_state import BankState, TrackerState
from serve.config import ConfigError
from serve.errors import SnapshotInvalid
from serve.snapshot import read_key, seal, unseal

KEY, VERSION, MOST = b"k" * 32, "model-1", 2**20
A, B = square(16, 16), square(32, 64)
ROLES = ("permanent", "recent", "last", "empty")


@st.composite
def states(draw):
    """States as a bank makes them: values only where an object is valid, keys only where a slot holds a frame."""
    objects, used = draw(st.integers(0, 3)), draw(st.integers(1, 4))
    roles = ("permanent", *["recent"] * (used - 2), *["last"] * (used > 1), *["empty"] * (4 - used))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    valid = (rng.random((objects, 4)) < 0.6).astype(np.float32) * (np.arange(4) < used)
    key = rng.normal(size=(5, 4, 6)).astype(np.float32) * (np.arange(4) < used)[None, :, None]
    value = draw(st.sampled_from([1.0, 1e6])) * rng.normal(size=(objects, 2, 4, 6)) * valid[:, None, :, None]
    soft = rng.random((objects, 8, 12)).astype(np.float32)
    indices = tuple(int(i) if i < used else -1 for i in range(4))
    bank = BankState(roles, indices, used - 2, key, value.astype(np.float32), valid)
    ids = tuple(int(i) for i in rng.permutation(255)[:objects] + 1)
    return TrackerState((32, 48), draw(st.integers(used, 2**53)), ids, soft, bank)


def same(ours, theirs, tolerance=1e-3):
    bank, other = ours.bank, theirs.bank
    for name in ("frame_size", "frame_index", "object_ids"):
        assert getattr(ours, name) == getattr(theirs, name)
    for name in ("roles", "frame_indices", "last_kept"):
        assert getattr(bank, name) == getattr(other, name)
    assert np.array_equal(bank.valid, other.valid)
    for ours_array, array in ((bank.key, other.key), (bank.value, other.value), (ours.soft, theirs.soft)):
        assert array.dtype == np.float32
        assert np.allclose(ours_array, array, rtol=tolerance, atol=1e-7)


@given(states())
@settings(max_examples=60)
def test_what_comes_back_is_what_went_in_within_half_precision(state):
    same(state, unseal(seal(state, VERSION, KEY), VERSION, KEY, MOST))


SEALED = seal(
    TrackerState(
        (32, 48), 7, (3, 200), np.full((2, 8, 12), 0.5, np.float32),
        BankState(ROLES, (0, 5, 7, -1), 5, np.ones((5, 4, 6), np.float32), np.ones((2, 2, 4, 6), np.float32),
                  np.array([[1, 1, 1, 0], [0, 1, 0, 0]], np.float32)),
    ), VERSION, KEY,
)  # fmt: skip


@given(st.integers(0, 8 * len(SEALED) - 1))
@settings(max_examples=300)
@example(0)
@example(8 * len(SEALED) - 1)
def test_any_flipped_bit_is_refused(bit):
    data = bytearray(SEALED)
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(SnapshotInvalid, match="signature"):
        unseal(bytes(data), VERSION, KEY, MOST)


def test_any_truncation_and_any_addition_is_refused():
    for data in [*(SEALED[:end] for end in range(len(SEALED))), SEALED + b"\0"]:
        with pytest.raises(SnapshotInvalid, match="signature"):
            unseal(data, VERSION, KEY, MOST)


def test_another_key_model_or_size_is_refused_and_said():
    with pytest.raises(SnapshotInvalid, match="another key"):
        unseal(SEALED, VERSION, b"x" * 32, MOST)
    with pytest.raises(SnapshotInvalid, match="model version model-1, this server runs model-2"):
        unseal(SEALED, "model-2", KEY, MOST)
    with pytest.raises(SnapshotInvalid, match=f"{len(SEALED)} bytes, this server takes {len(SEALED) - 1}"):
        unseal(SEALED, VERSION, KEY, len(SEALED) - 1)


def signed(data):
    return data + hmac.digest(KEY, data, "sha256")


def rewritten(**changes):
    """SEALED with other words in its header, signed as if we had written them."""
    length = struct.unpack_from("<I", SEALED, 18)[0]
    words = json.loads(SEALED[22 : 22 + length]) | changes
    text = json.dumps({name: value for name, value in words.items() if value is not None}).encode()
    return signed(SEALED[:18] + struct.pack("<I", len(text)) + text + SEALED[22 + length : -32])


def test_rewriting_nothing_is_taken():
    assert unseal(rewritten(), VERSION, KEY, MOST).object_ids == (3, 200)


def test_another_format_is_said_with_both_versions():
    with pytest.raises(SnapshotInvalid, match="format 9, this server knows format 1"):
        unseal(signed(SEALED[:16] + struct.pack("<H", 9) + SEALED[18:-32]), VERSION, KEY, MOST)
    with pytest.raises(SnapshotInvalid, match="no snapshot"):
        unseal(signed(b"something else is signed with this key"), VERSION, KEY, MOST)


@pytest.mark.parametrize(
    "changes",
    [
        {"frame_size": [32]}, {"frame_size": [32, 2**40]}, {"frame_size": None}, {"frame_size": "ab"},
        {"frame_index": -1}, {"frame_index": 3}, {"frame_index": 1e300}, {"frame_index": True},
        {"object_ids": [3, 3]}, {"object_ids": [0, 3]}, {"object_ids": [3, 256]}, {"object_ids": [3]},
        {"roles": ["permanent"]}, {"frame_indices": [0, 5, 7]}, {"frame_indices": [0, 5, 7, -2]},
        {"frame_indices": [0, 5, -1, -1]}, {"last_kept": "5"}, {"key_shape": [5, 4]}, {"key_shape": [5, 4, 0]},
        {"key_shape": [5, 4, 2**30]}, {"key_shape": [5, 300, 6]}, {"key_shape": [10**6, 4, 6]},
        {"value_channels": 0}, {"value_channels": 3}, {"soft_size": [8, 13]}, {"soft_size": [2**15, 2**15]},
        {"number": "<f8"}, {"number": "O"}, {"number": "<f4"}, {"model_version": None},
    ],
    ids=str,
)  # fmt: skip
def test_a_signed_header_is_checked_too(changes):
    with pytest.raises(SnapshotInvalid, match="no server of this version writes"):
        unseal(rewritten(**changes), VERSION, KEY, MOST)


def test_a_signed_number_is_checked_too():
    body = bytearray(SEALED[:-32])
    body[-2:] = np.float16(np.nan).tobytes()
    with pytest.raises(SnapshotInvalid, match="not finite"):
        unseal(signed(bytes(body)), VERSION, KEY, MOST)
    length = struct.unpack_from("<I", SEALED, 18)[0]
    body = bytearray(SEALED[:-32])
    body[22 + length : 26 + length] = struct.pack("<f", 7.0)
    with pytest.raises(SnapshotInvalid, match="validity"):
        unseal(signed(bytes(body)), VERSION, KEY, MOST)


def test_only_what_is_held_is_sent():
    one = Tracker(FakeNetworks())
    one.step(picture(), [Prompt(1, A)])
    early = len(seal(one.state(), VERSION, KEY))
    for _ in range(20):
        one.step(picture())
    assert early < len(seal(one.state(), VERSION, KEY))
    assert len(SEALED) < 1000


def test_a_tracker_goes_on_from_a_sealed_state_as_if_nothing_had_happened():
    networks = FakeNetworks()
    first, second = Tracker(networks), Tracker(networks)
    first.step(picture(), [Prompt(1, A), Prompt(7, B)])
    for _ in range(9):
        first.step(picture())
    second.restore(unseal(seal(first.state(), VERSION, KEY), VERSION, KEY, MOST))
    for tracker in (first, second):
        tracker.remove([1])
    for _ in range(9):
        ours, theirs = first.step(picture()), second.step(picture())
        assert np.array_equal(ours.id_map, theirs.id_map)
        assert (ours.frame_index, ours.memory_slots) == (theirs.frame_index, theirs.memory_slots)
    same(first.state(), second.state())


def test_the_key_is_read_without_its_line_end(tmp_path, caplog):
    file = tmp_path / "key"
    file.write_bytes(b"s3cret-" * 6 + b"\n")
    file.chmod(0o600)
    assert read_key(file) == b"s3cret-" * 6
    assert caplog.records == []
    file.chmod(0o644)
    with caplog.at_level(logging.WARNING):
        read_key(file)
    assert "chmod 600" in caplog.text


def test_a_key_that_is_no_secret_is_refused_and_not_shown(tmp_path):
    file = tmp_path / "key"
    file.write_bytes(b"hunter2")
    with pytest.raises(ConfigError, match=r"holds 7 bytes, expected 32.*openssl rand") as caught:
        read_key(file)
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ConfigError, match="cannot read"):
        read_key(tmp_path / "nowhere")

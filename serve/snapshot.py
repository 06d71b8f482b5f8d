"""A stream's memory as signed bytes: what one replica sends, another one of the same model and key takes.

Signature first: nothing is read of bytes that this service did not sign, and what it did sign is checked nevertheless,
so that a bug or a stolen key costs an error and not memory. Numbers travel in half precision (the masks stay the same,
see docs/client.md); deflating them saves a quarter of the bytes and costs several times what all the rest does, so they
are sent as they are. Slots that hold nothing are not sent.

    magic, version | length of the header | header, JSON | valid, key, value, soft: little-endian | HMAC-SHA256 of all
"""

import hmac
import json
import logging
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from maskstream.masks import MAX_OBJECT_ID
from maskstream.networks import F32
from maskstream.tracker_state import BankState, TrackerState
from serve.config import ConfigError
from serve.errors import SnapshotInvalid

log = logging.getLogger(__name__)

MAGIC, FORMAT = b"maskstream-state", 1
_START = struct.Struct("<16sHI")  # magic, format, bytes of the header
_SIGNATURE_BYTES = 32
_DIGEST = "sha256"
SMALLEST_KEY_BYTES = 32  # as long as the signature
OTHERS_MAY_READ = 0o077

_NUMBERS: dict[str, np.dtype[Any]] = {name: np.dtype(name) for name in ("<f2", "<f4")}
MOST_SLOTS, MOST_CHANNELS, MOST_SIDE, MOST_FRAMES = 256, 4096, 2**15, 2**53

# O objects, T slots, K key channels, V value channels, N tokens; A slots that hold a frame, P pairs of object and slot
# in which the object is stored


def read_key(file: Path) -> bytes:
    """The secret of --snapshot-key, the same file on all replicas. Raises ConfigError, which never shows it."""
    try:
        key = file.read_bytes().strip()
        if file.stat().st_mode & OTHERS_MAY_READ:
            log.warning("%s can be read by others than its owner; chmod 600 it", file)
    except OSError as error:
        raise ConfigError(f"snapshot_key: cannot read {file}: {error.strerror}") from error
    if len(key) < SMALLEST_KEY_BYTES:
        raise ConfigError(
            f"snapshot_key: {file} holds {len(key)} bytes, expected {SMALLEST_KEY_BYTES} or more that nobody can "
            "guess; make them with: openssl rand -hex 32"
        )
    return key


def seal(state: TrackerState, model_version: str, key: bytes) -> bytes:
    """The state as bytes that `unseal` takes, about half of its memory. Any thread may call it."""
    bank = state.bank
    number = _number(bank.key, bank.value, state.soft)
    header = {
        "model_version": model_version,
        "frame_size": state.frame_size,
        "frame_index": state.frame_index,
        "object_ids": state.object_ids,
        "roles": bank.roles,
        "frame_indices": bank.frame_indices,
        "last_kept": bank.last_kept,
        "key_shape": bank.key.shape,
        "value_channels": bank.value.shape[1],
        "soft_size": state.soft.shape[1:],
        "number": number,
    }
    words = json.dumps(header, separators=(",", ":")).encode()
    held = np.array(bank.frame_indices) >= 0
    parts = [
        _START.pack(MAGIC, FORMAT, len(words)),
        words,
        bank.valid.astype("<f4").tobytes(),
        bank.key[:, held].astype(number).tobytes(),
        bank.value.swapaxes(1, 2)[bank.valid > 0].astype(number).tobytes(),
        state.soft.astype(number).tobytes(),
    ]
    sealed = b"".join(parts)
    return sealed + hmac.digest(key, sealed, _DIGEST)


def unseal(data: bytes, model_version: str, key: bytes, max_bytes: int) -> TrackerState:
    """What was sealed. Raises SnapshotInvalid, saying what is wrong; nothing large is allocated before it is checked.

    Whether the shapes are those of the model, `Tracker.restore` sees.
    """
    if len(data) > max_bytes:
        raise SnapshotInvalid(f"the snapshot has {len(data)} bytes, this server takes {max_bytes} at most")
    signed, signature = memoryview(data)[:-_SIGNATURE_BYTES], data[-_SIGNATURE_BYTES:]
    if not hmac.compare_digest(hmac.digest(key, signed, _DIGEST), signature):
        raise SnapshotInvalid(
            "the snapshot's signature does not fit: it was altered, cut off, or comes from a server with another key; "
            "prompt with the last masks"
        )
    try:
        words, body = _split(signed)
        _check_version(words, model_version)
        header = _Header.read(words)
        return header.state(body, max_bytes)
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError, struct.error) as error:
        raise SnapshotInvalid(f"the snapshot holds what no server of this version writes: {error!r}") from error


def _number(*arrays: F32) -> str:
    """Half precision, unless a value is too large for it."""
    largest = max((float(np.abs(array).max()) for array in arrays if array.size), default=0.0)
    return "<f2" if largest <= float(np.finfo(np.float16).max) else "<f4"


def _split(signed: memoryview) -> tuple[dict[str, Any], memoryview]:
    magic, version, length = _START.unpack_from(signed)
    if magic != MAGIC:
        raise ValueError("these bytes are no snapshot")
    if version != FORMAT:
        raise SnapshotInvalid(
            f"the snapshot has format {version}, this server knows format {FORMAT}; prompt with the last masks"
        )
    words = json.loads(bytes(signed[_START.size : _START.size + length]))
    if not isinstance(words, dict):
        raise TypeError("the header is no object")
    return words, signed[_START.size + length :]


def _check_version(words: Mapping[str, Any], model_version: str) -> None:
    if words["model_version"] != model_version:
        raise SnapshotInvalid(
            f"the snapshot is of model version {words['model_version']}, this server runs {model_version}; "
            "prompt with the last masks"
        )


@dataclass(frozen=True)
class _Header:
    """What is said beside the numbers, each value within its bounds."""

    frame_size: tuple[int, ...]
    frame_index: int
    object_ids: tuple[int, ...]
    roles: tuple[str, ...]
    frame_indices: tuple[int, ...]
    last_kept: int
    key_shape: tuple[int, ...]  # K, T, N
    value_channels: int
    soft_size: tuple[int, ...]  # H/4, W/4
    number: np.dtype[Any]

    @classmethod
    def read(cls, words: Mapping[str, Any]) -> "_Header":
        """Raises KeyError, TypeError or ValueError."""
        channels, slots, tokens = _integers(words["key_shape"], 1, MOST_SIDE**2)
        if slots > MOST_SLOTS or channels > MOST_CHANNELS:
            raise ValueError(f"{slots} slots of {channels} channels are more than any model has")
        object_ids = _integers(words["object_ids"], 1, MAX_OBJECT_ID)
        if len(set(object_ids)) != len(object_ids):
            raise ValueError("an object is there twice")
        frame_index = _integers([words["frame_index"]], 0, MOST_FRAMES)[0]
        frame_indices = _integers(words["frame_indices"], -1, frame_index)
        roles = tuple(str(role)[:16] for role in words["roles"])
        if not len(frame_indices) == len(roles) == slots:
            raise ValueError(f"{len(roles)} roles and {len(frame_indices)} indices do not fit {slots} slots")
        return cls(
            frame_size=_pair(words["frame_size"]),
            frame_index=frame_index,
            object_ids=object_ids,
            roles=roles,
            frame_indices=frame_indices,
            last_kept=_integers([words["last_kept"]], -1, frame_index)[0],
            key_shape=(channels, slots, tokens),
            value_channels=_integers([words["value_channels"]], 1, MOST_CHANNELS)[0],
            soft_size=_pair(words["soft_size"]),
            number=_NUMBERS[words["number"]],
        )

    def state(self, body: memoryview, max_bytes: int) -> TrackerState:
        """The arrays of `body`. Raises ValueError."""
        (channels, slots, tokens), objects = self.key_shape, len(self.object_ids)
        valid = np.frombuffer(body, "<f4", objects * slots).reshape(objects, slots)
        if not ((valid >= 0) & (valid <= 1)).all():
            raise ValueError("validity is a number from 0 to 1")
        held, stored = np.array(self.frame_indices) >= 0, valid > 0
        if (stored & ~held).any():
            raise ValueError("an object is stored in a slot that holds no frame")
        shapes = (
            (channels, int(held.sum()), tokens),
            (int(stored.sum()), self.value_channels, tokens),
            (objects, *self.soft_size),
        )
        key, value, soft = self._arrays(body[valid.nbytes :], shapes)
        whole_bytes = 4 * tokens * slots * (channels + objects * self.value_channels)
        if whole_bytes > 2 * slots * max_bytes:  # half precision and empty slots make no more of what was sent
            raise ValueError(f"it would take {whole_bytes} bytes of memory")
        whole_key = np.zeros((channels, slots, tokens), np.float32)
        whole_key[:, held] = key
        whole_value = np.zeros((objects, slots, self.value_channels, tokens), np.float32)
        whole_value[stored] = value
        bank = BankState(
            self.roles, self.frame_indices, self.last_kept, whole_key, whole_value.swapaxes(1, 2), valid.copy()
        )
        height, width = self.frame_size
        return TrackerState((height, width), self.frame_index, self.object_ids, soft.astype(np.float32), bank)

    def _arrays(self, body: memoryview, shapes: tuple[tuple[int, ...], ...]) -> list[npt.NDArray[Any]]:
        """Views of consecutive arrays, which fill `body` exactly."""
        counts = [prod(shape) for shape in shapes]
        if sum(counts) * self.number.itemsize != len(body):
            raise ValueError(f"{len(body)} bytes of numbers, expected {sum(counts) * self.number.itemsize}")
        numbers = np.frombuffer(body, self.number)
        if not np.isfinite(numbers).all():
            raise ValueError("a number is not finite")
        ends = accumulate(counts)
        return [
            numbers[end - count : end].reshape(shape) for end, count, shape in zip(ends, counts, shapes, strict=True)
        ]


def _pair(values: Any) -> tuple[int, ...]:
    pair = _integers(values, 1, MOST_SIDE)
    if len(pair) != 2:
        raise ValueError(f"{len(pair)} numbers are no height and width")
    return pair


def _integers(values: Any, least: int, most: int) -> tuple[int, ...]:
    if not isinstance(values, list) or not all(type(value) is int and least <= value <= most for value in values):
        raise ValueError(f"expected whole numbers from {least} to {most}")
    return tuple(values)

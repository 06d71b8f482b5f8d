"""Memory bank: fixed slots, so that every shape is static and memory cannot grow with the length of a stream.

Layout by role, not by position: `permanent` frames (prompted; a stream's first prompt is never evicted), a ring of
`recent` frames kept every `memory_stride` frames, and `last`, the newest frame. A permanent slot that no prompt has
taken yet holds one more recent frame. `SlotPolicy` decides where a frame goes and knows no arrays; `MemoryBank` holds
one record per slot (key, value, validity, frame index together, so they cannot drift apart). Objects own rows: a row is
taken from a `BlockPool` and refused when the pool is empty, so the process is bounded as well as the session.
"""

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from maskstream.block_pool import Pool
from maskstream.networks import F32, MemoryView, NetworkSpec
from maskstream.tracker_state import BankState

# Of the newest frame, until it is kept in the ring. It is the likest and the most drifted: with the trust of the others
# it would outweigh them all and pass its errors on.
LAST_TRUST = 0.2


class Role(StrEnum):
    """Why a slot is held."""

    EMPTY = "empty"
    PERMANENT = "permanent"
    RECENT = "recent"
    LAST = "last"


class SlotPolicy:
    """Which slot a new frame is written to. Slots never move; their roles do."""

    def __init__(self, permanent: int, recent: int, memory_stride: int) -> None:
        if permanent < 1 or recent < 0 or memory_stride < 1:
            raise ValueError("a bank needs permanent >= 1, recent >= 0 and memory_stride >= 1")
        self.permanent, self.recent, self.memory_stride = permanent, recent, memory_stride
        self.clear()

    @property
    def capacity(self) -> int:
        """Slots in all: permanent + recent + 1 for the last frame."""
        return self.permanent + self.recent + 1

    def clear(self) -> None:
        """Forget every slot and every count."""
        self.role = [Role.EMPTY] * self.capacity
        self.frame_index = [-1] * self.capacity
        self.evictions: Counter[str] = Counter()
        self.last_kept = -1

    def restore(self, roles: Sequence[str], frame_indices: Sequence[int], last_kept: int) -> None:
        """Go on from the slots of another policy. Raises ValueError for what is no state of one like this."""
        held = [index for index in frame_indices if index >= 0]
        sound = len(roles) == len(frame_indices) == self.capacity and len(held) == len(set(held))
        counts = Counter(roles)
        sound = sound and all((role == Role.EMPTY) == (i < 0) for role, i in zip(roles, frame_indices, strict=True))
        sound = sound and counts[Role.PERMANENT] <= self.permanent and counts[Role.LAST] <= 1
        sound = sound and bool(counts[Role.LAST] or counts[Role.EMPTY])  # the next frame has a place
        if not sound or not set(roles) <= set(Role):
            raise ValueError(f"no bank of {self.capacity} slots has the roles {list(roles)} for {list(frame_indices)}")
        self.role, self.frame_index, self.last_kept = [Role(role) for role in roles], list(frame_indices), last_kept

    def choose(self, frame_index: int, prompted: bool) -> int:
        """Slot for this frame; marks it taken. Evictions are counted by the role that lost its slot."""
        slot = self._permanent_slot() if prompted else self._last_slot(frame_index)
        if self.role[slot] in (Role.PERMANENT, Role.RECENT):
            self.evictions[self.role[slot].value] += 1
        self.role[slot] = Role.PERMANENT if prompted else Role.LAST
        self.frame_index[slot] = frame_index
        return slot

    def _permanent_slot(self) -> int:
        held = self._slots(Role.PERMANENT)
        if len(held) < self.permanent:
            return (self._slots(Role.EMPTY) or self._slots(Role.RECENT))[0]
        # The first prompt stays: it is the user's own word and the least drifted. The oldest of the others goes.
        return held[1] if len(held) > 1 else held[0]

    def _last_slot(self, frame_index: int) -> int:
        last = self._slots(Role.LAST)
        if not last:
            return self._slots(Role.EMPTY)[0]
        if self.recent == 0 or self.frame_index[last[0]] - self.last_kept < self.memory_stride:
            return last[0]
        self.last_kept = self.frame_index[last[0]]
        self.role[last[0]] = Role.RECENT
        return (self._slots(Role.EMPTY) or self._slots(Role.RECENT))[0]

    def _slots(self, role: Role) -> list[int]:
        """Slots of one role, oldest frame first."""
        return sorted((s for s in range(self.capacity) if self.role[s] is role), key=lambda s: self.frame_index[s])


class MemoryBank:
    """Records of one stream: keys shared by all objects, values and validity one row an object.

    Rows are allocated in powers of two, so that adding objects one by one copies little. Call `close` to return the
    memory; a bank that was closed holds nothing.
    """

    # O object rows, T slots, N tokens, K key channels, V value channels

    def __init__(self, spec: NetworkSpec, tokens: int, pool: Pool, permanent: int = 2) -> None:
        recent = spec.capacity - permanent - 1
        self.policy = SlotPolicy(permanent, recent, spec.memory_stride)
        self._spec, self._tokens, self._pool = spec, tokens, pool
        self._key_KTN = pool.take((spec.key_channels, spec.capacity, tokens))
        self._value_OVTN = _nothing(spec, tokens)
        self._valid_OT = np.zeros((0, spec.capacity), np.float32)
        self.rows = 0

    @property
    def slots_used(self) -> int:
        """Slots that hold at least one object."""
        return int(self._valid_OT[: self.rows].any(axis=0).sum())

    @property
    def num_bytes(self) -> int:
        """Bytes of keys and values; its pool counts in blocks."""
        return self._key_KTN.nbytes + self._value_OVTN.nbytes

    def add_row(self) -> int:
        """Row of a new object, empty in every slot. Raises MemoryExhausted, leaving the bank as it was."""
        if self.rows == len(self._value_OVTN):
            self._grow(max(1, 2 * self.rows))
        self._value_OVTN[self.rows] = 0
        self._valid_OT[self.rows] = 0
        self.rows += 1
        return self.rows - 1

    def remove_row(self, row: int) -> None:
        """Forget one object; the rows after it move down by one. Its bytes are wiped: an id used again starts clean."""
        for array in (self._value_OVTN, self._valid_OT):
            array[row : self.rows - 1] = array[row + 1 : self.rows]
            array[self.rows - 1] = 0
        self.rows -= 1

    def write(
        self, frame_index: int, key_KN: F32, value_OVN: F32, stored: npt.NDArray[np.bool_], prompted: bool
    ) -> int:
        """Store one frame for the objects in `stored` (bool [O]); the others are marked absent in that slot."""
        slot = self.policy.choose(frame_index, prompted)
        self._key_KTN[:, slot] = key_KN
        self._value_OVTN[: self.rows, :, slot] = np.where(stored[:, None, None], value_OVN, 0)
        self._valid_OT[: self.rows, slot] = stored
        return slot

    def view(self, frame_index: int) -> MemoryView:
        """The bank as `Networks.segment` reads it at `frame_index`; keys and values are good until the next write."""
        age = np.maximum(frame_index - np.asarray(self.policy.frame_index, np.float32), 0.0)
        trust_T = np.array([LAST_TRUST if role is Role.LAST else 1.0 for role in self.policy.role], np.float32)
        valid_OT = self._valid_OT[: self.rows] * trust_T
        return MemoryView(self._key_KTN[None], self._value_OVTN[None, : self.rows], valid_OT[None], age[None])

    def state(self) -> BankState:
        """A copy of everything."""
        policy = self.policy
        return BankState(
            roles=tuple(role.value for role in policy.role),
            frame_indices=tuple(policy.frame_index),
            last_kept=policy.last_kept,
            key=self._key_KTN.copy(),
            value=self._value_OVTN[: self.rows].copy(),
            valid=self._valid_OT[: self.rows].copy(),
        )

    def restore(self, state: BankState) -> None:
        """Become what `state` says; for a bank that holds nothing yet. Raises MemoryExhausted.

        Raises ValueError for a state that cannot be of this bank: other shapes, or roles no policy gives.
        """
        if state.key.shape != self._key_KTN.shape or state.value.shape[1:] != self._value_OVTN.shape[1:]:
            raise ValueError(f"keys {state.key.shape} and values {state.value.shape} are of other networks or sizes")
        self.policy.restore(state.roles, state.frame_indices, state.last_kept)
        self._key_KTN[:] = state.key
        for _ in state.value:
            self.add_row()
        self._value_OVTN[: self.rows] = state.value
        self._valid_OT[: self.rows] = state.valid

    def close(self) -> None:
        """Return all memory to the pool. Safe to call twice."""
        for array in (self._key_KTN, self._value_OVTN):
            self._pool.give(array)
        self._key_KTN, self._value_OVTN = self._key_KTN[:0].copy(), _nothing(self._spec, self._tokens)
        self._valid_OT = self._valid_OT[:0].copy()
        self.rows = 0

    def _grow(self, rows: int) -> None:
        value = self._pool.take((rows, *self._value_OVTN.shape[1:]))
        valid = np.zeros((rows, self._spec.capacity), np.float32)
        value[: self.rows], valid[: self.rows] = self._value_OVTN[: self.rows], self._valid_OT[: self.rows]
        self._pool.give(self._value_OVTN)
        self._value_OVTN, self._valid_OT = value, valid


def _nothing(spec: NetworkSpec, tokens: int) -> F32:
    return np.zeros((0, spec.value_channels, spec.capacity, tokens), np.float32)

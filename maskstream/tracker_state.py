"""What a tracker knows, as plain arrays and numbers: all that another tracker of the same model needs to go on.

The tracker gives and takes these; how they travel is not its affair.
"""

from dataclasses import dataclass

from maskstream.networks import F32

# O objects, T slots, N tokens, K key channels, V value channels


@dataclass(frozen=True, eq=False)
class BankState:
    """Contents and roles of a memory bank. Slots that hold nothing are zeros."""

    roles: tuple[str, ...]  # of each slot: a maskstream.memory_bank.Role
    frame_indices: tuple[int, ...]  # of each slot, -1 where it is empty
    last_kept: int  # index of the frame that joined the ring last, -1 for none
    key: F32  # [K, T, N]
    value: F32  # [O, V, T, N]
    valid: F32  # [O, T]


@dataclass(frozen=True, eq=False)
class TrackerState:
    """A stream between two frames; at least one frame has been answered."""

    frame_size: tuple[int, int]  # height, width in pixels
    frame_index: int  # of the last frame, from 0
    object_ids: tuple[int, ...]  # position = row of `soft` and of the bank
    soft: F32  # [O, H/4, W/4] the last good masks
    bank: BankState

"""The timer wheel: two weeks of slots in one mapped file, each the head of a chain through the timer log.

Slot (apache/rocketmq TimerWheel, 32 bytes, big-endian): slot number i64 (time in ms / precision), first position i64,
last position i64, count i32, magic i32 (unused). Slot number n stands at index n mod 1 209 600, so a slot holds what
its stored number says; one with another number is empty. Positions are those of `rocketmq_store.timer.log`; -1 is none.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from rocketmq_common.files import FileSystem, Mapping

FILE_NAME: Final = "timerwheel"
SLOT: Final = struct.Struct(">qqqii")
SLOT_COUNT: Final = 2 * 7 * 24 * 3600
FILE_SIZE: Final = SLOT_COUNT * SLOT.size
NONE: Final = -1
# A stretch of this many slots without content is found by one comparison.
_STRETCH: Final = 2048
_NOTHING: Final = bytes(_STRETCH * SLOT.size)


class Slot(NamedTuple):
    """Positions of the oldest and the youngest unit, and how many wait (recalled ones not counted)."""

    first: int
    last: int
    waiting: int


EMPTY: Final = Slot(NONE, NONE, 0)


class TimerWheel:
    """The mapped file, made with full length. Only the writer thread changes it; `sync` may run on another.

    Raises OSError when it cannot be made, or has another length.
    """

    def __init__(self, files: FileSystem, root: Path) -> None:
        self._mapping: Mapping = files.map_file(root / FILE_NAME, FILE_SIZE, create=True)
        self._view = self._mapping.buffer

    def slot(self, number: int) -> Slot:
        """What waits in slot ``number``."""
        found, first, last, count, _ = SLOT.unpack_from(self._view, number % SLOT_COUNT * SLOT.size)
        return Slot(first, last, count) if found == number else EMPTY

    def occupant(self, number: int) -> int:
        """The number of the slot that has the place of ``number`` and is not empty; else ``number`` itself."""
        found, _, last, _, _ = SLOT.unpack_from(self._view, number % SLOT_COUNT * SLOT.size)
        return int(found) if last != NONE and found != 0 else number

    def put(self, number: int, slot: Slot) -> None:
        """Store a slot, over whatever had its place."""
        SLOT.pack_into(self._view, number % SLOT_COUNT * SLOT.size, number, *slot, 0)

    def numbers(self, lowest: int) -> Iterator[int]:
        """Slots from ``lowest`` on that are not empty, in the order of their places."""
        step = len(_NOTHING)
        for start in range(0, FILE_SIZE, step):
            stretch = self._view[start : start + step]
            if bytes(stretch) == _NOTHING[: len(stretch)]:
                continue
            for number, _, last, _, _ in SLOT.iter_unpack(stretch):
                if number >= lowest and number > 0 and last != NONE:
                    yield number

    def clear(self) -> None:
        """Empty every slot."""
        for start in range(0, FILE_SIZE, len(_NOTHING)):
            stretch = self._view[start : start + len(_NOTHING)]
            if bytes(stretch) != _NOTHING[: len(stretch)]:
                stretch[:] = _NOTHING[: len(stretch)]

    def sync(self) -> None:
        """Make it durable. Raises OSError."""
        self._mapping.sync()

    def close(self) -> None:
        """Unmap."""
        self._view = memoryview(b"")
        self._mapping.close()

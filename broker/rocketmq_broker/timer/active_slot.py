"""A slot of the wheel while its time comes: its units in the order of their due times, and the recalls among them.

A unit takes eight bytes here, so that a slot with a million of them is no danger. The chain is walked in parts, a few
ms at a time.
"""

from __future__ import annotations

from array import array
from bisect import insort
from collections.abc import Callable
from time import monotonic
from typing import Final

from rocketmq_store.timer.log import MAGIC_DELETE, MAGIC_DONE, MAGIC_ROLL, TimerLog
from rocketmq_store.timer.wheel import Slot

# A key is due time (ms since the slot's start) and position, in one number.
_POSITION_BITS: Final = 52
_POSITION_MASK: Final = (1 << _POSITION_BITS) - 1
_WALK_STEPS: Final = 64


class ActiveSlot:
    """See the module. `cursor` counts the units that were fired; `recalled` and `used` hold recall keys
    (`placement`)."""

    __slots__ = ("_keys", "_next", "cursor", "end_ms", "is_loaded", "number", "recalled", "start_ms", "used")

    def __init__(self, number: int, precision_ms: int, slot: Slot) -> None:
        self.number = number
        self.start_ms = number * precision_ms
        self.end_ms = self.start_ms + precision_ms
        self._next = slot.last
        self._keys = array("q")
        self.cursor = 0
        self.is_loaded = False
        self.recalled: set[str] = set()
        self.used: set[str] = set()

    def load(self, log: TimerLog, recall_key_at: Callable[[int], str | None], deadline: float) -> bool:
        """Walk on along the chain until it ends (True) or the monotonic time ``deadline`` has come.

        ``recall_key_at`` gives the key in the record of a delete unit at a commit log offset. Raises OSError.
        """
        position, begin, steps = self._next, log.begin, 0
        while position >= begin:
            unit = log.unit(position)
            if unit is None or not unit.is_whole or unit.previous >= position:
                break
            if unit.magic == MAGIC_DONE:
                pass
            elif unit.magic & MAGIC_DELETE and not unit.magic & MAGIC_ROLL:
                key = recall_key_at(unit.offset)
                if key is not None:
                    self.recalled.add(key)
            else:
                self._keys.append(self._key(position, unit.due_ms, unit.magic))
            self._next = position = unit.previous
            steps += 1
            if steps % _WALK_STEPS == 0 and monotonic() > deadline:
                return False
        self._next = -1
        self._keys = array("q", sorted(self._keys))
        self.is_loaded = True
        return True

    def add(self, position: int, due_ms: int, magic: int) -> None:
        """A unit was written to this slot after its loading began."""
        key = self._key(position, due_ms, magic)
        if self.is_loaded:
            insort(self._keys, key, lo=self.cursor)
        else:
            self._keys.append(key)

    @property
    def next_due_ms(self) -> int | None:
        """When the next unit is due; ``None`` when all were fired."""
        if self.cursor >= len(self._keys):
            return None
        return self.start_ms + (self._keys[self.cursor] >> _POSITION_BITS)

    @property
    def position(self) -> int:
        """Position of the next unit, of which there is one."""
        return self._keys[self.cursor] & _POSITION_MASK

    def fired(self) -> list[int]:
        """Positions of the units that were fired."""
        return [key & _POSITION_MASK for key in self._keys[: self.cursor]]

    def _key(self, position: int, due_ms: int, magic: int) -> int:
        width = self.end_ms - self.start_ms
        # Apache's units tell no exact time, and a message that only goes round again can wait until the others are gone.
        after = width if magic & MAGIC_ROLL or not due_ms else min(max(due_ms - self.start_ms, 0), width)
        return after << _POSITION_BITS | position

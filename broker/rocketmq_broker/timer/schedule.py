"""Which slots of the wheel are being worked off: a frontier that moves with time, and the slots behind it that are not done.

Slots before the frontier have been opened. One that gets a message later, because it was nearly due, or the clock was set back, or
the broker was down, waits among the late ones, the oldest first.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import Final

from rocketmq_broker.timer.active_slot import ActiveSlot
from rocketmq_store.timer.wheel import NONE, TimerWheel

# A slot's chain is walked this long before its time.
LEAD_MS: Final = 200
# Slots open at once; more than two only when messages came late for slots gone by.
ACTIVE_MAX: Final = 4
# Slots skipped in one turn when the clock jumped ahead, or the machine slept.
SKIP_MAX: Final = 512


class SlotSchedule:
    """See the module. ``numbers``: slots with content, ascending."""

    def __init__(self, wheel: TimerWheel, precision_ms: int, frontier: int, numbers: Sequence[int]) -> None:
        self._wheel = wheel
        self.precision_ms = precision_ms
        self.frontier = frontier
        self.active: list[ActiveSlot] = []
        # Negated, so that the oldest is at the end.
        self._late = [-number for number in reversed(numbers) if number < frontier]

    @property
    def read(self) -> int:
        """The first slot that is not worked off."""
        late = -self._late[-1] if self._late else self.frontier
        return min([self.frontier, late, *(slot.number for slot in self.active)])

    def is_open(self, number: int) -> bool:
        """Whether a slot is not worked off."""
        return number >= self.frontier or self.find(number) is not None or self._is_late(number)

    def find(self, number: int) -> ActiveSlot | None:
        """The slot, if it is active."""
        for slot in self.active:
            if slot.number == number:
                return slot
        return None

    def reopen(self, number: int) -> None:
        """A slot has a message again."""
        if not self.is_open(number):
            insort(self._late, -number)

    def activate(self, now_ms: int) -> bool:
        """Open the slots whose time comes; True when there are more to look at now."""
        until_ms = now_ms + LEAD_MS
        for _ in range(SKIP_MAX):
            number = -self._late[-1] if self._late else self.frontier
            if number * self.precision_ms > until_ms or len(self.active) >= ACTIVE_MAX:
                return False
            if self._late:
                self._late.pop()
            else:
                self.frontier += 1
            slot = self._wheel.slot(number)
            if slot.last != NONE:
                self.active.append(ActiveSlot(number, self.precision_ms, slot))
                self.active.sort(key=lambda active: active.number)
        return True

    def next_ms(self, now_ms: int) -> int | None:
        """When something is to be done next, in ms; ``None`` when only an active slot's end can tell."""
        times = [slot.end_ms if (due_ms := slot.next_due_ms) is None else due_ms for slot in self.active]
        opening_ms = (-self._late[-1] if self._late else self.frontier) * self.precision_ms - LEAD_MS
        if opening_ms > now_ms:
            times.append(opening_ms)
        return min(times, default=None)

    def _is_late(self, number: int) -> bool:
        place = bisect_left(self._late, -number)
        return place < len(self._late) and self._late[place] == -number

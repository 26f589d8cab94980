"""Before retention removes the old end of the commit log: what still waits there is stored once more at the young end.

The timer log is in the order of the commit log, so one walk along it, which never goes back, finds everything; a part
of it in each turn. A copy counts only once it is flushed; until then its old unit is passed over in memory, then marked
as done on disk.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Final

from rocketmq_broker.filters.record_properties import properties_bytes
from rocketmq_broker.timer.delivery import TimerDelivery
from rocketmq_broker.timer.schedule import SlotSchedule
from rocketmq_store.store import MessageStore
from rocketmq_store.timer.log import MAGIC_DONE, UNIT_SIZE, TimerLog
from rocketmq_store.timer.wheel import NONE, Slot, TimerWheel

# Copies under way at once.
MOVING_MAX: Final = 256
STEPS: Final = 16


class LogRelease:
    """See the module. Used on the loop."""

    def __init__(
        self,
        store: MessageStore,
        wheel: TimerWheel,
        log: TimerLog,
        delivery: TimerDelivery,
        precision_ms: int,
        on_moved: Callable[[bytes], None],
    ) -> None:
        self._store = store
        self._wheel = wheel
        self._log = log
        self._delivery = delivery
        self._precision_ms = precision_ms
        self._on_moved = on_moved
        self._position = log.begin
        self._wanted = 0
        self._released = 0
        self._moved: set[int] = set()
        self._moved_end = 0
        self.moved_nums = 0

    @property
    def is_wanted(self) -> bool:
        """Whether `turn` has something to do."""
        return self._released < self._wanted

    def is_done(self, log_end: int) -> bool:
        """Whether nothing waits below a commit log offset; if not, it is worked on from now on."""
        self._wanted = max(self._wanted, log_end)
        return self._released >= log_end

    def has_moved(self, position: int) -> bool:
        """Whether the message of a unit has a copy that will be fired instead."""
        return position in self._moved

    def turn(self, schedule: SlotSchedule, deadline: float) -> bool:
        """Go on a little; True when there is more to do at once. Raises OSError."""
        if self._moved and not self._settle():
            return False
        log = self._log
        self._position = max(self._position, log.begin)
        for step, (position, unit) in enumerate(log.units_from(self._position), start=1):
            if unit.offset >= self._wanted:
                break
            number = unit.slot_ms // self._precision_ms
            is_waiting = unit.magic != MAGIC_DONE and schedule.is_open(number)
            if is_waiting and number < schedule.frontier:
                # It is being fired; a second later it is done.
                return False
            if is_waiting:
                if len(self._moved) >= MOVING_MAX:
                    self._store.flush()
                    return False
                record = self._store.message_at(unit.offset)
                if record is not None:
                    if not self._delivery.put_again(record, is_urgent=True):
                        return False
                    self._moved.add(position)
                    self._on_moved(properties_bytes(record))
                    self._moved_end = self._store.positions.written
                    self.moved_nums += 1
            self._position = position + UNIT_SIZE
            if step % STEPS == 0 and monotonic() > deadline:
                return True
        if self._moved:
            self._store.flush()
            return False
        self._released = self._wanted
        return False

    def _settle(self) -> bool:
        """Mark the units of flushed copies as done; False when the flush has not come that far."""
        positions = self._store.positions
        if min(positions.flushed, positions.confirmed) < self._moved_end:
            return False
        for position in self._moved:
            unit = self._log.unit(position)
            if unit is None:
                continue
            number = unit.slot_ms // self._precision_ms
            self._log.mark_done(position)
            slot = self._wheel.slot(number)
            if slot.last != NONE:
                self._wheel.put(number, Slot(slot.first, slot.last, slot.waiting - 1))
        self._moved.clear()
        return True

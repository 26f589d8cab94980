"""From the wheel to where messages belong: the units of the active slots, each at its millisecond."""

from __future__ import annotations

import logging
from time import monotonic
from typing import Final

from rocketmq_broker.filters.record_properties import properties_bytes
from rocketmq_broker.settings import BrokerSettings
from rocketmq_broker.timer.active_slot import ActiveSlot
from rocketmq_broker.timer.counters import TimerCounters
from rocketmq_broker.timer.delivery import TimerDelivery
from rocketmq_broker.timer.fields import real_place, timer_fields
from rocketmq_broker.timer.moving import LogRelease
from rocketmq_broker.timer.placement import recall_key
from rocketmq_broker.timer.progress import TimerProgress
from rocketmq_broker.timer.schedule import SlotSchedule
from rocketmq_broker.timer.timing_counts import TimingCounts
from rocketmq_common import names
from rocketmq_common.clock import Clock
from rocketmq_store.store import MessageStore
from rocketmq_store.timer.log import MAGIC_DONE, MAGIC_ROLL, TimerLog

logger = logging.getLogger(__name__)

# How many small steps go between two looks at the clock.
STEPS: Final = 8


class TimerFiring:
    """See the module. ``doubtful_ms``: what was due before that may have been stored by a run that ended badly."""

    def __init__(
        self,
        settings: BrokerSettings,
        store: MessageStore,
        log: TimerLog,
        doubtful_ms: int,
        schedule: SlotSchedule,
        release: LogRelease,
        delivery: TimerDelivery,
        progress: TimerProgress,
        counts: TimingCounts,
        counters: TimerCounters,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._store = store
        self._log = log
        self._doubtful_ms = doubtful_ms
        self._schedule = schedule
        self._release = release
        self._delivery = delivery
        self._progress = progress
        self._counts = counts
        self._counters = counters
        self._clock = clock
        # The store takes nothing now.
        self.is_blocked = False
        # Something went round again; it must be read before later slots are fired, for it may be a recall of what is in them.
        self.has_rolled = False

    def turn(self, deadline: float) -> bool:
        """Fire what is due until the monotonic time ``deadline``; True when more can be done now. Raises OSError."""
        self.is_blocked = self.has_rolled = False
        if self._settings.timer_stop_dequeue:
            return False
        is_more = self._schedule.activate(self._clock.now_ms())
        for slot in self._schedule.active[:]:
            if not slot.is_loaded and not slot.load(self._log, self._recalled_at, deadline):
                return True
            while (due_ms := slot.next_due_ms) is not None:
                now_ms = self._clock.now_ms()
                if due_ms > now_ms:
                    break
                if not self._fire(slot, slot.position, due_ms, now_ms):
                    self.is_blocked = True
                    return False
                slot.cursor += 1
                self._progress.is_dirty = True
                if slot.cursor % STEPS == 0 and monotonic() > deadline:
                    return True
            else:
                if self._clock.now_ms() >= slot.end_ms:
                    self._finish(slot)
                    is_more = True
            if self.has_rolled or monotonic() > deadline:
                return True
        return is_more

    # -- inside ------------------------------------------------------------------------------------------------------

    def _finish(self, slot: ActiveSlot) -> None:
        self._schedule.active.remove(slot)
        for key in slot.recalled - slot.used:
            # It was counted as one less, but there was nothing to take back.
            self._counts.add(key.partition("+")[0], 1)
        self._progress.note_done(slot.number)

    def _fire(self, slot: ActiveSlot, position: int, due_ms: int, now_ms: int) -> bool:
        """Deliver one unit's message, or send it round again; False when the store refuses for now."""
        unit = self._log.unit(position)
        if unit is None or unit.magic == MAGIC_DONE or self._release.has_moved(position):
            return True
        record = self._store.message_at(unit.offset)
        if record is None:
            logger.error("timer message at log offset %d is gone", unit.offset)
            return True
        properties = properties_bytes(record)
        try:
            topic, queue_id = real_place(properties)
        except ValueError as error:
            logger.error("%s: skipped", error)
            return True
        is_doubtful = slot.start_ms <= self._doubtful_ms
        if unit.magic & MAGIC_ROLL:
            is_known = is_doubtful and self._delivery.is_stored_after(names.TIMER_TOPIC, properties, unit.offset)
            if not is_known and not self._delivery.put_again(record):
                return False
            self.has_rolled = True
            self._counts.add(topic, -1 if timer_fields(properties).recalled is None else 1)
            return True
        if slot.recalled and self._is_recalled(slot, topic, properties):
            return True
        if not is_doubtful or not self._delivery.is_stored_after(topic, properties, unit.offset):
            if not self._delivery.deliver(record, properties, topic, queue_id, unit.write_ms, now_ms):
                return False
            self._counters.note_dequeued(topic, now_ms - due_ms)
        self._counts.add(topic, -1)
        return True

    def _is_recalled(self, slot: ActiveSlot, topic: str, properties: bytes) -> bool:
        """Whether the slot holds a recall of this message."""
        unique_key = timer_fields(properties).unique_key
        key = "" if unique_key is None else recall_key(topic, unique_key)
        if key not in slot.recalled:
            return False
        slot.used.add(key)
        self._counters.recalled_nums += 1
        return True

    def _recalled_at(self, offset: int) -> str | None:
        """What the recall at a commit log offset takes back; ``None`` for a unit that was only marked as done."""
        record = self._store.message_at(offset)
        return None if record is None else timer_fields(properties_bytes(record)).recalled

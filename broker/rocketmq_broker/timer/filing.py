"""From the timer topic's queue into the wheel: each message becomes a unit in its slot, the far ones in a slot on the way."""

from __future__ import annotations

import logging
from time import monotonic
from typing import Final

from rocketmq_broker.filters.record_properties import properties_bytes
from rocketmq_broker.settings import BrokerSettings
from rocketmq_broker.timer.counters import TimerCounters
from rocketmq_broker.timer.delivery import TimerDelivery
from rocketmq_broker.timer.fields import timer_fields
from rocketmq_broker.timer.placement import exact_due
from rocketmq_broker.timer.progress import TimerProgress
from rocketmq_broker.timer.schedule import SlotSchedule
from rocketmq_broker.timer.timing_counts import TimingCounts
from rocketmq_common import names
from rocketmq_common.clock import Clock
from rocketmq_common.hashing import java_hash
from rocketmq_store.consume_queues import UNIT, ConsumeQueue
from rocketmq_store.store import MessageStore
from rocketmq_store.timer.log import MAGIC_DEFAULT, MAGIC_DELETE, MAGIC_ROLL, UNIT_SIZE, TimerLog
from rocketmq_store.timer.recovery import TimerStart
from rocketmq_store.timer.wheel import EMPTY, NONE, Slot, TimerWheel

logger = logging.getLogger(__name__)

READ_BATCH: Final = 256
# How many small steps go between two looks at the clock.
STEPS: Final = 8
ROLL_SLOTS_MAX: Final = 604_740


class TimerFiling:
    """Reads on from ``start``. `offset` is the next message of the queue; what stands below
    `held_below` is read before anything is fired."""

    def __init__(
        self,
        settings: BrokerSettings,
        store: MessageStore,
        queue: ConsumeQueue,
        wheel: TimerWheel,
        log: TimerLog,
        start: TimerStart,
        schedule: SlotSchedule,
        delivery: TimerDelivery,
        progress: TimerProgress,
        counts: TimingCounts,
        counters: TimerCounters,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._store = store
        self._queue = queue
        self._wheel = wheel
        self._log = log
        self._start = start
        self._schedule = schedule
        self._delivery = delivery
        self._progress = progress
        self._counts = counts
        self._counters = counters
        self._clock = clock
        self.offset = start.queue_offset
        self.held_below = queue.end
        # The place of a message's slot is still in use, by one of two weeks ago.
        self.is_stuck = False

    @property
    def has_caught_up(self) -> bool:
        """Whether everything was read that the start found: only then is it known what was recalled."""
        return self.is_stuck or self.offset >= min(self.held_below, self._queue.end)

    def hold(self) -> None:
        """Nothing more is to be fired before everything was read that the queue holds now."""
        self.held_below = self._queue.end

    def has_read(self, log_end: int) -> bool:
        """Whether no message below a commit log offset is unread. Raises OSError."""
        queue = self._queue
        if self.offset >= queue.end:
            return True
        return self.offset >= queue.min_offset and queue.unit(self.offset)[0] >= log_end

    def turn(self, deadline: float) -> bool:
        """Read on until the monotonic time ``deadline``; True when there is more to read now. Raises OSError."""
        self.is_stuck = False
        if self._settings.timer_stop_enqueue:
            return False
        queue = self._queue
        steps = 0
        while self.offset < queue.end:
            if self.offset < queue.min_offset:
                logger.error("timer messages %d to %d are gone from the log", self.offset, queue.min_offset)
                self.offset = queue.min_offset
                continue
            for place, size, _ in UNIT.iter_unpack(bytes(queue.units_from(self.offset, READ_BATCH))):
                if not self._take(place, size):
                    self.is_stuck = True
                    return False
                self.offset += 1
                steps += 1
                if steps % STEPS == 0 and monotonic() > deadline:
                    return self.offset < queue.end
        return False

    # -- inside ------------------------------------------------------------------------------------------------------

    def _take(self, place: int, size: int) -> bool:
        """Put one message into its slot; False when the slot's place is in use."""
        record = self._store.message_at(place)
        if record is None:
            logger.error("timer message at log offset %d is gone", place)
            return True
        properties = properties_bytes(record)
        fields = timer_fields(properties)
        topic = fields.topic
        if fields.out is None or not fields.out.isdecimal() or topic is None:
            logger.error("message at log offset %d of the timer topic has no time or topic to go to: skipped", place)
            return True
        precision_ms, schedule = self._schedule.precision_ms, self._schedule
        out_ms = int(fields.out)
        number, due_ms = out_ms // precision_ms, exact_due(out_ms, fields.deliver, precision_ms)
        if self._is_known(number, properties, place):
            return True
        write_ms = min(self._clock.now_ms() // precision_ms * precision_ms, out_ms)
        magic = MAGIC_DEFAULT
        window_ms = self._roll_window_ms()
        if out_ms - write_ms >= window_ms:
            magic |= MAGIC_ROLL
            # As Apache: a short rest gets half a window now, so that the last round is not a short one.
            out_ms = write_ms + (window_ms // 2 if out_ms - write_ms - window_ms < window_ms // 3 else window_ms)
            number, due_ms = out_ms // precision_ms, 0
        if fields.recalled is not None:
            magic |= MAGIC_DELETE
            if not schedule.is_open(number) and self.offset >= self.held_below:
                # Its message was fired already.
                return True
        occupant = self._wheel.occupant(number)
        if occupant != number and schedule.is_open(occupant):
            return False
        # A slot that was worked off keeps its chain until the flush; a message that comes late begins another one.
        slot = EMPTY if self._progress.forget_done(number) else self._wheel.slot(number)
        position = self._log.append(
            slot.last, magic, write_ms, out_ms - write_ms, place, size, java_hash(topic), due_ms
        )  # fmt: skip
        change = -1 if fields.recalled is not None else 1
        first = position if slot.first == NONE else slot.first
        self._wheel.put(number, Slot(first, position, slot.waiting + change))
        active = schedule.find(number)
        if active is None:
            schedule.reopen(number)
        elif fields.recalled is not None and not magic & MAGIC_ROLL:
            active.recalled.add(fields.recalled)
        else:
            active.add(self._log.end - UNIT_SIZE, due_ms, magic)
        self._counts.add(topic, change)
        self._counters.note_enqueued(topic)
        self._progress.is_dirty = True
        return True

    def _is_known(self, number: int, properties: bytes, place: int) -> bool:
        """Whether an earlier run had done with a message: delivered it, or put a younger copy into the queue."""
        start = self._start
        if self.offset >= start.doubtful_to:
            return False
        if start.is_rebuilt and number < start.read and self.offset < start.known_to:
            return True
        return self._delivery.is_stored_after(names.TIMER_TOPIC, properties, place)

    def _roll_window_ms(self) -> int:
        slots = self._settings.timer_roll_window_slot
        return (slots if 2 <= slots <= ROLL_SLOTS_MAX else ROLL_SLOTS_MAX) * self._schedule.precision_ms

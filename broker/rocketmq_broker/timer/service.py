"""The timer service: reads the timer topic into the wheel, and fires what is due, to the millisecond.

Everything happens in turns of at most a millisecond or two on the event loop: first the queue is read, so that a recall
is known before the message that it takes back is fired; then the slots whose time has come are worked off in the order
of due times. Slots before `_frontier` have been opened; those that got a message later wait in `_late`. Syncs and the
checkpoint are on the I/O thread, and never ahead of the flushed log (`timer.progress`).
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_left, insort
from collections.abc import Iterator
from concurrent.futures import Executor
from pathlib import Path
from random import random
from time import monotonic
from typing import Final

from rocketmq_broker.filters.record_properties import PropertyReader, properties_bytes
from rocketmq_broker.settings import BrokerSettings
from rocketmq_broker.statistics import BrokerStatistics
from rocketmq_broker.timer.active_slot import ActiveSlot
from rocketmq_broker.timer.counters import TimerCounters
from rocketmq_broker.timer.delivery import TimerDelivery
from rocketmq_broker.timer.moving import LogRelease
from rocketmq_broker.timer.placement import TIMER_QUEUE_ID, exact_due, precision_of, recall_key
from rocketmq_broker.timer.progress import TimerProgress
from rocketmq_broker.timer.timing_counts import TimingCounts
from rocketmq_common import names
from rocketmq_common.clock import Clock
from rocketmq_common.files import FileSystem
from rocketmq_common.hashing import java_hash
from rocketmq_common.properties import (
    PROPERTY_REAL_TOPIC,
    PROPERTY_TIMER_DEL_UNIQUE_KEY,
    PROPERTY_TIMER_DELIVER_MS,
    PROPERTY_TIMER_OUT_MS,
    PROPERTY_UNIQUE_KEY,
)
from rocketmq_store.consume_queues import UNIT, ConsumeQueue
from rocketmq_store.store import MessageStore
from rocketmq_store.timer.checkpoint import TimerCheckpoint
from rocketmq_store.timer.log import MAGIC_DEFAULT, MAGIC_DELETE, MAGIC_DONE, MAGIC_ROLL, TimerLog, Unit
from rocketmq_store.timer.recovery import TimerStart, files_exist, recover
from rocketmq_store.timer.wheel import NONE, Slot, TimerWheel

logger = logging.getLogger(__name__)

# One turn of the loop: bounds how long sends wait behind a burst that is due at once.
TURN_S: Final = 0.0015
# How many small steps go between two looks at the clock.
STEPS: Final = 8
READ_BATCH: Final = 256
# A slot's chain is walked this long before its time.
LEAD_MS: Final = 200
# Slots open at once; more than two only when messages came late for slots gone by.
ACTIVE_MAX: Final = 4
RETRY_S: Final = 0.1
TIMER_S_MAX: Final = 1.0
# Slots skipped in one turn when the clock jumped ahead, or the machine slept.
SKIP_MAX: Final = 512
ROLL_SLOTS_MAX: Final = 604_740
_FIELDS: Final = PropertyReader(
    (
        PROPERTY_TIMER_OUT_MS,
        PROPERTY_TIMER_DELIVER_MS,
        PROPERTY_REAL_TOPIC,
        PROPERTY_UNIQUE_KEY,
        PROPERTY_TIMER_DEL_UNIQUE_KEY,
    )
)


class TimerService:
    """See the module. `load`, then `start` (only a broker that takes messages), `stop`, and `finish` once the store is
    closed."""

    def __init__(
        self,
        settings: BrokerSettings,
        store: MessageStore,
        statistics: BrokerStatistics,
        files: FileSystem,
        directory: Path,
        clock: Clock,
        executor: Executor,
    ) -> None:
        self._settings = settings
        self._store = store
        self._files = files
        self._clock = clock
        self._executor = executor
        self._loop = asyncio.get_running_loop()
        self._root = Path(store.settings.root)
        self.precision_ms = precision_of(settings.timer_precision_ms)
        self.counters = TimerCounters()
        self.counts = TimingCounts(files, directory, clock, executor)
        self.progress = TimerProgress(files, directory, store.positions, store.flush, clock, executor, self.counts)
        self._delivery = TimerDelivery(store, statistics)
        self._start = TimerStart(read=0, queue_offset=0)
        self._queue: ConsumeQueue | None = None
        self._wheel: TimerWheel | None = None
        self._log: TimerLog | None = None
        self._release: LogRelease | None = None
        self._opening: asyncio.Task[None] | None = None
        self._offset = 0
        # Below it the queue is read before anything is fired: a recall may stand behind its message.
        self._held_below = 0
        self._frontier = 0
        # Negated, so that the oldest is at the end.
        self._late: list[int] = []
        self._active: list[ActiveSlot] = []
        self._is_running = False
        self._is_unclean = False
        self._is_blocked = False
        self._is_stuck = False
        self._is_soon = False
        self._handle: asyncio.Handle | asyncio.TimerHandle | None = None
        self._problem = ""

    # -- life --------------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Read checkpoint and counts; blocking. Raises TableError, OSError."""
        if self._settings.timer_wheel_enable:
            self.counts.load()
            self.progress.load()

    async def start(self, *, is_unclean: bool) -> None:
        """Go on where the files say; without files and messages they wait for the first message.

        Raises OSError, StoreError.
        """
        if not self._settings.timer_wheel_enable:
            return
        queue = self._queue = self._store.queue(names.TIMER_TOPIC, TIMER_QUEUE_ID)
        self._is_unclean = is_unclean
        self._is_running = True
        if queue.end > queue.min_offset or files_exist(self._files, self._root):
            await self._open(is_new=False)
        else:
            self._offset = queue.end
        queue.watcher = self._note_arrival
        self._wake()

    def stop(self) -> None:
        """Read and fire nothing more."""
        self._is_running = False
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._is_soon = False
        if self._queue is not None and self._queue.watcher == self._note_arrival:
            self._queue.watcher = None

    async def finish(self, *, is_flushed: bool = True) -> None:
        """Write down the progress of now, and close; ``is_flushed`` when the store is closed already.

        Raises OSError.
        """
        if self._opening is not None:
            await asyncio.wait([self._opening])
            self._opening = None
        wheel, log = self._wheel, self._log
        if wheel is None or log is None:
            return
        self._wheel = self._log = self._release = None
        try:
            # What a slot half worked off has delivered must not come again, whichever broker opens the store.
            for slot in self._active:
                for position in slot.fired():
                    log.mark_done(position)
            await self.progress.save(wheel, log, self._checkpoint(log.end), is_flushed=is_flushed)
        finally:
            self._active.clear()
            self._late.clear()
            wheel.close()
            log.close()

    async def save(self) -> None:
        """Write down the progress of now, once the log is flushed that far. Raises OSError."""
        wheel, log = self._wheel, self._log
        if wheel is not None and log is not None and self._is_running and self.progress.is_dirty:
            await self.progress.save(wheel, log, self._checkpoint(log.end), is_flushed=False)
            expired = log.take_expired(self._store.log_min_offset) if self._log is log else []
            for path in expired:
                await self._loop.run_in_executor(self._executor, self._files.remove, path)

    async def adopt(self, checkpoint: TimerCheckpoint) -> None:
        """Take the progress of this broker's master; only while nothing is fired here. Raises OSError."""
        if not self._is_running and self._settings.timer_wheel_enable:
            await self.progress.adopt(checkpoint, self._root)

    # -- what others ask ---------------------------------------------------------------------------------------------

    def may_remove(self, log_end: int) -> bool:
        """Whether the commit log below an offset may go. If not, the messages that wait there are on their way out."""
        if self._release is None or self._queue is None or not self._is_running:
            return True
        queue = self._queue
        if self._offset < queue.end and (self._offset < queue.min_offset or queue.unit(self._offset)[0] < log_end):
            return False
        if self._release.is_done(log_end):
            return True
        self._wake()
        return False

    def is_congested(self, out_ms: int) -> bool:
        """Whether to turn a message away: by chance above `timerCongestNumEachSlot` in its slot, surely above twice it."""
        limit = self._settings.timer_congest_num_each_slot
        count = 0 if self._wheel is None else self._wheel.slot(out_ms // self.precision_ms).waiting
        return count > limit and random() * limit < count - limit

    def checkpoint(self) -> TimerCheckpoint:
        """Progress of now, as slaves and tools ask for it."""
        return self._checkpoint(self._log.end) if self._log is not None else self.progress.saved

    @property
    def unread_count(self) -> int:
        """Messages of the timer topic that are not in the wheel yet."""
        return 0 if self._queue is None else max(self._queue.end - max(self._offset, self._queue.min_offset), 0)

    @property
    def behind_ms(self) -> int:
        """How long the oldest slot that is not worked off should have been."""
        if self._wheel is None:
            return 0
        return max(self._clock.now_ms() - (self._read() + 1) * self.precision_ms, 0)

    def slots_ahead(self, count_max: int) -> Iterator[int]:
        """Messages in each slot from now on."""
        wheel, number = self._wheel, self._clock.now_ms() // self.precision_ms
        for ahead in range(count_max if wheel is not None else 0):
            assert wheel is not None
            yield max(wheel.slot(number + ahead).waiting, 0)

    # -- opening -----------------------------------------------------------------------------------------------------

    async def _open(self, *, is_new: bool) -> None:
        queue, store = self._queue, self._store
        assert queue is not None
        positions = store.positions
        span, checkpoint = (queue.min_offset, queue.end), None if is_new else self.progress.found

        def open_files() -> tuple[TimerWheel, TimerLog, TimerStart, list[int]]:
            wheel, log, start = recover(
                self._files, self._root, store.settings.timer_log_segment_size, checkpoint,
                queue_span=span, precision_ms=self.precision_ms, log_end=positions.written,
                store_timestamp_ms=positions.store_timestamp_ms, is_unclean=self._is_unclean,
            )  # fmt: skip
            return wheel, log, start, sorted(wheel.numbers(start.read))

        wheel, log, start, numbers = await self._loop.run_in_executor(self._executor, open_files)
        if start.note and not is_new:
            logger.warning("timer wheel: %s", start.note)
        frontier = self._clock.now_ms() // self.precision_ms
        if is_new:
            start = TimerStart(read=frontier, queue_offset=self._offset)
        elif start.unit_offset >= 0:
            start.queue_offset = max(start.queue_offset, queue.first_at_or_after(start.unit_offset + 1))
        if start.rebuild_to > start.queue_offset:
            self.counts.clear()
        self._wheel, self._log, self._start = wheel, log, start
        self._release = LogRelease(store, wheel, log, self._delivery, self.precision_ms, self._note_moved)
        self._offset, self._held_below = start.queue_offset, queue.end
        self._frontier = frontier
        self._late = [-number for number in reversed(numbers) if number < frontier]
        self.progress.version = self.progress.saved.version

    def _open_later(self) -> None:
        """The first timer message ever: files of tens of megabytes are made off the loop."""
        if self._opening is None:
            self._opening = self._loop.create_task(self._open_then_wake())

    async def _open_then_wake(self) -> None:
        try:
            await self._open(is_new=True)
        except OSError as error:
            self._note_problem(error)
            await asyncio.sleep(RETRY_S)
        self._opening = None
        self._wake()

    # -- turns -------------------------------------------------------------------------------------------------------

    def _note_arrival(self, _: ConsumeQueue, __: int, ___: int, ____: int, _____: int) -> None:
        # Called from inside the append, which a delivery would enter again.
        if not self._is_soon:
            self._wake()

    def _wake(self) -> None:
        if self._is_running and not self._is_soon:
            if self._handle is not None:
                self._handle.cancel()
            self._is_soon = True
            self._handle = self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._handle, self._is_soon, self._is_blocked, self._is_stuck = None, False, False, False
        queue, log = self._queue, self._log
        if not self._is_running or queue is None:
            return
        if log is None:
            if self._offset < queue.end:
                self._open_later()
            return
        deadline = monotonic() + TURN_S
        try:
            is_more = self._read_queue(queue, log, deadline)
            if self._is_stuck or self._offset >= min(self._held_below, queue.end):
                is_more = self._fire_due(log, deadline) or is_more
            if self._release is not None and self._release.is_wanted:
                is_more = self._release.turn(self._is_open, self._frontier, deadline) or is_more
        except OSError as error:
            self._note_problem(error)
            self._is_blocked = True
        else:
            self._problem = self._problem if self._is_blocked else ""
        if self._is_blocked or (self._is_stuck and not is_more):
            self._handle = self._loop.call_later(RETRY_S, self._turn)
        elif is_more:
            self._wake()
        else:
            self._handle = self._loop.call_later(self._pause_s(), self._turn)

    def _pause_s(self) -> float:
        now_ms = self._clock.now_ms()
        next_ms = (-self._late[-1] if self._late else self._frontier) * self.precision_ms - LEAD_MS
        if next_ms <= now_ms:
            # No place for another slot: the next event is one of an open slot.
            next_ms = now_ms + int(TIMER_S_MAX * 1000)
        for slot in self._active:
            due_ms = slot.next_due_ms
            next_ms = min(next_ms, slot.end_ms if due_ms is None else due_ms)
        return min(max(next_ms - now_ms, 1) / 1000, TIMER_S_MAX)

    def _note_problem(self, error: OSError) -> None:
        if str(error) != self._problem:
            self._problem = str(error)
            logger.error("timer messages have to wait: %s", error)

    # -- from the queue into the wheel -------------------------------------------------------------------------------

    def _read_queue(self, queue: ConsumeQueue, log: TimerLog, deadline: float) -> bool:
        """Read on; True when there is more to read now."""
        if self._settings.timer_stop_enqueue:
            return False
        steps = 0
        while self._offset < queue.end:
            if self._offset < queue.min_offset:
                logger.error("timer messages %d to %d are gone from the log", self._offset, queue.min_offset)
                self._offset = queue.min_offset
                continue
            for place, size, _ in UNIT.iter_unpack(bytes(queue.units_from(self._offset, READ_BATCH))):
                if not self._take(log, place, size):
                    self._is_stuck = True
                    return False
                self._offset += 1
                steps += 1
                if steps % STEPS == 0 and monotonic() > deadline:
                    return self._offset < queue.end
        return False

    def _take(self, log: TimerLog, place: int, size: int) -> bool:
        """Put one message into its slot; False when that slot's place is still in use by another one."""
        record = self._store.message_at(place)
        if record is None:
            logger.error("timer message at log offset %d is gone", place)
            return True
        properties = properties_bytes(record)
        out, deliver, topic, _, recalled = _FIELDS.values(properties)
        if out is None or not out.isdecimal() or topic is None:
            logger.error("message at log offset %d of the timer topic has no time or topic to go to: skipped", place)
            return True
        out_ms = int(out)
        number, due_ms = out_ms // self.precision_ms, exact_due(out_ms, deliver, self.precision_ms)
        start = self._start
        if self._offset < start.rebuild_to and (
            (number < start.read and self._offset < start.known_to)
            or self._delivery.is_stored_after(names.TIMER_TOPIC, properties, place)
        ):
            return True
        now_ms = self._clock.now_ms()
        write_ms = min(now_ms // self.precision_ms * self.precision_ms, out_ms)
        magic = MAGIC_DEFAULT
        window_ms = self._roll_window_ms()
        if out_ms - write_ms >= window_ms:
            magic |= MAGIC_ROLL
            # As Apache: a short rest gets half a window now, so that the last round is not a short one.
            out_ms = write_ms + (window_ms // 2 if out_ms - write_ms - window_ms < window_ms // 3 else window_ms)
            number, due_ms = out_ms // self.precision_ms, 0
        if recalled is not None:
            magic |= MAGIC_DELETE
            if not self._is_open(number) and self._offset >= self._held_below:
                # Its message was fired already.
                return True
        if not self._file(log, number, magic, write_ms, out_ms, place, size, topic, due_ms):
            return False
        for slot in self._active:
            if slot.number == number:
                if magic & MAGIC_ROLL or recalled is None:
                    slot.add(log.end - log.unit_size, due_ms, magic)
                else:
                    slot.recalled.add(recalled)
        self.counts.add(topic, -1 if recalled is not None else 1)
        self.counters.note_enqueued(topic)
        return True

    def _file(
        self,
        log: TimerLog,
        number: int,
        magic: int,
        write_ms: int,
        out_ms: int,
        place: int,
        size: int,
        topic: str,
        due_ms: int,
    ) -> bool:
        """Write the unit and chain it to its slot; False when the slot's place is in use."""
        wheel = self._wheel
        assert wheel is not None
        occupant = wheel.occupant(number)
        if occupant != number and self._is_open(occupant):
            return False
        # A slot that was worked off keeps its chain until the flush; a message that comes late begins another one.
        slot = Slot(NONE, NONE, 0) if self.progress.forget_done(number) else wheel.slot(number)
        position = log.append(
            slot.last, magic, write_ms, out_ms - write_ms, place, size, java_hash(topic), due_ms
        )  # fmt: skip
        change = -1 if magic & MAGIC_DELETE else 1
        wheel.put(number, Slot(position if slot.first == NONE else slot.first, position, slot.waiting + change))
        self.progress.is_dirty = True
        if not self._is_open(number):
            insort(self._late, -number)
        return True

    def _roll_window_ms(self) -> int:
        slots = self._settings.timer_roll_window_slot
        return (slots if 2 <= slots <= ROLL_SLOTS_MAX else ROLL_SLOTS_MAX) * self.precision_ms

    # -- from the wheel to where they belong -------------------------------------------------------------------------

    def _is_open(self, number: int) -> bool:
        """Whether a slot is not worked off."""
        if number >= self._frontier or any(slot.number == number for slot in self._active):
            return True
        place = bisect_left(self._late, -number)
        return place < len(self._late) and self._late[place] == -number

    def _read(self) -> int:
        """The first slot that is not worked off."""
        late = -self._late[-1] if self._late else self._frontier
        return min([self._frontier, late, *(slot.number for slot in self._active)])

    def _fire_due(self, log: TimerLog, deadline: float) -> bool:
        """Fire what is due; True when something more can be done now."""
        if self._settings.timer_stop_dequeue:
            return False
        is_more = self._activate()
        for slot in self._active[:]:
            if not slot.is_loaded and not slot.load(log, self._recall_key_at, deadline):
                return True
            while (due_ms := slot.next_due_ms) is not None:
                now_ms = self._clock.now_ms()
                if due_ms > now_ms:
                    break
                if not self._fire(log, slot, slot.position, due_ms, now_ms):
                    self._is_blocked = True
                    return False
                slot.cursor += 1
                self.progress.is_dirty = True
                if slot.cursor % STEPS == 0 and monotonic() > deadline:
                    return True
            else:
                if self._clock.now_ms() >= slot.end_ms:
                    self._finish(slot)
                    is_more = True
            if monotonic() > deadline:
                return True
        return is_more

    def _activate(self) -> bool:
        """Open the slots whose time comes; True when there are more to look at now."""
        wheel = self._wheel
        assert wheel is not None
        until_ms = self._clock.now_ms() + LEAD_MS
        for _ in range(SKIP_MAX):
            is_late = bool(self._late)
            number = -self._late[-1] if is_late else self._frontier
            if number * self.precision_ms > until_ms or len(self._active) >= ACTIVE_MAX:
                return False
            if is_late:
                self._late.pop()
            else:
                self._frontier += 1
            slot = wheel.slot(number)
            if slot.last != NONE:
                self._active.append(ActiveSlot(number, self.precision_ms, slot))
                self._active.sort(key=lambda active: active.number)
        return True

    def _finish(self, slot: ActiveSlot) -> None:
        self._active.remove(slot)
        for key in slot.recalled - slot.used:
            # It was counted as one less, but there was nothing to take back.
            self.counts.add(key.partition("+")[0], 1)
        self.progress.note_done(slot.number)

    def _fire(self, log: TimerLog, slot: ActiveSlot, position: int, due_ms: int, now_ms: int) -> bool:
        """Deliver one unit's message, or send it round again; False when the store refuses for now."""
        unit = log.unit(position)
        if (
            unit is None
            or unit.magic == MAGIC_DONE
            or (self._release is not None and self._release.has_moved(position))
        ):
            return True
        record = self._store.message_at(unit.offset)
        if record is None:
            logger.error("timer message at log offset %d is gone", unit.offset)
            return True
        properties = properties_bytes(record)
        _, __, topic, unique_key, ___ = _FIELDS.values(properties)
        topic = topic or ""
        is_rolled = bool(unit.magic & MAGIC_ROLL)
        if slot.recalled and unique_key is not None and not is_rolled:
            key = recall_key(topic, unique_key)
            if key in slot.recalled:
                slot.used.add(key)
                self.counters.recalled_nums += 1
                return True
        if not self._is_doubtful(slot, topic, properties, unit):
            is_stored = (
                self._delivery.put_again(record)
                if is_rolled
                else self._delivery.deliver(record, properties, unit.write_ms, now_ms)
            )
            if not is_stored:
                return False
            if not is_rolled:
                self.counters.note_dequeued(topic, now_ms - due_ms)
        self.counts.add(topic, -1)
        return True

    def _is_doubtful(self, slot: ActiveSlot, topic: str, properties: bytes, unit: Unit) -> bool:
        """Whether a run that ended badly had stored the message already."""
        if slot.start_ms > self._start.doubtful_ms:
            return False
        target = names.TIMER_TOPIC if unit.magic & MAGIC_ROLL else topic
        return self._delivery.is_stored_after(target, properties, unit.offset)

    def _note_moved(self, properties: bytes) -> None:
        """A waiting message was stored anew, and will be counted again when it is read."""
        _, __, topic, ___, recalled = _FIELDS.values(properties)
        self.counts.add(topic or "", 1 if recalled is not None else -1)

    def _recall_key_at(self, offset: int) -> str | None:
        record = self._store.message_at(offset)
        return None if record is None else _FIELDS.values(properties_bytes(record))[4]

    def _checkpoint(self, log_end: int) -> TimerCheckpoint:
        return TimerCheckpoint(
            read_ms=self._read() * self.precision_ms,
            log_position=log_end,
            queue_offset=self._offset,
            master_queue_offset=self._offset,
            version=self.progress.version,
            precision_ms=self.precision_ms,
            is_own=True,
        )

"""The timer service: reads the timer topic into the wheel (`filing`), and fires what is due, to the millisecond (`firing`).

Everything happens in turns of at most a millisecond or two on the event loop: first the queue is read, so that a recall is known
before the message that it takes back is fired; then the slots whose time has come are worked off in the order of due times. Syncs
and the checkpoint are on the I/O thread, and never ahead of the flushed log (`progress`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from concurrent.futures import Executor
from pathlib import Path
from random import random
from time import monotonic
from typing import Final, NamedTuple

from rocketmq_broker.filters.record_properties import properties_bytes
from rocketmq_broker.settings import BrokerSettings
from rocketmq_broker.statistics import BrokerStatistics
from rocketmq_broker.timer.counters import TimerCounters
from rocketmq_broker.timer.delivery import TimerDelivery
from rocketmq_broker.timer.fields import timer_fields
from rocketmq_broker.timer.filing import TimerFiling
from rocketmq_broker.timer.firing import TimerFiring
from rocketmq_broker.timer.master_span import MasterSpan
from rocketmq_broker.timer.moving import LogRelease
from rocketmq_broker.timer.placement import TIMER_QUEUE_ID, precision_of
from rocketmq_broker.timer.progress import TimerProgress
from rocketmq_broker.timer.schedule import SlotSchedule
from rocketmq_broker.timer.timing_counts import TimingCounts
from rocketmq_common import names
from rocketmq_common.clock import Clock
from rocketmq_common.files import FileSystem
from rocketmq_store.consume_queues import ConsumeQueue
from rocketmq_store.store import MessageStore
from rocketmq_store.timer.checkpoint import TimerCheckpoint
from rocketmq_store.timer.log import MAGIC_ROLL, TimerLog, Unit
from rocketmq_store.timer.recovery import TimerStart, discard_files, files_exist, recover
from rocketmq_store.timer.wheel import TimerWheel

logger = logging.getLogger(__name__)

# One turn of the loop: bounds how long sends wait behind a burst that is due at once.
TURN_S: Final = 0.0015
RETRY_S: Final = 0.1
# Longest single timer; a clock that is set meanwhile is noticed after it.
TIMER_S_MAX: Final = 1.0


class _Work(NamedTuple):
    """What exists while the files are open."""

    wheel: TimerWheel
    log: TimerLog
    schedule: SlotSchedule
    filing: TimerFiling
    firing: TimerFiring
    release: LogRelease


class TimerService:
    """See the module. `load`, then `start` (only a broker that takes messages), `stop`, and `finish` once the store is closed."""

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
        self._queue: ConsumeQueue | None = None
        self._work: _Work | None = None
        self._opening: asyncio.Task[None] | None = None
        # Where the queue began when there were no files yet.
        self._first_offset = 0
        self._is_running = False
        self._is_unclean = False
        self._is_soon = False
        self._handle: asyncio.Handle | asyncio.TimerHandle | None = None
        self._problem = ""
        self._master_span = MasterSpan()

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
            await self._open(queue, is_new=False)
        else:
            self._first_offset = queue.end
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
        """Write down the progress of now, and close; ``is_flushed`` when the store is closed already. Raises OSError."""
        if self._opening is not None:
            await asyncio.wait([self._opening])
            self._opening = None
        work, self._work = self._work, None
        if work is None:
            return
        try:
            # What a slot half worked off has delivered must not come again, whichever broker opens the store.
            for slot in work.schedule.active:
                for position in slot.fired():
                    work.log.mark_done(position)
            await self.progress.save(work.wheel, work.log, self._checkpoint(work), is_flushed=is_flushed)
        finally:
            work.wheel.close()
            work.log.close()

    async def save(self) -> None:
        """Write down the progress of now, once the log is flushed that far. Raises OSError."""
        work = self._work
        self.counters.sample(self._clock.monotonic())
        if work is None or not self._is_running or not self.progress.is_dirty:
            return
        await self.progress.save(work.wheel, work.log, self._checkpoint(work), is_flushed=False)
        for path in work.log.take_expired(self._store.log_min_offset) if self._work is work else ():
            await self._loop.run_in_executor(self._executor, self._files.remove, path)

    async def adopt(self, checkpoint: TimerCheckpoint) -> None:
        """Take the progress of this broker's master; only while nothing is fired here. Raises OSError."""
        if not self._is_running and self._settings.timer_wheel_enable:
            await self.progress.adopt(checkpoint, self._root)

    def note_master_log(self, min_offset: int, end_offset: int) -> None:
        """What the log of this broker's master spans."""
        self._master_span.released(self._store.positions.written)
        self._master_span.note(min_offset, end_offset)

    def forget_topic(self, topic: str) -> None:
        """The topic was deleted."""
        self.counters.forget_topic(topic)

    # -- what others ask ---------------------------------------------------------------------------------------------

    def may_remove(self, log_end: int) -> bool:
        """Whether the commit log below an offset may go. If not, the messages that wait there are on their way out."""
        work = self._work
        if not self._is_running:
            # A slave: what waits is its master's to move, and this broker may have to take over.
            return not self._settings.timer_wheel_enable or self._is_free_at_master(log_end)
        if work is None:
            return True
        is_free = work.release.is_done(log_end) and work.filing.has_read(log_end)
        if not is_free:
            self._wake()
        return is_free

    def is_congested(self, out_ms: int) -> bool:
        """Whether to turn a message away: by chance above `timerCongestNumEachSlot` in its slot, surely above twice it."""
        limit = self._settings.timer_congest_num_each_slot
        count = 0 if self._work is None else self._work.wheel.slot(out_ms // self.precision_ms).waiting
        return count > limit and random() * limit < count - limit

    def checkpoint(self) -> TimerCheckpoint:
        """Progress of now, as slaves and tools ask for it."""
        return self.progress.saved if self._work is None else self._checkpoint(self._work)

    @property
    def unread_count(self) -> int:
        """Messages of the timer topic that are not in the wheel yet."""
        if self._queue is None:
            return 0
        offset = self._first_offset if self._work is None else self._work.filing.offset
        return max(self._queue.end - max(offset, self._queue.min_offset), 0)

    @property
    def unread_ms(self) -> int:
        """Age in ms of the oldest of them."""
        if self._queue is None or not self.unread_count:
            return 0
        stored_ms = self._store.store_time(names.TIMER_TOPIC, TIMER_QUEUE_ID, self._queue.end - self.unread_count)
        return max(self._clock.now_ms() - stored_ms, 0) if stored_ms > 0 else 0

    @property
    def overdue_count(self) -> int:
        """Messages in the oldest slot, if it should have been worked off."""
        return (
            self._work.wheel.slot(self._work.schedule.read).waiting if self._work is not None and self.behind_ms else 0
        )

    @property
    def moved_count(self) -> int:
        """Messages stored anew because retention took their segment of the log."""
        return 0 if self._work is None else self._work.release.moved_nums

    @property
    def behind_ms(self) -> int:
        """For how long the oldest slot should have been worked off."""
        if self._work is None:
            return 0
        return max(self._clock.now_ms() - (self._work.schedule.read + 1) * self.precision_ms, 0)

    def slots_ahead(self, count_max: int) -> Iterator[int]:
        """Messages in each slot from now on."""
        number = self._clock.now_ms() // self.precision_ms
        for ahead in range(count_max):
            yield 0 if self._work is None else max(self._work.wheel.slot(number + ahead).waiting, 0)

    def _is_free_at_master(self, log_end: int) -> bool:
        store = self._store
        if store.queue_bounds(names.TIMER_TOPIC, TIMER_QUEUE_ID) is None:
            return True
        queue = store.queue(names.TIMER_TOPIC, TIMER_QUEUE_ID)
        first = queue.first_at_or_after(store.log_min_offset)
        if first >= queue.end or queue.unit(first)[0] >= log_end:
            return True
        return log_end <= self._master_span.released(store.positions.written)

    # -- opening -----------------------------------------------------------------------------------------------------

    async def _open(self, queue: ConsumeQueue, *, is_new: bool) -> None:
        store, positions = self._store, self._store.positions
        span, checkpoint = (queue.min_offset, queue.end), None if is_new else self.progress.found

        def open_files() -> tuple[TimerWheel, TimerLog, TimerStart, list[int]]:
            wheel, log, start = recover(
                self._files, self._root, store.settings.timer_log_segment_size, checkpoint,
                queue_span=span, precision_ms=self.precision_ms, log_end=positions.written,
                store_timestamp_ms=positions.store_timestamp_ms, is_unclean=self._is_unclean,
            )  # fmt: skip
            return wheel, log, start, sorted(wheel.numbers(start.read))

        wheel, log, start, numbers = await self._loop.run_in_executor(self._executor, open_files)
        if start.last is not None and not self._is_of(start.last):
            # The commit log was cut, and went on another way: what the files point at is not what they were told.
            wheel.close()
            log.close()
            checkpoint = TimerCheckpoint(read_ms=start.read * self.precision_ms, master_queue_offset=start.queue_offset)
            await self._loop.run_in_executor(self._executor, discard_files, self._files, self._root)
            wheel, log, start, numbers = await self._loop.run_in_executor(self._executor, open_files)
        frontier = self._clock.now_ms() // self.precision_ms
        if is_new:
            start = TimerStart(read=frontier, queue_offset=self._first_offset)
        elif start.last is not None:
            start.queue_offset = max(start.queue_offset, queue.first_at_or_after(start.last.offset + 1))
        if start.note:
            logger.warning("timer wheel: %s", start.note)
        if start.is_rebuilt:
            self.counts.clear()
        schedule = SlotSchedule(wheel, self.precision_ms, frontier, numbers)
        release = LogRelease(store, wheel, log, self._delivery, self.precision_ms, self._note_moved)
        filing = TimerFiling(
            self._settings, store, queue, wheel, log, start, schedule, self._delivery, self.progress, self.counts,
            self.counters, self._clock,
        )  # fmt: skip
        firing = TimerFiring(
            self._settings, store, log, start.doubtful_ms, schedule, release, self._delivery, self.progress, self.counts,
            self.counters, self._clock,
        )  # fmt: skip
        self._work = _Work(wheel, log, schedule, filing, firing, release)

    def _is_of(self, unit: Unit) -> bool:
        """Whether a unit's record is the timer message that it was made for, or older than the log."""
        record = self._store.message_at(unit.offset)
        if record is None:
            return unit.offset < self._store.log_min_offset
        out = timer_fields(properties_bytes(record)).out
        if out is None or len(record) != unit.record_size:
            return False
        return bool(unit.magic & MAGIC_ROLL) or out == str(unit.slot_ms)

    async def _open_then_wake(self, queue: ConsumeQueue) -> None:
        """The first timer message ever: files of tens of megabytes are made off the loop."""
        try:
            await self._open(queue, is_new=True)
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
        self._handle, self._is_soon = None, False
        queue, work = self._queue, self._work
        if not self._is_running or queue is None:
            return
        if work is None:
            if self._first_offset < queue.end and self._opening is None:
                self._opening = self._loop.create_task(self._open_then_wake(queue))
            return
        deadline = monotonic() + TURN_S
        is_more = is_refused = False
        try:
            is_more = work.filing.turn(deadline)
            if work.filing.has_caught_up:
                is_more = work.firing.turn(deadline) or is_more
                if work.firing.has_rolled:
                    work.filing.hold()
            if work.release.is_wanted:
                is_more = work.release.turn(work.schedule, deadline) or is_more
            is_refused = work.firing.is_blocked or (work.filing.is_stuck and not is_more)
            self._problem = ""
        except OSError as error:
            self._note_problem(error)
            is_refused = True
        if is_refused:
            self._handle = self._loop.call_later(RETRY_S, self._turn)
        elif is_more:
            self._wake()
        else:
            now_ms = self._clock.now_ms()
            next_ms = work.schedule.next_ms(now_ms)
            pause_s = TIMER_S_MAX if next_ms is None else max(next_ms - now_ms, 1) / 1000
            self._handle = self._loop.call_later(min(pause_s, TIMER_S_MAX), self._turn)

    def _note_problem(self, error: OSError) -> None:
        if str(error) != self._problem:
            self._problem = str(error)
            logger.error("timer messages have to wait: %s", error)

    def _note_moved(self, properties: bytes) -> None:
        """A waiting message was stored anew, and will be counted again when it is read."""
        fields = timer_fields(properties)
        self.counts.add(fields.topic or "", -1 if fields.recalled is None else 1)

    def _checkpoint(self, work: _Work) -> TimerCheckpoint:
        offset = work.filing.offset
        return TimerCheckpoint(
            read_ms=work.schedule.read * self.precision_ms,
            log_position=work.log.end,
            queue_offset=offset,
            master_queue_offset=offset,
            version=self.progress.version,
            precision_ms=self.precision_ms,
            is_own=True,
        )

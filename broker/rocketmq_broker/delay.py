"""The delay service: messages of the schedule topic go to their real topic when their level's time is over.

Within a level all messages wait equally long, so queue order is delivery order, and one timer per level, set for the first message
that waits, delivers to the millisecond; nothing is polled. The queue entry's tags code holds the delivery time, so waiting messages
are not read. Progress is written every few seconds, and never ahead of the flushed log: after a crash some messages are delivered
again, none is lost.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, Final

import msgspec

from rocketmq_broker.durable import DurableTable, TableError
from rocketmq_broker.settings import BrokerSettings
from rocketmq_broker.statistics import BrokerStatistics
from rocketmq_common import names
from rocketmq_common.clock import Clock
from rocketmq_common.files import FileSystem
from rocketmq_common.properties import PROPERTY_REAL_QUEUE_ID, PROPERTY_REAL_TOPIC, find_property
from rocketmq_common.records import RecordError, decode_message
from rocketmq_common.topics import DataVersion
from rocketmq_store.appending import NewMessage
from rocketmq_store.consume_queues import ConsumeQueue
from rocketmq_store.statuses import PutStatus
from rocketmq_store.store import MessageStore

logger = logging.getLogger(__name__)

# Deliveries in one turn of the loop: bounds how long sends wait behind a burst that is due at once.
DELIVERY_BATCH_MAX: Final = 64
RETRY_S: Final = 0.1
# Longest single timer; a clock that is set meanwhile is noticed after it.
TIMER_S_MAX: Final = 60.0
FLUSH_POLL_S: Final = 0.05
FLUSH_WAIT_S: Final = 10.0


class DelayLevel:
    """One level: its queue in the schedule topic, the next entry to deliver, the timer for it."""

    __slots__ = ("delay_ms", "is_armed", "number", "offset", "queue", "timer")

    def __init__(self, number: int, delay_ms: int) -> None:
        self.number = number
        self.delay_ms = delay_ms
        self.offset = 0
        self.queue: ConsumeQueue | None = None
        self.timer: asyncio.TimerHandle | asyncio.Handle | None = None
        # A timer runs or a call is queued; what arrives meanwhile is seen by it.
        self.is_armed = False


class DelaySchedule:
    """See the module. Runs on the loop only."""

    def __init__(
        self,
        settings: BrokerSettings,
        store: MessageStore,
        statistics: BrokerStatistics,
        files: FileSystem,
        directory: Path,
        clock: Clock,
        executor: Executor,
        *,
        delay_levels_ms: list[int],
    ) -> None:
        self._settings = settings
        self._store = store
        self._statistics = statistics
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._table = DurableTable(files, directory / "delayOffset.json", self.encode, executor)
        self._snapshot: dict[int, int] = {}
        self._loaded: dict[int, int] = {}
        self._deliveries = 0
        self._is_running = False
        self.data_version = DataVersion()
        self.levels = [DelayLevel(number, delay_ms) for number, delay_ms in enumerate(delay_levels_ms, start=1)]

    def load(self) -> None:
        """Read the progress file; blocking. Raises TableError."""
        raw: dict[str, Any] = self._table.load()
        try:
            self.data_version = msgspec.convert(raw.get("dataVersion") or {}, DataVersion, strict=False)
            self._loaded = msgspec.convert(raw.get("offsetTable") or {}, dict[int, int], strict=False)
        except msgspec.ValidationError as error:
            raise TableError(f"{self._table.path}: {error}: repair the file, or restore its .bak") from error
        self._snapshot = dict(self._loaded)

    def adopt(self, raw: dict[str, Any]) -> None:
        """Take the progress of this broker's master; only while nothing is delivered here.

        ``raw`` is the parsed answer to GET_ALL_DELAY_OFFSET. Raises msgspec.ValidationError; nothing is changed then.
        """
        version = msgspec.convert(raw.get("dataVersion") or {}, DataVersion, strict=False)
        offsets = msgspec.convert(raw.get("offsetTable") or {}, dict[int, int], strict=False)
        if self._is_running or (offsets == self._loaded and version == self.data_version):
            return
        self.data_version = version
        self._loaded = offsets
        self._snapshot = dict(offsets)
        self._table.touch()

    async def save_adopted(self) -> None:
        """Write what was adopted since the last time. Raises OSError."""
        await self._table.save_if_dirty()

    def start(self) -> None:
        """Deliver what is due and wait for the rest."""
        self._is_running = True
        for level in self.levels:
            queue = level.queue = self._store.queue(names.SCHEDULE_TOPIC, level.number - 1)
            # Without progress a level begins at its first message: late or twice is allowed, lost is not.
            level.offset = min(max(self._loaded.get(level.number, 0), queue.min_offset), queue.end)
            queue.watcher = self._note_arrival
            self._arm(level)

    def stop(self) -> None:
        """Deliver nothing more."""
        self._is_running = False
        for level in self.levels:
            if level.timer is not None:
                level.timer.cancel()
                level.timer = None
            if level.queue is not None and level.queue.watcher == self._note_arrival:
                level.queue.watcher = None

    def offsets(self) -> dict[int, int]:
        """Level → next queue offset to deliver."""
        if not self._is_running and all(level.queue is None for level in self.levels):
            return dict(self._loaded)
        # Levels that the configuration no longer has keep what the file said.
        return {**self._loaded, **{level.number: level.offset for level in self.levels}}

    def bounds(self) -> dict[int, tuple[int, int]]:
        """Level → (next offset to deliver, end of its queue), as tools show it."""
        return {
            level.number: (level.offset, level.queue.end if level.queue is not None else level.offset)
            for level in self.levels
        }

    def encode(self) -> bytes:
        """Content of the file: the last progress that the flushed log covers."""
        return msgspec.json.encode({"dataVersion": self.data_version, "offsetTable": self._snapshot})

    async def save(self) -> None:
        """Write the progress of now; only when everything delivered is on disk, as after the store was closed. Raises OSError."""
        offsets = self.offsets()
        if offsets != self._snapshot:
            self._snapshot = offsets
            await self._table.save()

    async def save_behind_flush(self) -> None:
        """Write the progress of now once the log is flushed that far; skip this time when that takes too long. Raises OSError."""
        offsets = self.offsets()
        if offsets == self._snapshot:
            return
        positions = self._store.positions
        needed = positions.written
        deadline = self._clock.monotonic() + FLUSH_WAIT_S
        while positions.flushed < needed:
            if self._clock.monotonic() > deadline:
                return
            self._store.flush()
            await asyncio.sleep(FLUSH_POLL_S)
        self._snapshot = offsets
        await self._table.save()

    # -- delivering --------------------------------------------------------------------------------------------------

    def _note_arrival(
        self, queue: ConsumeQueue, queue_offset: int, tags_code: int, store_timestamp_ms: int, physical_offset: int
    ) -> None:
        if queue.queue_id < len(self.levels):
            level = self.levels[queue.queue_id]
            if not level.is_armed:
                # Called from inside the append, which a delivery would enter again.
                level.is_armed = True
                level.timer = self._loop.call_soon(self._arm, level)

    def _arm(self, level: DelayLevel) -> None:
        """Set the level's timer for the first message that waits."""
        level.is_armed = False
        level.timer = None
        if not self._is_running:
            return
        due_ms = self._due_ms(level)
        if due_ms is not None:
            level.is_armed = True
            # Store times are cut to the ms, so the full level is over one ms later: never early.
            wait_s = min(max(due_ms + 1 - self._clock.now_ms(), 0) / 1000, TIMER_S_MAX)
            level.timer = self._loop.call_later(wait_s, self._deliver_due, level)

    def _due_ms(self, level: DelayLevel) -> int | None:
        """When the level's next message is due in ms; ``None`` when none waits."""
        queue = level.queue
        assert queue is not None
        if level.offset < queue.min_offset:
            level.offset = queue.min_offset
        if level.offset >= queue.end:
            return None
        due_ms = queue.unit(level.offset)[2]
        now_ms = self._clock.now_ms()
        # A clock that was set back must not make messages wait longer than their level.
        return due_ms if due_ms <= now_ms + level.delay_ms else now_ms - 1

    def _deliver_due(self, level: DelayLevel) -> None:
        level.is_armed = False
        level.timer = None
        if not self._is_running:
            return
        for _ in range(DELIVERY_BATCH_MAX):
            due_ms = self._due_ms(level)
            if due_ms is None:
                return
            now_ms = self._clock.now_ms()
            if due_ms >= now_ms:
                self._arm(level)
                return
            if not self._deliver(level, now_ms - due_ms):
                level.is_armed = True
                level.timer = self._loop.call_later(RETRY_S, self._deliver_due, level)
                return
            level.offset += 1
        level.is_armed = True
        level.timer = self._loop.call_soon(self._deliver_due, level)

    def _deliver(self, level: DelayLevel, late_ms: int) -> bool:
        """Store the level's next message in its real topic; False when the store refuses for now."""
        queue = level.queue
        assert queue is not None
        physical_offset = queue.unit(level.offset)[0]
        record = self._store.message_at(physical_offset)
        if record is None:
            logger.warning("delayed message at log offset %d is gone (level %d)", physical_offset, level.number)
            return True
        try:
            message = decode_message(record)
        except RecordError as error:
            logger.error("delayed message of level %d cannot be read and is skipped: %s", level.number, error)
            return True
        topic = find_property(message.properties, PROPERTY_REAL_TOPIC)
        queue_id = find_property(message.properties, PROPERTY_REAL_QUEUE_ID)
        if topic is None or queue_id is None or not queue_id.isdecimal() or topic == names.TRANS_HALF_TOPIC:
            logger.error("delayed message at log offset %d names no topic to go to; skipped", physical_offset)
            return True
        # Properties stay as they are stored here: Apache's broker leaves DELAY and REAL_* in the delivered record, too.
        result = self._store.append(
            NewMessage(
                topic,
                int(queue_id),
                message.body,
                message.properties.encode(),
                message.flag,
                message.sys_flag,
                message.born_timestamp,
                message.born_host,
                message.reconsume_times,
                message.prepared_offset,
            )
        )
        if result.status is not PutStatus.PUT_OK:
            if result.status in (PutStatus.MESSAGE_ILLEGAL, PutStatus.PROPERTIES_SIZE_EXCEEDED):
                logger.error("delayed message at log offset %d is refused: %s", physical_offset, result.reason)
                return True
            return False
        statistics = self._statistics
        statistics.topic(topic).note_put(len(message.body))
        statistics.delayed_nums += 1
        statistics.delay_lateness_ms_max = max(statistics.delay_lateness_ms_max, late_ms)
        self._deliveries += 1
        if self._deliveries % self._settings.delay_offset_update_version_step == 0:
            self.data_version = self.data_version.next(self._clock.now_ms())
        return True

"""Giving again what was not acknowledged in time: a copy with one more attempt goes to the group's pop retry topic.

One timer, set for the flight that is over first; nothing is polled. The copy is stored before the message counts as settled, so a
kill between the two gives it twice and never loses it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Final

from rocketmq_broker.pop.counters import PopCounters
from rocketmq_broker.pop.flights import DueFlights, Flight, PopQueue
from rocketmq_broker.settings import BrokerSettings
from rocketmq_broker.statistics import BrokerStatistics
from rocketmq_broker.topics import TopicLimitReached, TopicTable
from rocketmq_common import names
from rocketmq_common.clock import Clock
from rocketmq_common.properties import (
    PROPERTY_FIRST_POP_TIME,
    PROPERTY_POP_CK,
    append_property,
    find_property,
    remove_property,
)
from rocketmq_common.records import RecordError, StoredMessage, decode_message
from rocketmq_common.tasks import TaskRegistry
from rocketmq_remoting.pop_handles import RETRY_V1, RETRY_V2, pop_retry_topic
from rocketmq_store.appending import NewMessage
from rocketmq_store.statuses import PutStatus
from rocketmq_store.store import MessageStore

logger = logging.getLogger(__name__)

RETRY_QUEUE_NUMS: Final = 1
# Flights of one turn of the loop: bounds how long others wait behind a burst that is over at once.
FLIGHTS_PER_TURN_MAX: Final = 16
# Longest single timer; a clock that is set meanwhile is noticed after it.
TIMER_S_MAX: Final = 60.0
# The store refuses, or a topic is being made.
POSTPONE_MS: Final = 500


class Revival:
    """See the module. ``on_settled`` is told of each message that needs no further delivery from its queue."""

    def __init__(
        self,
        settings: BrokerSettings,
        store: MessageStore,
        topics: TopicTable,
        statistics: BrokerStatistics,
        counters: PopCounters,
        clock: Clock,
        on_settled: Callable[[PopQueue, int], None],
    ) -> None:
        self._settings = settings
        self._store = store
        self._topics = topics
        self._statistics = statistics
        self._counters = counters
        self._clock = clock
        self._on_settled = on_settled
        self._loop = asyncio.get_running_loop()
        self._flights = DueFlights()
        self._timer: asyncio.TimerHandle | asyncio.Handle | None = None
        self._tasks: TaskRegistry | None = None
        self._making: set[str] = set()

    def __len__(self) -> int:
        return len(self._flights)

    def next_due_ms(self) -> int | None:
        """When the next message comes again unless it is acknowledged; ``None`` when nothing is in flight."""
        return self._flights.next_due_ms()

    def add(self, flight: Flight) -> None:
        """Give the flight's messages again when its time is over."""
        if self._flights.add(flight):
            self._arm()

    def start(self, tasks: TaskRegistry) -> None:
        """Give again from now on."""
        self._tasks = tasks
        self._arm()

    def stop(self) -> None:
        """Give nothing again any more."""
        self._tasks = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def clear(self) -> None:
        """Forget all flights."""
        self._flights = DueFlights()

    def run_due(self) -> None:
        """Give again what is over by now, at most `FLIGHTS_PER_TURN_MAX` flights, and set the timer for the rest."""
        now_ms = self._clock.now_ms()
        for _ in range(FLIGHTS_PER_TURN_MAX):
            flight = self._flights.pop_due(now_ms)
            if flight is None:
                break
            if not all(self._revive(flight, offset) for offset in flight.unsettled()):
                self._flights.add(flight, now_ms + POSTPONE_MS)
        self._arm()

    def give_again(self, group: str, topic: str, queue_id: int, offset: int, pop_time_ms: int) -> int | None:
        """Store a copy of a message for the group; the log offset after it, -1 when there is nothing left to give.

        ``None`` when the store refuses for now, or the retry topic is being made.
        """
        message = self._read(topic, queue_id, offset)
        if message is None:
            return -1
        retry_topic = self._retry_topic(group, topic)
        if self._topics.get(retry_topic) is None:
            self._make(retry_topic)
            return None
        result = self._store.append(_again(message, retry_topic, pop_time_ms))
        if result.status in (PutStatus.MESSAGE_ILLEGAL, PutStatus.PROPERTIES_SIZE_EXCEEDED):
            logger.error("message %d of %s cannot be given again: %s", offset, topic, result.reason)
            return -1
        if result.status is not PutStatus.PUT_OK:
            logger.warning("messages of %s cannot be given again for now: %s", topic, result.reason)
            return None
        self._counters.revived_nums += 1
        self._statistics.topic(retry_topic).note_put(len(message.body))
        return result.end_offset

    # -- inside ------------------------------------------------------------------------------------------------------

    def _arm(self) -> None:
        if self._tasks is None:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due_ms = self._flights.next_due_ms()
        if due_ms is None:
            return
        wait_s = (due_ms - self._clock.now_ms()) / 1000
        if wait_s <= 0:
            self._timer = self._loop.call_soon(self.run_due)
        else:
            self._timer = self._loop.call_later(min(wait_s, TIMER_S_MAX), self.run_due)

    def _revive(self, flight: Flight, offset: int) -> bool:
        """Store the message again and settle it; False when that is not possible for now."""
        queue = flight.queue
        end_offset = self.give_again(queue.group, queue.topic, queue.queue_id, offset, flight.pop_time_ms)
        if end_offset is None:
            return False
        if end_offset >= 0:
            queue.revived[offset] = end_offset
        queue.land(offset, flight.pop_time_ms)
        self._on_settled(queue, offset)
        return True

    def _read(self, topic: str, queue_id: int, offset: int) -> StoredMessage | None:
        """The message at a queue offset; ``None`` when retention or a deletion took it."""
        stored = self._store.queue(topic, queue_id)
        if not stored.min_offset <= offset < stored.end:
            return None
        record = self._store.message_at(stored.unit(offset)[0])
        if record is None:
            return None
        try:
            return decode_message(record)
        except RecordError as error:
            logger.error("message %d of %s, queue %d: %s", offset, topic, queue_id, error)
            return None

    def _retry_topic(self, group: str, topic: str) -> str:
        if names.is_retry_topic(topic):
            return topic
        return pop_retry_topic(group, topic, RETRY_V2 if self._settings.enable_retry_topic_v2 else RETRY_V1)

    def _make(self, topic: str) -> None:
        if topic not in self._making and self._tasks is not None:
            self._making.add(topic)
            task = self._tasks.start(self._make_topic(topic), f"retry topic {topic}")
            task.add_done_callback(partial(self._made, topic))

    async def _make_topic(self, topic: str) -> None:
        try:
            await self._topics.ensure(topic, RETRY_QUEUE_NUMS)
        except (OSError, TopicLimitReached) as error:
            logger.error("retry topic %s cannot be created: %s; tried again", topic, error)

    def _made(self, topic: str, task: asyncio.Task[None]) -> None:
        self._making.discard(topic)


def _again(message: StoredMessage, retry_topic: str, pop_time_ms: int) -> NewMessage:
    properties = remove_property(message.properties, PROPERTY_POP_CK)
    if find_property(properties, PROPERTY_FIRST_POP_TIME) is None:
        properties = append_property(properties, PROPERTY_FIRST_POP_TIME, str(pop_time_ms))
    return NewMessage(
        retry_topic,
        0,
        message.body,
        properties.encode(),
        message.flag,
        message.sys_flag,
        message.born_timestamp,
        message.born_host,
        message.reconsume_times + 1,
        message.prepared_offset,
    )

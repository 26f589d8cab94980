"""Questions to producers that did not say how their transaction ended: CHECK_TRANSACTION_STATE (39).

Each round (`transactionCheckInterval`) looks at every transaction older than its immunity. Each question stores the half message
again, with the count of questions in it, so that the count survives a restart; after `transactionCheckMax` questions the
message goes to TRANS_CHECK_MAX_TIME_TOPIC, from where an operator can bring it back (323). Unlike Apache's, a round in which
nobody could be asked does not count, and a message that merely waits is not stored again at each round (apache/rocketmq #1540:
halves renewed until the disk was full), only when it holds the queue's progress back by `HELD_BACK_MAX`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

import msgspec

from rocketmq_broker.clients.members import Member
from rocketmq_broker.clients.producers import Producers
from rocketmq_broker.settings import BrokerSettings
from rocketmq_broker.topics import TopicLimitReached, TopicTable
from rocketmq_broker.transactions.counters import TransactionCounters
from rocketmq_broker.transactions.half_messages import (
    HALF_QUEUE_ID,
    Half,
    HalfMessages,
    real_place,
    renewed_properties,
)
from rocketmq_broker.transactions.operations import Operations
from rocketmq_broker.transactions.reading import read_half
from rocketmq_common import names
from rocketmq_common.clock import Clock
from rocketmq_common.properties import PROPERTY_PRODUCER_GROUP, PROPERTY_UNIQUE_KEY, find_property
from rocketmq_common.records import StoredMessage, encode_message
from rocketmq_remoting.codes import RequestCode
from rocketmq_remoting.errors import RemotingConnectError, RemotingTimeout
from rocketmq_remoting.headers.clients import CheckTransactionStateRequestHeader
from rocketmq_store.appending import NewMessage
from rocketmq_store.statuses import AppendResult, PutStatus
from rocketmq_store.store import MessageStore

logger = logging.getLogger(__name__)

# Table rows and questions between two breaths of the event loop.
ROWS_PER_SLICE: Final = 5000
QUESTIONS_PER_SLICE: Final = 32
HELD_BACK_MAX: Final = 65_536
ROUND_S_MAX: Final = 60.0
PRODUCER_WAIT_MS: Final = 1000
HOUR_MS: Final = 3_600_000


class TransactionChecks:
    """See the module. ``close`` ends a transaction in table and op topic."""

    def __init__(
        self,
        settings: BrokerSettings,
        store: MessageStore,
        topics: TopicTable,
        producers: Producers,
        halves: HalfMessages,
        operations: Operations,
        counters: TransactionCounters,
        clock: Clock,
        close: Callable[[Half], None],
    ) -> None:
        self._settings = settings
        self._store = store
        self._topics = topics
        self._producers = producers
        self._halves = halves
        self._operations = operations
        self._counters = counters
        self._clock = clock
        self._close = close

    async def run(self) -> None:
        """Rounds until cancelled; the interval may change at run time."""
        while True:
            await asyncio.sleep(self._settings.transaction_check_interval / 1000)
            await self.round()

    async def round(self) -> None:
        """Look once at every transaction that was undecided when the round began."""
        deadline = self._clock.monotonic() + ROUND_S_MAX
        now_ms = self._clock.now_ms()
        questions = 0
        for number, offset in enumerate(list(self._halves.undecided)):
            if number % ROWS_PER_SLICE == ROWS_PER_SLICE - 1:
                await asyncio.sleep(0)
            half = self._halves.undecided.get(offset)
            if half is None or not self._is_due(half, now_ms):
                continue
            if not await self._attend(half, now_ms) or self._clock.monotonic() > deadline:
                return
            questions += 1
            if questions % QUESTIONS_PER_SLICE == 0:
                await asyncio.sleep(0)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _is_due(self, half: Half, now_ms: int) -> bool:
        immunity_ms = self._settings.transaction_time_out if half.immunity_ms < 0 else half.immunity_ms
        age_ms = now_ms - half.first_stored_ms
        # A clock that was set back must not keep a transaction from being asked about.
        return age_ms >= immunity_ms or age_ms < 0

    async def _attend(self, half: Half, now_ms: int) -> bool:
        """Ask, give up, or let wait; False when the store takes nothing now."""
        if half.physical_offset >= self._store.positions.readable:
            return True
        message = read_half(self._store, half)
        if message is None:
            logger.error("half message %d has expired undecided and is gone", half.queue_offset)
            self._close(half)
            return True
        kept_ms = self._store.settings.file_reserved_hours * HOUR_MS
        if half.check_times >= self._settings.transaction_check_max or now_ms - half.first_stored_ms > kept_ms:
            return await self._give_up(half, message)
        member = self._producers.next_member(find_property(message.properties, PROPERTY_PRODUCER_GROUP) or "")
        if member is None:
            self._counters.unanswerable_nums += 1
            end = self._store.queue(names.TRANS_HALF_TOPIC, HALF_QUEUE_ID).end
            if end - half.queue_offset > HELD_BACK_MAX:
                return self._store_again(half, message, half.check_times) is not None
            return True
        try:
            await member.connection.wait_writable(RequestCode.CHECK_TRANSACTION_STATE, PRODUCER_WAIT_MS)
        except (RemotingTimeout, RemotingConnectError) as error:
            logger.warning("producer %s cannot be asked about a transaction: %s", member.client_id, error)
            return True
        if self._halves.undecided.get(half.queue_offset) is not half:
            # It ended while the producer was waited for.
            return True
        return self._ask(half, message, member)

    def _ask(self, half: Half, message: StoredMessage, member: Member) -> bool:
        result = self._store_again(half, message, half.check_times + 1)
        if result is None:
            return False
        half.check_times += 1
        place = real_place(message)
        assert place is not None, "rows are made of messages that name their place"
        unique_key = find_property(message.properties, PROPERTY_UNIQUE_KEY)
        # Clients see the message as it will be: its real topic and queue, but the half message's offsets (trap T23).
        asked = msgspec.structs.replace(
            message,
            topic=place[0],
            queue_id=place[1],
            queue_offset=result.queue_offset,
            physical_offset=result.physical_offset,
            store_timestamp=result.store_timestamp_ms,
        )
        header = CheckTransactionStateRequestHeader(
            tran_state_table_offset=result.queue_offset,
            commit_log_offset=result.physical_offset,
            topic=place[0],
            msg_id=unique_key,
            transaction_id=unique_key,
            offset_msg_id=asked.message_id,
            broker_name=self._settings.broker_name,
        )
        member.connection.notify(RequestCode.CHECK_TRANSACTION_STATE, header, encode_message(asked))
        self._counters.check_nums += 1
        return True

    def _store_again(self, half: Half, message: StoredMessage, check_times: int) -> AppendResult | None:
        """Make a newer copy the half message; ``None`` when the store refuses."""
        first = half.first_offset if half.first_offset >= 0 else half.queue_offset
        properties = renewed_properties(message.properties, check_times, first)
        result = self._append(names.TRANS_HALF_TOPIC, message, properties)
        if result is None:
            return None
        message.properties = properties
        half.first_offset = first
        self._operations.add(half.queue_offset)
        self._halves.replace(half, result.queue_offset, result.physical_offset)
        return result

    async def _give_up(self, half: Half, message: StoredMessage) -> bool:
        try:
            await self._topics.ensure(names.TRANS_CHECK_MAX_TIME_TOPIC, 1)
        except (OSError, TopicLimitReached) as error:
            logger.error("topic %s cannot be created: %s", names.TRANS_CHECK_MAX_TIME_TOPIC, error)
            return False
        if self._halves.undecided.get(half.queue_offset) is not half:
            # It ended while the topic was made.
            return True
        first = half.first_offset if half.first_offset >= 0 else half.queue_offset
        properties = renewed_properties(message.properties, half.check_times, first)
        if self._append(names.TRANS_CHECK_MAX_TIME_TOPIC, message, properties) is None:
            return False
        self._close(half)
        self._counters.given_up_nums += 1
        logger.warning(
            "transaction %s for topic %s is given up after %d questions; it is kept in %s",
            find_property(message.properties, PROPERTY_UNIQUE_KEY), half.topic, half.check_times,
            names.TRANS_CHECK_MAX_TIME_TOPIC,
        )  # fmt: skip
        return True

    def _append(self, topic: str, message: StoredMessage, properties: str) -> AppendResult | None:
        result = self._store.append(
            NewMessage(
                topic,
                HALF_QUEUE_ID,
                message.body,
                properties.encode(),
                message.flag,
                message.sys_flag,
                message.born_timestamp,
                message.born_host,
                message.reconsume_times,
            )
        )
        if result.status is PutStatus.PUT_OK:
            return result
        logger.warning("half message %d cannot be stored again: %s", message.queue_offset, result.reason)
        return None

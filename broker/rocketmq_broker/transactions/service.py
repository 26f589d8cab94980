"""The transactions of one broker, as the composition root and the send processor see them."""

from __future__ import annotations

import logging
from typing import Final

from rocketmq_broker.clients.producers import Producers
from rocketmq_broker.consumer_offsets import ConsumerOffsets
from rocketmq_broker.ha.promises import SendPromise
from rocketmq_broker.settings import BrokerSettings
from rocketmq_broker.statistics import BrokerStatistics
from rocketmq_broker.topics import TopicTable
from rocketmq_broker.transactions.checking import TransactionChecks
from rocketmq_broker.transactions.counters import TransactionCounters
from rocketmq_broker.transactions.ending import EndTransactionProcessor
from rocketmq_broker.transactions.half_messages import (
    HALF_QUEUE_ID,
    UNDECIDED_MAX,
    Half,
    HalfMessages,
    committed_flags,
    half_properties,
    immunity_ms,
)
from rocketmq_broker.transactions.operations import Operations
from rocketmq_broker.transactions.ready_commits import Commit, Parts, append_parts
from rocketmq_broker.transactions.replay import PROGRESS_GROUP, replay
from rocketmq_common import names
from rocketmq_common.clock import Clock
from rocketmq_common.tasks import TaskRegistry
from rocketmq_remoting.codes import ResponseCode
from rocketmq_remoting.connection import Route
from rocketmq_remoting.errors import RemotingError
from rocketmq_store.statuses import AppendResult, PutStatus
from rocketmq_store.store import MessageStore

logger = logging.getLogger(__name__)

PROGRESS_INTERVAL_MS: Final = 1000


class Transactions:
    """See the module. `load` before serving, `start` for the checks, `finish` once the store is closed."""

    def __init__(
        self,
        settings: BrokerSettings,
        store: MessageStore,
        topics: TopicTable,
        producers: Producers,
        offsets: ConsumerOffsets,
        statistics: BrokerStatistics,
        clock: Clock,
        promise: SendPromise,
        *,
        delay_level_max: int,
    ) -> None:
        self._store = store
        self._offsets = offsets
        self.halves = HalfMessages()
        self.counters = TransactionCounters()
        self.operations = Operations(settings, store, clock)
        self._ending = EndTransactionProcessor(
            settings, store, self.halves, self.operations, self.counters, statistics, clock, promise,
            delay_level_max=delay_level_max,
        )  # fmt: skip
        self.checks = TransactionChecks(
            settings, store, topics, producers, self.halves, self.operations, self.counters, clock, self._ending.close
        )
        self._is_loaded = False
        # Progress that the flush has not reached yet: (half offset, op offset, log offset to be flushed).
        self._unflushed: tuple[int, int, int] | None = None

    def routes(self) -> list[Route]:
        """The rows of the table that transactions serve."""
        return self._ending.routes()

    def load(self, *, is_unclean: bool) -> None:
        """Find the undecided transactions on disk; the store is open, nothing is served yet."""
        self.halves.clear()
        self._is_loaded = True
        replay(self._store, self._offsets, self.halves, self.operations, is_unclean=is_unclean)

    def start(self, tasks: TaskRegistry) -> None:
        """Ask producers from now on; only a broker that takes messages may."""
        tasks.start(self.checks.run(), "transaction checks", critical=True)
        tasks.every(PROGRESS_INTERVAL_MS, self.note_progress, "progress of transactions")

    def stop(self) -> None:
        """The store is about to be closed: what is known goes into it."""
        if self._is_loaded:
            self.operations.stop()

    def finish(self) -> None:
        """The store is closed, so everything is flushed, and the progress may say so."""
        if self._is_loaded and not self.operations.waiting_count:
            half_offset, op_offset = self._progress()
            self._publish(half_offset, op_offset)

    def note_progress(self) -> None:
        """Move the stored progress on, never ahead of the flush: after a power loss what it passed must still be decided."""
        positions = self._store.positions
        waiting = self._unflushed
        if waiting is not None:
            if min(positions.flushed, positions.confirmed) < waiting[2]:
                return
            self._publish(waiting[0], waiting[1])
            self._unflushed = None
        if self.operations.waiting_count:
            return
        half_offset, op_offset = self._progress()
        if half_offset != self._known(names.TRANS_HALF_TOPIC) or op_offset != self._known(names.TRANS_OP_HALF_TOPIC):
            self._unflushed = (half_offset, op_offset, positions.written)

    def append_half(self, message: Parts, text: str, producer_group: str, unique_key: str) -> AppendResult:
        """Store a message as a half message instead; ``text`` is its property string, whatever ``message`` has there.

        Raises RemotingError when too many transactions are undecided.
        """
        halves = self.halves
        if len(halves.undecided) >= UNDECIDED_MAX:
            raise RemotingError(
                ResponseCode.SYSTEM_BUSY, f"[OVERLOAD]system busy: {UNDECIDED_MAX} transactions are undecided"
            )
        topic, queue_id, body, _, flag, sys_flag, born_ms, born_host, times = message
        properties = half_properties(text, topic, queue_id, producer_group, unique_key)
        result = append_parts(
            self._store,
            (
                names.TRANS_HALF_TOPIC,
                HALF_QUEUE_ID,
                body,
                properties.stored.encode(),
                flag,
                sys_flag,
                born_ms,
                born_host,
                times,
            ),
        )
        if result.status is not PutStatus.PUT_OK:
            return result
        offset = result.queue_offset
        halves.add(Half(offset, result.physical_offset, topic, result.store_timestamp_ms, immunity_ms(text)))
        parts = (
            topic, queue_id, body, properties.committed.encode(), flag, committed_flags(sys_flag), born_ms, born_host, times,
        )  # fmt: skip
        halves.ready.keep(offset, Commit(parts, properties.producer_group))
        return result

    # -- inside ------------------------------------------------------------------------------------------------------

    def _progress(self) -> tuple[int, int]:
        half_end = self._store.queue(names.TRANS_HALF_TOPIC, HALF_QUEUE_ID).end
        op_end = self._store.queue(names.TRANS_OP_HALF_TOPIC, HALF_QUEUE_ID).end
        half_offset = min(self.halves.first_offset(half_end), half_end)
        return half_offset, min(self.operations.first_offset(half_offset, op_end), op_end)

    def _known(self, topic: str) -> int:
        return self._offsets.query(PROGRESS_GROUP, topic, HALF_QUEUE_ID)

    def _publish(self, half_offset: int, op_offset: int) -> None:
        self._offsets.commit(PROGRESS_GROUP, names.TRANS_HALF_TOPIC, HALF_QUEUE_ID, half_offset)
        self._offsets.commit(PROGRESS_GROUP, names.TRANS_OP_HALF_TOPIC, HALF_QUEUE_ID, op_offset)

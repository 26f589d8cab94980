"""POP as the composition root sees it."""

from __future__ import annotations

from concurrent.futures import Executor
from pathlib import Path
from random import Random
from typing import Final

from rocketmq_broker.consumer_offsets import ConsumerOffsets
from rocketmq_broker.groups import GroupTable
from rocketmq_broker.pop.acknowledging import AcknowledgementProcessor
from rocketmq_broker.pop.counters import PopCounters
from rocketmq_broker.pop.held_pops import HeldPops
from rocketmq_broker.pop.ordering import OrderedQueues
from rocketmq_broker.pop.processor import PopProcessor
from rocketmq_broker.pop.queues import PopQueues
from rocketmq_broker.pop.taking import Taking
from rocketmq_broker.services import forgiving
from rocketmq_broker.settings import BrokerSettings
from rocketmq_broker.statistics import BrokerStatistics
from rocketmq_broker.topics import TopicTable
from rocketmq_common.clock import Clock
from rocketmq_common.files import FileSystem
from rocketmq_common.tasks import TaskRegistry
from rocketmq_remoting.connection import Connection, Route
from rocketmq_store.store import MessageStore

ROUND_MS: Final = 1000
RECHECK_MS: Final = 5000
ORDER_SAVE_MS: Final = 10_000
FORGET_MS: Final = 600_000


class Pop:
    """`load` and `start` where the broker takes messages; `stop` before the store closes or another takes over, then `finish`."""

    def __init__(
        self,
        settings: BrokerSettings,
        store: MessageStore,
        topics: TopicTable,
        groups: GroupTable,
        offsets: ConsumerOffsets,
        statistics: BrokerStatistics,
        files: FileSystem,
        directory: Path,
        clock: Clock,
        executor: Executor,
    ) -> None:
        self._topics = topics
        self._clock = clock
        self.counters = PopCounters()
        self.ordered = OrderedQueues(files, directory, clock, executor)
        self.queues = PopQueues(settings, store, topics, groups, offsets, statistics, self.counters, clock)
        self.held = HeldPops(settings)
        taking = Taking(
            settings, store, topics, offsets, self.queues, self.ordered, statistics, clock, Random()
        )  # fmt: skip
        self._processor = PopProcessor(
            settings, store, topics, groups, taking, self.ordered, self.queues.journal, self.held, clock
        )
        self._acknowledgements = AcknowledgementProcessor(
            settings, store, topics, offsets, self.queues, self.ordered, self.held, clock
        )
        self._is_loaded = False
        groups.on_delete.append(self._forget_group)

    def routes(self) -> list[Route]:
        """The rows of the table that POP serves."""
        return [*self._processor.routes(), *self._acknowledgements.routes()]

    def load(self, *, is_unclean: bool) -> None:
        """Find out what is in flight; the store and the tables are open, nothing is served yet."""
        self.queues.load(is_unclean=is_unclean)
        self._is_loaded = True
        self._topics.on_change.append(self._forget_if_deleted)

    def start(self, tasks: TaskRegistry) -> None:
        """Hand out messages, and give again what is not acknowledged in time, from now on."""
        self.queues.start(tasks)
        self._processor.is_serving = True
        tasks.every(ROUND_MS, self.queues.round, "pop offsets and journal")
        tasks.every(RECHECK_MS, self.held.recheck, "recheck of held pops")
        tasks.every(
            ORDER_SAVE_MS, forgiving(self.ordered.save_if_dirty, "consumerOrderInfo.json"), "pop orders to disk"
        )
        tasks.every(FORGET_MS, self.ordered.forget_unused, "unused pop orders")

    def drop(self, connection: Connection) -> None:
        """The connection closed; what waits on it is not answered."""
        self.held.drop(connection)

    def release_all(self) -> None:
        """Answer whatever waits and hold nothing any more: the broker stops."""
        self._processor.is_stopping = True
        self.held.release_all()

    def stop(self) -> None:
        """The store is about to be closed: what is known goes into it."""
        if self._is_loaded:
            self._processor.is_serving = False
            self.queues.stop()

    async def finish(self) -> None:
        """The store is closed, so everything is flushed, and offsets and progress may say so."""
        if self._is_loaded:
            self._is_loaded = False
            self._topics.on_change.remove(self._forget_if_deleted)
            self.queues.finish()
        await self.ordered.save_if_dirty()

    def late_ms(self) -> int:
        """How long ago the next message should have been given again."""
        due_ms = self.queues.revival.next_due_ms()
        return 0 if due_ms is None else max(self._clock.now_ms() - due_ms, 0)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _forget_if_deleted(self, topic: str) -> None:
        if self._topics.get(topic) is None:
            self.queues.forget_topic(topic)
            self.ordered.forget_topic(topic)

    def _forget_group(self, group: str) -> None:
        self.queues.forget_group(group)
        self.ordered.forget_group(group)

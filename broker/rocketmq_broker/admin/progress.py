"""How far groups are: the numbers behind 208, 317, 303 and the lag metrics, in one place so that they never disagree."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from rocketmq_broker.clients.consumers import Consumers
from rocketmq_broker.consumer_offsets import ConsumerOffsets
from rocketmq_broker.topics import TopicTable
from rocketmq_common.topics import TopicConfig
from rocketmq_store.store import MessageStore


class QueueProgress(NamedTuple):
    """One queue as one group sees it. ``consumer_offset`` is -1 when the group never committed there; offsets are queue offsets."""

    queue_id: int
    broker_min_offset: int
    broker_offset: int
    consumer_offset: int
    pull_offset: int

    @property
    def lag(self) -> int:
        """Messages not yet acknowledged; a group that never committed has none to catch up with, as in Apache's metrics."""
        return 0 if self.consumer_offset < 0 else max(self.broker_offset - self.consumer_offset, 0)

    @property
    def inflight(self) -> int:
        """Messages delivered and not yet acknowledged."""
        return 0 if self.consumer_offset < 0 else max(self.pull_offset - self.consumer_offset, 0)


class Progress:
    """Reads tables and store; changes nothing."""

    def __init__(self, topics: TopicTable, offsets: ConsumerOffsets, consumers: Consumers, store: MessageStore) -> None:
        self._topics = topics
        self._offsets = offsets
        self._consumers = consumers
        self._store = store

    def topics_of(self, group: str) -> Iterator[TopicConfig]:
        """Existing topics on which the group has offsets, without those that its online members do not subscribe to."""
        for topic in list(self._offsets.topics_of(group)):
            config = self._topics.get(topic)
            if config is not None and not self.is_left_behind(group, topic):
                yield config

    def is_left_behind(self, group: str, topic: str) -> bool:
        """The group is online and its members do not want ``topic`` any more: its old offsets there mean nothing."""
        state = self._consumers.get(group)
        return state is not None and bool(state.subscriptions) and topic not in state.subscriptions

    def queues(self, group: str, topic: str, queue_nums: int) -> Iterator[QueueProgress]:
        """The first ``queue_nums`` queues of the topic."""
        bounds_of, query, pulled = self._store.queue_bounds, self._offsets.query, self._offsets.pull_offset
        for queue_id in range(queue_nums):
            bounds = bounds_of(topic, queue_id)
            consumer_offset = query(group, topic, queue_id)
            yield QueueProgress(
                queue_id,
                0 if bounds is None else bounds.min_offset,
                0 if bounds is None else bounds.max_offset,
                consumer_offset,
                max(consumer_offset, pulled(group, topic, queue_id), 0),
            )

    def store_time(self, topic: str, queue_id: int, offset: int) -> int:
        """Store time in ms of the message at a queue offset; -1 when there is none."""
        return -1 if offset < 0 else self._store.store_time(topic, queue_id, offset)

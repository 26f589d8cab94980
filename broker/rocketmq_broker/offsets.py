"""Consumer offsets and queue bounds: codes 14, 15, 29, 30, 31, 32."""

from __future__ import annotations

from rocketmq_broker.cold_reads import reading
from rocketmq_broker.consumer_offsets import ConsumerOffsets
from rocketmq_broker.groups import GroupTable
from rocketmq_broker.settings import BrokerSettings
from rocketmq_broker.topics import TopicTable
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Command, Response
from rocketmq_remoting.connection import Connection, Route
from rocketmq_remoting.errors import RemotingError
from rocketmq_remoting.headers.offsets import (
    QueryConsumerOffsetRequestHeader,
    QueueHeader,
    SearchOffsetRequestHeader,
    UpdateConsumerOffsetRequestHeader,
)
from rocketmq_store.searching import Boundary
from rocketmq_store.store import MessageStore

_NOT_FOUND_REMARK = "Not found, V3_0_6_SNAPSHOT maybe this group consumer boot first"


class OffsetProcessor:
    """See the module."""

    def __init__(
        self,
        settings: BrokerSettings,
        store: MessageStore,
        topics: TopicTable,
        groups: GroupTable,
        offsets: ConsumerOffsets,
    ) -> None:
        self._settings = settings
        self._store = store
        self._topics = topics
        self._groups = groups
        self._offsets = offsets

    def routes(self) -> list[Route]:
        """The rows of the table that this processor serves."""
        store = self._store
        return [
            Route(RequestCode.QUERY_CONSUMER_OFFSET, QueryConsumerOffsetRequestHeader, self.query),
            Route(RequestCode.UPDATE_CONSUMER_OFFSET, UpdateConsumerOffsetRequestHeader, self.update),
            Route(RequestCode.SEARCH_OFFSET_BY_TIMESTAMP, SearchOffsetRequestHeader, reading(store, self.search)),
            Route(RequestCode.GET_MAX_OFFSET, QueueHeader, self.max_offset),
            Route(RequestCode.GET_MIN_OFFSET, QueueHeader, self.min_offset),
            Route(RequestCode.GET_EARLIEST_MSG_STORETIME, QueueHeader, reading(store, self.earliest_time)),
        ]

    def query(self, connection: Connection, command: Command, header: QueryConsumerOffsetRequestHeader) -> Response:
        """The group's position, or "not found", after which a client applies its own rule where to begin."""
        offset = self._offsets.query(header.consumer_group, header.topic, header.queue_id)
        if offset >= 0:
            return _offset_answer(offset)
        if header.set_zero_if_not_found is False:
            raise RemotingError(
                ResponseCode.QUERY_NOT_FOUND, "Not found, do not set to zero, maybe this group boot first"
            )
        if self._is_young(header.topic, header.queue_id):
            return _offset_answer(0)
        raise RemotingError(ResponseCode.QUERY_NOT_FOUND, _NOT_FOUND_REMARK)

    def update(self, connection: Connection, command: Command, header: UpdateConsumerOffsetRequestHeader) -> Response:
        """Take a group's position."""
        topic = self._topics.get(header.topic)
        if self._groups.find(header.consumer_group) is None:
            raise RemotingError(
                ResponseCode.SUBSCRIPTION_GROUP_NOT_EXIST, f"subscription group [{header.consumer_group}] not exist"
            )
        if topic is None:
            raise RemotingError(ResponseCode.TOPIC_NOT_EXIST, f"Topic {header.topic} not exist!")
        if not 0 <= header.queue_id < topic.queue_nums_max:
            raise RemotingError(
                ResponseCode.INVALID_PARAMETER,
                f"queueId[{header.queue_id}] is illegal, topic [{header.topic}] has {topic.queue_nums_max} queues",
            )
        if header.commit_offset < 0:
            raise RemotingError(ResponseCode.INVALID_PARAMETER, f"offset {header.commit_offset} is negative")
        if self._offsets.is_reset_pending(header.consumer_group, header.topic, header.queue_id):
            return Response(remark="Offset has been previously reset")
        self._offsets.commit(header.consumer_group, header.topic, header.queue_id, header.commit_offset)
        return Response()

    def search(self, connection: Connection, command: Command, header: SearchOffsetRequestHeader) -> Response:
        """The offset that belongs to a store time."""
        is_upper = (header.boundary_type or "lower").lower() == "upper"
        boundary = Boundary.UPPER if is_upper else Boundary.LOWER
        return _offset_answer(self._store.offset_by_time(header.topic, header.queue_id, header.timestamp, boundary))

    def max_offset(self, connection: Connection, command: Command, header: QueueHeader) -> Response:
        """The offset after the last visible message; 0 for an unknown queue."""
        bounds = self._store.queue_bounds(header.topic, header.queue_id)
        return _offset_answer(0 if bounds is None else bounds.max_offset)

    def min_offset(self, connection: Connection, command: Command, header: QueueHeader) -> Response:
        """The offset of the first message; 0 for an unknown queue."""
        bounds = self._store.queue_bounds(header.topic, header.queue_id)
        return _offset_answer(0 if bounds is None else bounds.min_offset)

    def earliest_time(self, connection: Connection, command: Command, header: QueueHeader) -> Response:
        """Store time of the first message in ms; -1 without messages."""
        time_ms = self._store.earliest_store_time(header.topic, header.queue_id)
        return Response(0, b'{"timestamp":"%d"}' % time_ms)

    def _is_young(self, topic: str, queue_id: int) -> bool:
        """Nothing of the queue has expired, and it is short enough that a new group may as well read it from the start."""
        bounds = self._store.queue_bounds(topic, queue_id)
        if bounds is None:
            return True
        if bounds.min_offset > 0 or bounds.max_offset == 0:
            return bounds.min_offset == 0
        return not self._store.get_messages(topic, queue_id, 0, 1).is_cold


def _offset_answer(offset: int) -> Response:
    return Response(0, b'{"offset":"%d"}' % offset)

"""Reports on topics and groups: 202 topic statistics, 208 and 317 consumption, 303 time span, 300, 343 and 345 who reads what.

The maps keyed by queue are written with bare objects as keys: fastjson2 in the 5.5 tools accepts nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import msgspec

from rocketmq_broker.admin.progress import Progress
from rocketmq_broker.admin.requests import ENTRIES_MAX, no_topic
from rocketmq_broker.clients.consumers import Consumers
from rocketmq_broker.consumer_offsets import ConsumerOffsets
from rocketmq_broker.groups import GroupTable
from rocketmq_broker.identity import Identity
from rocketmq_broker.topics import TopicTable
from rocketmq_broker.windows import StatisticsWindows
from rocketmq_common import javajson
from rocketmq_common.clock import Clock
from rocketmq_common.topics import TopicConfig
from rocketmq_remoting.bodies import MessageQueue
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Command, Response
from rocketmq_remoting.connection import Connection, Route
from rocketmq_remoting.errors import RemotingError
from rocketmq_remoting.headers.admin import (
    GetBrokerConsumeStatsRequestHeader,
    GetConsumeStatsRequestHeader,
    GroupHeader,
    GroupTopicHeader,
    TopicHeader,
)
from rocketmq_store.store import MessageStore


class ConsumeStats(msgspec.Struct):
    """Consumption of some topics by one group: finished entries per queue, and what is summed up over them."""

    offsets: list[bytes] = []
    consume_tps: float = 0.0
    diff: int = 0
    inflight: int = 0

    def encode(self) -> bytes:
        """Java's ConsumeStats."""
        return b'{"consumeTps":%b,"offsetTable":{%b}}' % (repr(self.consume_tps).encode(), b",".join(self.offsets))


class ConsumptionReports:
    """See the module."""

    def __init__(
        self,
        broker_name: str,
        identity: Identity,
        topics: TopicTable,
        groups: GroupTable,
        offsets: ConsumerOffsets,
        consumers: Consumers,
        store: MessageStore,
        progress: Progress,
        windows: StatisticsWindows,
        clock: Clock,
    ) -> None:
        self._broker_name = broker_name
        self._identity = identity
        self._topics = topics
        self._groups = groups
        self._offsets = offsets
        self._consumers = consumers
        self._store = store
        self._progress = progress
        self._windows = windows
        self._clock = clock

    def routes(self) -> list[Route]:
        """The rows of the table that this part serves."""
        return [
            Route(RequestCode.GET_TOPIC_STATS_INFO, TopicHeader, self.topic_stats),
            Route(RequestCode.GET_CONSUME_STATS, GetConsumeStatsRequestHeader, self.consume_stats),
            Route(RequestCode.GET_BROKER_CONSUME_STATS, GetBrokerConsumeStatsRequestHeader, self.broker_consume_stats),
            Route(RequestCode.QUERY_CONSUME_TIME_SPAN, GroupTopicHeader, self.time_span),
            Route(RequestCode.QUERY_TOPIC_CONSUME_BY_WHO, TopicHeader, self.groups_of_topic),
            Route(RequestCode.QUERY_TOPICS_BY_CONSUMER, GroupHeader, self.topics_of_group),
            Route(RequestCode.QUERY_SUBSCRIPTION_BY_CONSUMER, GroupTopicHeader, self.subscription),
        ]

    def topic_stats(self, _: Connection, __: Command, header: TopicHeader) -> Response:
        """202."""
        config = self._topic(header.topic)
        pairs = []
        for queue_id in range(config.queue_nums_max):
            bounds = self._store.queue_bounds(config.topic_name, queue_id)
            low, high = (0, 0) if bounds is None else (bounds.min_offset, bounds.max_offset)
            last = max(self._progress.store_time(config.topic_name, queue_id, high - 1), 0)
            pairs.append(
                (self._queue(config, queue_id), {"lastUpdateTimestamp": last, "maxOffset": high, "minOffset": low})
            )
        tps = self._windows.topic(config.topic_name, 0).minute.tps
        body = b'{"offsetTable":%b,"topicPutTps":%s}' % (javajson.dumps_object_keyed(pairs), repr(tps).encode())
        return Response(body=body)

    async def consume_stats(self, _: Connection, __: Command, header: GetConsumeStatsRequestHeader) -> Response:
        """208: of the topics named, else of all on which the group has offsets."""
        group = header.consumer_group
        wanted = [topic for topic in (header.topic_list or "").split(";") if topic.strip()]
        if header.topic and header.topic.strip():
            wanted = [header.topic]
        configs: Iterable[TopicConfig]
        if wanted:
            found = (self._topics.get(topic) for topic in wanted if not self._progress.is_left_behind(group, topic))
            configs = (config for config in found if config is not None)
        else:
            configs = self._progress.topics_of(group)
        stats = ConsumeStats()
        for config in configs:
            self._add(stats, group, config, config.read_queue_nums)
            _check_size(len(stats.offsets), f"group {group}: name a topic")
            # A group may read thousands of topics; sends must not wait for all of them.
            await asyncio.sleep(0)
        return Response(body=stats.encode())

    async def broker_consume_stats(
        self, _: Connection, __: Command, header: GetBrokerConsumeStatsRequestHeader
    ) -> Response:
        """317: every group with every topic of it."""
        parts: list[bytes] = []
        diff = inflight = entries = 0
        for group in list(self._groups.configs):
            encoded = []
            for config in self._progress.topics_of(group):
                if header.is_order and not config.order:
                    continue
                stats = ConsumeStats()
                self._add(stats, group, config, config.write_queue_nums)
                entries += len(stats.offsets)
                _check_size(entries, "ask group by group (consumerProgress)")
                diff += stats.diff
                inflight += stats.inflight
                encoded.append(stats.encode())
                await asyncio.sleep(0)
            parts.append(b"{%b:[%b]}" % (javajson.dumps(group), b",".join(encoded)))
        body = b'{"brokerAddr":%b,"consumeStatsList":[%b],"totalDiff":%d,"totalInflightDiff":%d}' % (
            javajson.dumps(self._identity.address), b",".join(parts), diff, inflight,
        )  # fmt: skip
        return Response(body=body)

    def time_span(self, _: Connection, __: Command, header: GroupTopicHeader) -> Response:
        """303: from when to when each queue's messages are, and where the group stands, in ms."""
        config = self._topic(header.topic)
        topic, now = config.topic_name, self._clock.now_ms()
        time_of = self._progress.store_time
        spans: list[dict[str, Any]] = []
        for queue in self._progress.queues(header.group, topic, config.write_queue_nums):
            earliest = time_of(topic, queue.queue_id, queue.broker_min_offset)
            consumed = (
                time_of(topic, queue.queue_id, queue.consumer_offset - 1) if queue.consumer_offset > 0 else earliest
            )
            delay = 0
            if 0 <= queue.consumer_offset < queue.broker_offset:
                following = time_of(topic, queue.queue_id, queue.consumer_offset)
                delay = now - following if following > 0 else 0
            spans.append(
                {
                    "consumeTimeStamp": consumed,
                    "delayTime": delay,
                    "maxTimeStamp": time_of(topic, queue.queue_id, queue.broker_offset - 1),
                    "messageQueue": self._queue(config, queue.queue_id),
                    "minTimeStamp": earliest,
                }
            )
        return Response(body=javajson.dumps({"consumeTimeSpanSet": spans}))

    def groups_of_topic(self, _: Connection, __: Command, header: TopicHeader) -> Response:
        """300: online groups that subscribe, and all with offsets."""
        groups = {*self._consumers.groups_of_topic(header.topic), *self._offsets.groups_of(header.topic)}
        return Response(body=javajson.dumps({"groupList": sorted(groups)}))

    def topics_of_group(self, _: Connection, __: Command, header: GroupHeader) -> Response:
        """343."""
        topics = sorted(self._offsets.topics_of(header.group))
        return Response(body=javajson.dumps({"brokerAddr": self._identity.address, "topicList": topics}))

    def subscription(self, _: Connection, __: Command, header: GroupTopicHeader) -> Response:
        """345."""
        body: dict[str, Any] = {"group": header.group, "topic": header.topic}
        found = self._consumers.subscription(header.group, header.topic)
        if found is not None:
            body["subscriptionData"] = found
        return Response(body=javajson.dumps(body))

    # -- inside ------------------------------------------------------------------------------------------------------

    def _add(self, stats: ConsumeStats, group: str, config: TopicConfig, queue_nums: int) -> None:
        topic = config.topic_name
        key = b'{"brokerName":%b,"queueId":%%d,"topic":%b}' % (_quoted(self._broker_name), _quoted(topic))
        entry = key + b':{"brokerOffset":%d,"consumerOffset":%d,"lastTimestamp":%d,"pullOffset":%d}'
        for queue in self._progress.queues(group, topic, queue_nums):
            consumer_offset = max(queue.consumer_offset, 0)
            last = max(self._progress.store_time(topic, queue.queue_id, consumer_offset - 1), 0)
            stats.offsets.append(
                entry % (queue.queue_id, queue.broker_offset, consumer_offset, last, queue.pull_offset)
            )
            stats.diff += queue.broker_offset - consumer_offset
            stats.inflight += queue.pull_offset - consumer_offset
        stats.consume_tps += self._windows.group(group, topic, 0).minute.tps

    def _topic(self, topic: str) -> TopicConfig:
        config = self._topics.get(topic)
        if config is None:
            raise no_topic(topic)
        return config

    def _queue(self, config: TopicConfig, queue_id: int) -> MessageQueue:
        return MessageQueue(config.topic_name, self._broker_name, queue_id)


def _quoted(name: str) -> bytes:
    """A name as JSON text, fit to stand in a format."""
    return javajson.dumps(name).replace(b"%", b"%%")


def _check_size(entries: int, remedy: str) -> None:
    if entries > ENTRIES_MAX:
        raise RemotingError(ResponseCode.SYSTEM_ERROR, f"more than {ENTRIES_MAX} queues for one answer: {remedy}")

"""Code 36: a consumer gives a message back; it comes again through the group's retry topic after a growing delay, or goes to the
group's dead-letter topic when it was tried often enough (AbstractSendMessageProcessor.consumerSendMsgBack)."""

from __future__ import annotations

from functools import partial
from random import randrange
from typing import Final

from rocketmq_broker.delay_levels import Placement, schedule
from rocketmq_broker.groups import GroupTable
from rocketmq_broker.ha.promises import SendPromise
from rocketmq_broker.settings import BrokerSettings
from rocketmq_broker.statistics import BrokerStatistics
from rocketmq_broker.topics import TopicLimitReached, TopicTable
from rocketmq_common import names, permissions
from rocketmq_common.groups import SubscriptionGroupConfig
from rocketmq_common.properties import (
    PROPERTY_DELAY_LEVEL,
    PROPERTY_DLQ_ORIGIN_MESSAGE_ID,
    PROPERTY_DLQ_ORIGIN_TOPIC,
    PROPERTY_ORIGIN_MESSAGE_ID,
    PROPERTY_REAL_QUEUE_ID,
    PROPERTY_REAL_TOPIC,
    PROPERTY_RETRY_TOPIC,
    PROPERTY_UNIQUE_KEY,
    PROPERTY_WAIT_STORE_OK,
    append_property,
    find_property,
    remove_property,
)
from rocketmq_common.records import RecordError, StoredMessage, decode_message
from rocketmq_common.versions import V3_4_9
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Command, Response
from rocketmq_remoting.connection import Connection, Route
from rocketmq_remoting.errors import RemotingError
from rocketmq_remoting.headers.send import ConsumerSendMsgBackRequestHeader
from rocketmq_store.appending import NewMessage
from rocketmq_store.statuses import PutStatus
from rocketmq_store.store import MessageStore

DLQ_QUEUE_NUMS: Final = 1
FIRST_RETRY_LEVEL: Final = 3


class SendBackProcessor:
    """See the module."""

    def __init__(
        self,
        settings: BrokerSettings,
        store: MessageStore,
        topics: TopicTable,
        groups: GroupTable,
        statistics: BrokerStatistics,
        promise: SendPromise,
        *,
        delay_level_max: int,
    ) -> None:
        self._settings = settings
        self._store = store
        self._topics = topics
        self._groups = groups
        self._statistics = statistics
        self._promise = promise
        self._delay_level_max = delay_level_max

    def routes(self) -> list[Route]:
        """The rows of the table that this processor serves."""
        return [Route(RequestCode.CONSUMER_SEND_MSG_BACK, ConsumerSendMsgBackRequestHeader, self.send_back)]

    async def send_back(
        self, connection: Connection, command: Command, header: ConsumerSendMsgBackRequestHeader
    ) -> Response | None:
        """Store the message again; answer once that is as durable as the flush mode says."""
        group = self._groups.find(header.group)
        if group is None:
            raise RemotingError(
                ResponseCode.SUBSCRIPTION_GROUP_NOT_EXIST, f"subscription group not exist, {header.group}"
            )
        if not permissions.is_writeable(self._settings.broker_permission):
            raise RemotingError(
                ResponseCode.NO_PERMISSION, f"the broker[{self._settings.broker_name}] sending message is forbidden"
            )
        if group.retry_queue_nums <= 0:
            return Response()
        retry_topic = names.retry_topic(header.group)
        await self._ensure(retry_topic, group.retry_queue_nums, unit_mode=header.unit_mode)
        retry_config = self._topics.get(retry_topic)
        if retry_config is None or not permissions.is_writeable(retry_config.perm):
            raise RemotingError(ResponseCode.NO_PERMISSION, f"the topic[{retry_topic}] sending message is forbidden")
        record = self._store.message_at(header.offset)
        if record is None:
            raise RemotingError(ResponseCode.SYSTEM_ERROR, f"look message by offset failed, {header.offset}")
        try:
            message = decode_message(record)
        except RecordError as error:
            raise RemotingError(
                ResponseCode.SYSTEM_ERROR, f"message at {header.offset} cannot be read: {error}"
            ) from error
        is_dead = self._is_dead(command, header, group, message)
        if is_dead:
            await self._ensure(names.dlq_topic(header.group), DLQ_QUEUE_NUMS)
        placement = self._placement(header, group, message, is_dead)
        result = self._store.append(
            NewMessage(
                placement.topic,
                placement.queue_id,
                message.body,
                placement.properties.encode(),
                message.flag,
                message.sys_flag,
                message.born_timestamp,
                message.born_host,
                message.reconsume_times + 1,
            )
        )
        if result.status is not PutStatus.PUT_OK:
            raise RemotingError(ResponseCode.SYSTEM_ERROR, f"{result.status.name}: {result.reason}")
        counters = self._statistics.group(
            header.group, find_property(message.properties, PROPERTY_RETRY_TOPIC) or message.topic
        )
        self._statistics.topic(names.dlq_topic(header.group) if is_dead else retry_topic).note_put(len(message.body))
        if is_dead:
            counters.dlq_nums += 1
        else:
            counters.send_back_nums += 1
        # The stored copy asks nobody to wait (WAIT=false), but the consumer forgets the message after this answer.
        self._promise.when_kept(result.end_offset, partial(_answer, connection, command))
        return None

    def _is_dead(
        self,
        command: Command,
        header: ConsumerSendMsgBackRequestHeader,
        group: SubscriptionGroupConfig,
        message: StoredMessage,
    ) -> bool:
        times_max = group.retry_max_times
        if command.version >= V3_4_9 and header.max_reconsume_times is not None:
            times_max = header.max_reconsume_times
        return message.reconsume_times >= times_max or header.delay_level < 0

    def _placement(
        self,
        header: ConsumerSendMsgBackRequestHeader,
        group: SubscriptionGroupConfig,
        message: StoredMessage,
        is_dead: bool,
    ) -> Placement:
        properties = message.properties
        # Traces of an earlier way through the schedule topic belong to that copy.
        for name in (PROPERTY_DELAY_LEVEL, PROPERTY_REAL_TOPIC, PROPERTY_REAL_QUEUE_ID, PROPERTY_WAIT_STORE_OK):
            properties = remove_property(properties, name)
        origin_topic = find_property(properties, PROPERTY_RETRY_TOPIC)
        if origin_topic is None:
            origin_topic = message.topic
            properties = append_property(properties, PROPERTY_RETRY_TOPIC, origin_topic)
        if find_property(properties, PROPERTY_ORIGIN_MESSAGE_ID) is None:
            properties = append_property(properties, PROPERTY_ORIGIN_MESSAGE_ID, message.message_id)
        properties = append_property(properties, PROPERTY_WAIT_STORE_OK, "false")
        if is_dead:
            unique_key = find_property(properties, PROPERTY_UNIQUE_KEY)
            for name in (PROPERTY_DLQ_ORIGIN_TOPIC, PROPERTY_DLQ_ORIGIN_MESSAGE_ID):
                properties = remove_property(properties, name)
            properties = append_property(properties, PROPERTY_DLQ_ORIGIN_TOPIC, origin_topic)
            if unique_key is not None:
                properties = append_property(properties, PROPERTY_DLQ_ORIGIN_MESSAGE_ID, unique_key)
            return Placement(names.dlq_topic(header.group), randrange(DLQ_QUEUE_NUMS), properties)
        topic, queue_id = names.retry_topic(header.group), randrange(group.retry_queue_nums)
        level = header.delay_level or FIRST_RETRY_LEVEL + message.reconsume_times
        return schedule(topic, queue_id, properties, level, self._delay_level_max)

    async def _ensure(self, topic: str, queue_nums: int, *, unit_mode: bool = False) -> None:
        if self._topics.get(topic) is None:
            try:
                await self._topics.ensure(topic, queue_nums, unit_mode=unit_mode)
            except (OSError, TopicLimitReached) as error:
                raise RemotingError(ResponseCode.SYSTEM_ERROR, f"topic[{topic}] cannot be created: {error}") from error


def _answer(connection: Connection, command: Command, status: PutStatus) -> None:
    if status is PutStatus.PUT_OK:
        connection.respond(command, Response())
    else:
        connection.respond(command, Response(ResponseCode.SYSTEM_ERROR, remark=status.name))

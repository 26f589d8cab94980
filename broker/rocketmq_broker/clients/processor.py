"""Requests of clients about themselves: 34 heartbeat, 35 unregister, 38 member list, 46 check, 41 and 42 queue locks."""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from typing import Any, TypeVar

import msgspec

from rocketmq_broker.clients.consumers import Consumers
from rocketmq_broker.clients.locks import QueueLocks
from rocketmq_broker.clients.producers import Producers
from rocketmq_broker.filters.errors import ExpressionError
from rocketmq_broker.filters.subscriptions import filter_for
from rocketmq_broker.filters.tags import is_tag_expression
from rocketmq_broker.groups import GroupTable
from rocketmq_broker.settings import BrokerSettings
from rocketmq_broker.topics import TopicTable
from rocketmq_common import names
from rocketmq_remoting.bodies import (
    CheckClientRequestBody,
    ConsumerListBody,
    HeartbeatData,
    LockBatchRequestBody,
    LockBatchResponseBody,
    SubscriptionData,
)
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Command, Response
from rocketmq_remoting.connection import Connection, Route
from rocketmq_remoting.errors import RemotingError
from rocketmq_remoting.headers.clients import ConsumerGroupHeader, UnregisterClientRequestHeader

logger = logging.getLogger(__name__)

B = TypeVar("B", bound=msgspec.Struct)


def decode_body(command: Command, body_type: type[B]) -> B:
    """The request's body as ``body_type``; raises RemotingError naming the field that is wrong."""
    try:
        return msgspec.json.decode(command.body, type=body_type, strict=False)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RemotingError(ResponseCode.SYSTEM_ERROR, f"body of request {command.code}: {error}") from error


class ClientProcessor:
    """See the module."""

    def __init__(
        self,
        settings: BrokerSettings,
        topics: TopicTable,
        groups: GroupTable,
        consumers: Consumers,
        producers: Producers,
        locks: QueueLocks,
    ) -> None:
        self._settings = settings
        self._topics = topics
        self._groups = groups
        self._consumers = consumers
        self._producers = producers
        self._locks = locks

    def routes(self) -> list[Route]:
        """The rows of the table that this processor serves."""
        return [
            Route(RequestCode.HEART_BEAT, None, self.heartbeat),
            Route(RequestCode.UNREGISTER_CLIENT, UnregisterClientRequestHeader, self.unregister),
            Route(RequestCode.GET_CONSUMER_LIST_BY_GROUP, ConsumerGroupHeader, self.consumer_list),
            Route(RequestCode.CHECK_CLIENT_CONFIG, None, self.check_client),
            Route(RequestCode.LOCK_BATCH_MQ, None, self.lock),
            Route(RequestCode.UNLOCK_BATCH_MQ, None, self.unlock),
        ]

    def heartbeat(
        self, connection: Connection, command: Command, header: Any
    ) -> Response | Awaitable[Response | None] | None:
        """Register the client's groups; answers after a new group's retry topic exists and is known to the name servers."""
        data = decode_body(command, HeartbeatData)
        language = command.language or "OTHER"
        for producer in data.producer_data_set:
            self._producers.register(producer.group_name, connection, data.client_id, language, command.version)
        missing: list[tuple[str, int, bool]] = []
        for consumer in data.consumer_data_set:
            config = self._groups.find(consumer.group_name)
            if config is None:
                logger.warning(
                    "group %s of client %s does not exist and may not be created", consumer.group_name, data.client_id
                )
                continue
            retry = names.retry_topic(consumer.group_name)
            if config.retry_queue_nums > 0 and self._topics.get(retry) is None:
                missing.append((retry, config.retry_queue_nums, consumer.unit_mode))
            keep = data.without_sub and data.heartbeat_fingerprint != 0
            self._consumers.register(
                consumer, connection, data.client_id, language, command.version, keep_subscriptions=keep
            )
        return self._answer_with_topics(missing) if missing else Response()

    async def _answer_with_topics(self, missing: list[tuple[str, int, bool]]) -> Response:
        for topic, queue_nums, unit_mode in missing:
            try:
                await self._topics.ensure(topic, queue_nums, unit_mode=unit_mode)
            except OSError as error:
                # The client is registered; the next heartbeat tries again.
                logger.error("retry topic %s cannot be created: %s", topic, error)
        return Response()

    def unregister(self, connection: Connection, command: Command, header: UnregisterClientRequestHeader) -> Response:
        """The client leaves a group in an orderly way."""
        if header.producer_group is not None:
            self._producers.unregister(header.producer_group, connection)
        if header.consumer_group is not None:
            self._consumers.unregister(header.consumer_group, connection)
        return Response()

    def consumer_list(self, connection: Connection, command: Command, header: ConsumerGroupHeader) -> Response:
        """Client ids of a group, for the members' rebalancing."""
        group = self._consumers.get(header.consumer_group)
        if group is None or not group.members:
            raise RemotingError(ResponseCode.SYSTEM_ERROR, f"no consumer for this group, {header.consumer_group}")
        return Response(body=msgspec.json.encode(ConsumerListBody(consumer_id_list=group.client_ids())))

    def check_client(self, connection: Connection, command: Command, header: Any) -> Response:
        """Whether this broker can filter as a starting consumer wants."""
        subscription: SubscriptionData = decode_body(command, CheckClientRequestBody).subscription_data
        if not is_tag_expression(subscription.expression_type):
            if not self._settings.enable_property_filter:
                raise RemotingError(
                    ResponseCode.SYSTEM_ERROR,
                    f"The broker does not support consumer to filter message by {subscription.expression_type}",
                )
            try:
                filter_for(subscription)
            except ExpressionError as error:
                raise RemotingError(
                    ResponseCode.SUBSCRIPTION_PARSE_FAILED, f"parse the consumer's subscription failed: {error}"
                ) from error
        return Response()

    def lock(self, connection: Connection, command: Command, header: Any) -> Response:
        """Give queues to an orderly consumer."""
        body = decode_body(command, LockBatchRequestBody)
        granted = self._locks.lock(body.consumer_group, body.client_id, body.mq_set)
        return Response(body=msgspec.json.encode(LockBatchResponseBody(lock_ok_mq_set=granted)))

    def unlock(self, connection: Connection, command: Command, header: Any) -> Response:
        """Take queues back."""
        body = decode_body(command, LockBatchRequestBody)
        self._locks.unlock(body.consumer_group, body.client_id, body.mq_set)
        return Response()

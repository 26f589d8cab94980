"""Requests that brokers send to consumers on the connections these opened (ClientRemotingProcessor)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from rocketmq_client.messages import MessageView, view_messages
from rocketmq_common import javajson
from rocketmq_common.records import RecordError
from rocketmq_remoting.bodies import ConsumerData, MessageQueue
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Command, Response
from rocketmq_remoting.connection import Connection, Route
from rocketmq_remoting.errors import RemotingError
from rocketmq_remoting.headers.clients import (
    ConsumeMessageDirectlyRequestHeader,
    ConsumerGroupHeader,
    GetConsumerRunningInfoRequestHeader,
    GetConsumerStatusRequestHeader,
    ResetOffsetRequestHeader,
)

logger = logging.getLogger(__name__)


class DirectResult(msgspec.Struct, rename="camel"):
    """Body of the answer to CONSUME_MESSAGE_DIRECTLY."""

    consume_result: str
    order: bool = False
    auto_commit: bool = True
    remark: str | None = None
    spent_time_mills: int = 0


class ConsumerSide(Protocol):
    """What the client instance, and brokers through it, need of a consumer."""

    @property
    def group(self) -> str:
        """Its consumer group."""
        ...

    def heartbeat_data(self) -> ConsumerData:
        """How it presents itself to brokers."""
        ...

    def wake_rebalance(self) -> None:
        """Members or queues may have changed."""
        ...

    async def reset_offsets(self, topic: str, offsets: Mapping[MessageQueue, int]) -> None:
        """Go on from these offsets."""
        ...

    def offsets_of(self, topic: str) -> dict[MessageQueue, int]:
        """Its progress in memory."""
        ...

    def running_info(self) -> bytes:
        """ConsumerRunningInfo as Java's JSON."""
        ...

    async def consume_directly(self, message: MessageView, broker_name: str) -> DirectResult:
        """Have the listener process one message outside the normal course."""
        ...


def callback_routes(consumers: Mapping[str, ConsumerSide]) -> list[Route]:
    """The table of a client instance; ``consumers`` by group is looked at anew for each request."""

    def consumer_of(group: str) -> ConsumerSide:
        consumer = consumers.get(group)
        if consumer is None:
            raise RemotingError(ResponseCode.SYSTEM_ERROR, f"The Consumer Group <{group}> not exist in this consumer")
        return consumer

    def members_changed(connection: Connection, command: Command, header: ConsumerGroupHeader) -> Response:
        del connection, command
        consumer_of(header.consumer_group).wake_rebalance()
        return Response()

    async def reset(connection: Connection, command: Command, header: ResetOffsetRequestHeader) -> Response:
        offsets = parse_offset_table(command.body)
        logger.info("%s resets offsets of group %s, topic %s", connection.remote, header.group, header.topic)
        await consumer_of(header.group).reset_offsets(header.topic, offsets)
        return Response()

    def status(connection: Connection, command: Command, header: GetConsumerStatusRequestHeader) -> Response:
        del connection, command
        offsets = consumer_of(header.group).offsets_of(header.topic)
        table = javajson.dumps_object_keyed(offsets.items())
        return Response(body=b'{"messageQueueTable":' + table + b"}")

    def running_info(connection: Connection, command: Command, header: GetConsumerRunningInfoRequestHeader) -> Response:
        del connection, command
        return Response(body=consumer_of(header.consumer_group).running_info())

    async def directly(
        connection: Connection, command: Command, header: ConsumeMessageDirectlyRequestHeader
    ) -> Response:
        del connection
        broker_name = header.broker_name or ""
        try:
            message = next(view_messages(command.body, broker_name), None)
        except RecordError as error:
            raise RemotingError(ResponseCode.MESSAGE_ILLEGAL, str(error)) from error
        if message is None:
            raise RemotingError(ResponseCode.MESSAGE_ILLEGAL, "the request carries no message")
        result = await consumer_of(header.consumer_group).consume_directly(message, broker_name)
        return Response(body=msgspec.json.encode(result))

    handlers: list[tuple[RequestCode, Any, Callable[..., Any]]] = [
        (RequestCode.NOTIFY_CONSUMER_IDS_CHANGED, ConsumerGroupHeader, members_changed),
        (RequestCode.RESET_CONSUMER_CLIENT_OFFSET, ResetOffsetRequestHeader, reset),
        (RequestCode.GET_CONSUMER_STATUS_FROM_CLIENT, GetConsumerStatusRequestHeader, status),
        (RequestCode.GET_CONSUMER_RUNNING_INFO, GetConsumerRunningInfoRequestHeader, running_info),
        (RequestCode.CONSUME_MESSAGE_DIRECTLY, ConsumeMessageDirectlyRequestHeader, directly),
    ]
    return [Route(code, header, handle) for code, header, handle in handlers]


def parse_offset_table(body: bytes) -> dict[MessageQueue, int]:
    """Offsets by queue of a reset request: a map keyed by queue objects (Java), or a list of rows (C++ admin tools)."""
    try:
        table = javajson.loads(body).get("offsetTable") or {}
        if isinstance(table, list):
            return {_queue(row): int(row["offset"]) for row in table}
        return {_queue(key.as_dict()): int(offset) for key, offset in table.items()}
    except (javajson.JavaJsonError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise RemotingError(ResponseCode.SYSTEM_ERROR, f"the offset table cannot be read: {error}") from error


def _queue(fields: Mapping[str, Any]) -> MessageQueue:
    return MessageQueue(str(fields["topic"]), str(fields["brokerName"]), int(fields["queueId"]))

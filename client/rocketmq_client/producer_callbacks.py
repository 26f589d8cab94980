"""Requests that brokers send to producers on the connections these opened: transaction checks (39) and replies (326)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from rocketmq_client.messages import MessageView, view_messages
from rocketmq_common.properties import PROPERTY_CORRELATION_ID, PROPERTY_PRODUCER_GROUP, find_property
from rocketmq_common.records import RecordError, StoredMessage
from rocketmq_remoting.bodies import MessageQueue
from rocketmq_remoting.codes import RequestCode
from rocketmq_remoting.commands import Command, Response
from rocketmq_remoting.connection import Connection, Route
from rocketmq_remoting.headers.clients import CheckTransactionStateRequestHeader
from rocketmq_remoting.headers.replies import PushReplyMessageRequestHeader

logger = logging.getLogger(__name__)


class ProducerSide(Protocol):
    """What the instance needs of a producer."""

    @property
    def group(self) -> str:
        """Its producer group."""
        ...


@runtime_checkable
class TransactionSide(Protocol):
    """What it needs of one that can say how a transaction ended."""

    def take_check(
        self, connection: Connection, header: CheckTransactionStateRequestHeader, message: MessageView
    ) -> None:
        """Find the answer and send it on ``connection``; returns at once."""
        ...


def producer_routes(
    producers: Mapping[str, list[ProducerSide]], requests: Mapping[str, asyncio.Future[MessageView]]
) -> list[Route]:
    """The rows of a client instance's table; ``producers`` by group and ``requests`` are looked at anew for each request."""

    def check(connection: Connection, command: Command, header: CheckTransactionStateRequestHeader) -> Response | None:
        try:
            message = next(view_messages(command.body, header.broker_name or ""), None)
        except RecordError as error:
            logger.warning("a transaction check of %s cannot be read: %s", connection.remote, error)
            return Response()
        group = "" if message is None else message.properties.get(PROPERTY_PRODUCER_GROUP, "")
        able = next((one for one in producers.get(group, ()) if isinstance(one, TransactionSide)), None)
        if message is None or able is None:
            # The broker asks again, perhaps another client.
            logger.warning(
                "%s asks about a transaction of group %s, which has no producer here", connection.remote, group
            )
            return Response()
        able.take_check(connection, header, message)
        return Response()

    def take_reply(connection: Connection, command: Command, header: PushReplyMessageRequestHeader) -> Response:
        future = requests.get(find_property(header.properties, PROPERTY_CORRELATION_ID) or "")
        if future is None or future.done():
            logger.info("%s pushes a reply that nobody waits for (any more)", connection.remote)
            return Response()
        stored = StoredMessage(
            topic=header.topic,
            body=command.body,
            properties=header.properties,
            queue_id=header.queue_id,
            flag=header.flag,
            sys_flag=header.sys_flag,
            born_timestamp=header.born_timestamp,
            store_timestamp=header.store_timestamp,
            reconsume_times=header.reconsume_times or 0,
        )
        future.set_result(MessageView(stored, MessageQueue(header.topic, "", header.queue_id)))
        return Response()

    return [
        Route(RequestCode.CHECK_TRANSACTION_STATE, CheckTransactionStateRequestHeader, check),
        Route(RequestCode.PUSH_REPLY_MESSAGE_TO_CLIENT, PushReplyMessageRequestHeader, take_reply),
    ]

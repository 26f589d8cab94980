"""Transactions and request-reply of the fake broker: half messages wait in memory, `ask` is the check that brokers make by time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from rocketmq_common import names, sysflags
from rocketmq_common import properties as props
from rocketmq_common.records import StoredMessage, encode_message
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Command, Response
from rocketmq_remoting.connection import Connection, Route
from rocketmq_remoting.errors import RemotingError
from rocketmq_remoting.headers.clients import CheckTransactionStateRequestHeader
from rocketmq_remoting.headers.replies import PushReplyMessageRequestHeader
from rocketmq_remoting.headers.send import SendMessageRequestHeader, SendMessageResponseHeader
from rocketmq_remoting.headers.transactions import EndTransactionRequestHeader

if TYPE_CHECKING:
    from rocketmq_testkit.fake_broker import FakeBroker


class FakeTransactions:
    """``halves``: undecided messages by log offset. ``ends``: every END_TRANSACTION in the order received."""

    def __init__(self, broker: FakeBroker) -> None:
        self._broker = broker
        self.halves: dict[int, StoredMessage] = {}
        self.ends: list[EndTransactionRequestHeader] = []

    def routes(self) -> list[Route]:
        """The rows of the fake broker's table."""
        return [
            Route(RequestCode.END_TRANSACTION, EndTransactionRequestHeader, self._end),
            Route(RequestCode.SEND_REPLY_MESSAGE_V2, SendMessageRequestHeader, self._reply),
        ]

    def put_half(self, message: StoredMessage) -> None:
        """Keep ``message`` for its topic and queue until its transaction ends; it gets the half message's place."""
        half = msgspec.structs.replace(
            message, topic=names.TRANS_HALF_TOPIC, queue_id=0, sys_flag=message.sys_flag & ~sysflags.TRANSACTION_MASK
        )
        self._broker.put(half)
        message.queue_offset, message.physical_offset = half.queue_offset, half.physical_offset
        message.store_host, message.store_timestamp = half.store_host, half.store_timestamp
        self.halves[half.physical_offset] = message

    def ask(self, physical_offset: int) -> None:
        """Ask some producer of the group about an undecided message, as a broker does after `transactionTimeOut`."""
        message = self.halves[physical_offset]
        group = props.find_property(message.properties, props.PROPERTY_PRODUCER_GROUP) or ""
        connection = next(iter(self._broker.producers[group].values()))
        key = props.find_property(message.properties, props.PROPERTY_UNIQUE_KEY)
        header = CheckTransactionStateRequestHeader(
            topic=message.topic,
            tran_state_table_offset=message.queue_offset,
            commit_log_offset=physical_offset,
            msg_id=key,
            transaction_id=key,
            offset_msg_id=message.message_id,
            broker_name=self._broker.name,
        )
        connection.notify(RequestCode.CHECK_TRANSACTION_STATE, header, encode_message(message))

    def _end(self, connection: Connection, command: Command, header: EndTransactionRequestHeader) -> Response:
        del connection, command
        self.ends.append(header)
        if header.commit_or_rollback != sysflags.TRANSACTION_NOT:
            message = self.halves.pop(header.commit_log_offset, None)
            if message is not None and header.commit_or_rollback == sysflags.TRANSACTION_COMMIT:
                committed = message.sys_flag & ~sysflags.TRANSACTION_MASK | sysflags.TRANSACTION_COMMIT
                self._broker.put(msgspec.structs.replace(message, sys_flag=committed))
        return Response()

    async def _reply(self, connection: Connection, command: Command, header: SendMessageRequestHeader) -> Response:
        client_id = props.find_property(header.properties, props.PROPERTY_REPLY_TO_CLIENT) or ""
        known = {name: line for members in self._broker.producers.values() for name, line in members.items()}
        if client_id not in known:
            raise RemotingError(
                ResponseCode.SYSTEM_ERROR, f"push reply message fail, channel of <{client_id}> not found."
            )
        push = PushReplyMessageRequestHeader(
            producer_group=header.producer_group,
            topic=header.topic,
            default_topic=header.default_topic,
            default_topic_queue_nums=header.default_topic_queue_nums,
            queue_id=header.queue_id,
            sys_flag=header.sys_flag,
            born_timestamp=header.born_timestamp,
            flag=header.flag,
            born_host=connection.remote,
            store_host=self._broker.address,
            store_timestamp=header.born_timestamp,
            properties=header.properties,
        )
        answer = await known[client_id].invoke(RequestCode.PUSH_REPLY_MESSAGE_TO_CLIENT, push, command.body)
        return Response(answer.code, SendMessageResponseHeader(msg_id="0", queue_id=header.queue_id, queue_offset=0))

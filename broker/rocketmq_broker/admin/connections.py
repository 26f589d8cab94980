"""Clients: 203, 204 and 328 list them, 307 and 309 are forwarded to one of them."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, Final

from rocketmq_broker.admin.requests import invalid
from rocketmq_broker.clients.consumers import Consumers
from rocketmq_broker.clients.members import Member
from rocketmq_broker.clients.producers import Producers
from rocketmq_broker.groups import GroupTable
from rocketmq_broker.topics import TopicTable
from rocketmq_common import javajson, message_ids
from rocketmq_common.clock import Clock
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Command, Response
from rocketmq_remoting.connection import Connection, Route
from rocketmq_remoting.errors import RemotingConnectError, RemotingError, RemotingOverloaded, RemotingTimeout
from rocketmq_remoting.headers.clients import (
    ConsumeMessageDirectlyRequestHeader,
    ConsumerGroupHeader,
    GetConsumerRunningInfoRequestHeader,
    ProducerGroupHeader,
)
from rocketmq_store.store import MessageStore

logger = logging.getLogger(__name__)

FORWARD_TIMEOUT_MS: Final = 10_000
# Versions before it do not know these requests (V3_1_8_SNAPSHOT).
FORWARD_VERSION_MIN: Final = 62


class ClientReports:
    """See the module."""

    def __init__(
        self,
        broker_name: str,
        topics: TopicTable,
        groups: GroupTable,
        consumers: Consumers,
        producers: Producers,
        store: MessageStore,
        clock: Clock,
    ) -> None:
        self._broker_name = broker_name
        self._topics = topics
        self._groups = groups
        self._consumers = consumers
        self._producers = producers
        self._store = store
        self._clock = clock

    def routes(self) -> list[Route]:
        """The rows of the table that this part serves."""
        code = RequestCode
        return [
            Route(code.GET_CONSUMER_CONNECTION_LIST, ConsumerGroupHeader, self.consumers),
            Route(code.GET_PRODUCER_CONNECTION_LIST, ProducerGroupHeader, self.producers),
            Route(code.GET_ALL_PRODUCER_INFO, None, self.all_producers),
            Route(code.GET_CONSUMER_RUNNING_INFO, GetConsumerRunningInfoRequestHeader, self.running_info),
            Route(code.CONSUME_MESSAGE_DIRECTLY, ConsumeMessageDirectlyRequestHeader, self.consume_directly),
        ]

    def consumers(self, _: Connection, __: Command, header: ConsumerGroupHeader) -> Response:
        """203."""
        group = self._consumers.get(header.consumer_group)
        if group is None or not group.members:
            raise RemotingError(
                ResponseCode.CONSUMER_NOT_ONLINE, f"the consumer group[{header.consumer_group}] not online"
            )
        body = {
            "connectionSet": _connections(group.members.values()),
            "consumeFromWhere": group.consume_from_where,
            "consumeType": group.consume_type,
            "messageModel": group.message_model,
            "subscriptionTable": group.subscriptions,
        }
        return Response(body=javajson.dumps(body))

    def producers(self, _: Connection, __: Command, header: ProducerGroupHeader) -> Response:
        """204."""
        members = self._producers.members(header.producer_group)
        if not members:
            raise RemotingError(ResponseCode.SYSTEM_ERROR, f"the producer group[{header.producer_group}] not exist")
        return Response(body=javajson.dumps({"connectionSet": _connections(members)}))

    def all_producers(self, _: Connection, __: Command, ___: None) -> Response:
        """328."""
        now_ms, now = self._clock.now_ms(), self._clock.monotonic()
        data: dict[str, list[dict[str, Any]]] = {
            group: [
                {
                    "clientId": member.client_id,
                    "language": member.language,
                    "lastUpdateTimestamp": now_ms - int((now - member.last_heartbeat) * 1000),
                    "remoteIP": member.address,
                    "version": member.version,
                }
                for member in members.values()
            ]
            for group, members in self._producers.groups.items()
        }
        return Response(body=javajson.dumps({"data": data}))

    async def running_info(
        self, _: Connection, command: Command, header: GetConsumerRunningInfoRequestHeader
    ) -> Response:
        """307: the client's answer as it is."""
        member = self._member(header.consumer_group, header.client_id)
        return await self._forward(member, header.consumer_group, command, command.ext_fields(), command.body)

    async def consume_directly(
        self, _: Connection, command: Command, header: ConsumeMessageDirectlyRequestHeader
    ) -> Response:
        """309: hand one stored message to one client and return what became of it."""
        member = self._member(header.consumer_group, header.client_id or "")
        ext = command.ext_fields() | {"brokerName": self._broker_name}
        body = command.body
        if header.msg_id:
            try:
                offset = message_ids.parse_offset_message_id(header.msg_id).physical_offset
            except ValueError as error:
                raise invalid(str(error)) from error
            record = self._store.message_at(offset)
            if record is None:
                raise RemotingError(ResponseCode.SYSTEM_ERROR, f"can not find message by the offset, {offset}")
            body = bytes(record)
        group = self._groups.get(header.consumer_group)
        ext["groupSysFlag"] = str(0 if group is None else group.group_sys_flag)
        topic = self._topics.get(header.topic) if header.topic else None
        if topic is not None:
            ext["topicSysFlag"] = str(topic.topic_sys_flag)
        return await self._forward(member, header.consumer_group, command, ext, body)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _member(self, group: str, client_id: str) -> Member:
        state = self._consumers.get(group)
        member = None if state is None else state.find(client_id)
        if member is None:
            raise RemotingError(ResponseCode.SYSTEM_ERROR, f"The Consumer <{group}> <{client_id}> not online")
        if member.version < FORWARD_VERSION_MIN:
            raise RemotingError(
                ResponseCode.SYSTEM_ERROR,
                f"The Consumer <{client_id}> Version <{member.version_description}> too low to finish, "
                "please upgrade it to V3_1_8_SNAPSHOT",
            )
        return member

    async def _forward(
        self, member: Member, group: str, command: Command, ext: dict[str, str], body: bytes
    ) -> Response:
        try:
            answer = await member.connection.invoke(command.code, ext, body, timeout_ms=FORWARD_TIMEOUT_MS)
        except RemotingTimeout as error:
            raise RemotingError(
                ResponseCode.CONSUME_MSG_TIMEOUT, f"consumer <{group}> <{member.client_id}> Timeout: {error}"
            ) from error
        except (RemotingConnectError, RemotingOverloaded) as error:
            raise RemotingError(
                ResponseCode.SYSTEM_ERROR, f"invoke consumer <{group}> <{member.client_id}> Exception: {error}"
            ) from error
        return Response(answer.code, answer.ext_fields(), answer.remark, answer.body)


def _connections(members: Iterable[Member]) -> list[dict[str, Any]]:
    return [
        {
            "clientAddr": member.address,
            "clientId": member.client_id,
            "language": member.language,
            "version": member.version,
        }
        for member in members
    ]

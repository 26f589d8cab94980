"""Request-reply: codes 324 and 325. A reply is pushed (326) to the client whose id its REPLY_TO_CLIENT names, on that client's own
connection; a copy is stored in the reply topic unless `storeReplyMessageEnable` is off (ReplyMessageProcessor)."""

from __future__ import annotations

import logging
from random import randrange
from typing import Final

from rocketmq_broker.clients.producers import Producers
from rocketmq_broker.identity import Identity
from rocketmq_broker.put_answers import refusal
from rocketmq_broker.settings import BrokerRole, BrokerSettings
from rocketmq_broker.statistics import BrokerStatistics
from rocketmq_broker.topics import TopicTable
from rocketmq_common import names
from rocketmq_common.clock import Clock
from rocketmq_common.properties import (
    PROPERTY_CLUSTER,
    PROPERTY_MSG_REGION,
    PROPERTY_REPLY_TO_CLIENT,
    append_property,
    find_property,
    remove_property,
)
from rocketmq_common.sysflags import TRANSACTION_MASK
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Command, Response
from rocketmq_remoting.connection import Connection, Route
from rocketmq_remoting.errors import RemotingConnectError, RemotingError, RemotingOverloaded, RemotingTimeout
from rocketmq_remoting.headers.replies import PushReplyMessageRequestHeader
from rocketmq_remoting.headers.send import (
    SendMessageRequestHeader,
    SendMessageRequestHeaderV1,
    SendMessageResponseHeader,
)
from rocketmq_store.appending import NewMessage
from rocketmq_store.statuses import PutStatus
from rocketmq_store.store import MessageStore

logger = logging.getLogger(__name__)

PUSH_TIMEOUT_MS: Final = 10_000
PROPERTY_PUSH_REPLY_TIME: Final = "PUSH_REPLY_TIME"
# What clients are told of a reply that is not stored.
NOT_STORED_ID: Final = "0"


class ReplyProcessor:
    """See the module."""

    def __init__(
        self,
        settings: BrokerSettings,
        identity: Identity,
        store: MessageStore,
        topics: TopicTable,
        producers: Producers,
        statistics: BrokerStatistics,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._identity = identity
        self._store = store
        self._topics = topics
        self._producers = producers
        self._statistics = statistics
        self._clock = clock

    def routes(self) -> list[Route]:
        """The rows of the table that this processor serves."""
        return [
            Route(RequestCode.SEND_REPLY_MESSAGE, SendMessageRequestHeaderV1, self.reply),
            Route(RequestCode.SEND_REPLY_MESSAGE_V2, SendMessageRequestHeader, self.reply),
        ]

    async def reply(
        self,
        connection: Connection,
        command: Command,
        header: SendMessageRequestHeader | SendMessageRequestHeaderV1,
    ) -> Response:
        """Push the reply to the requester; the answer tells the replier whether that client took it."""
        queue_id = self._check(header)
        properties = header.properties
        for name in (PROPERTY_MSG_REGION, PROPERTY_CLUSTER, PROPERTY_PUSH_REPLY_TIME):
            properties = remove_property(properties, name)
        now_ms = self._clock.now_ms()
        properties = append_property(properties, PROPERTY_MSG_REGION, self._settings.region_id)
        properties = append_property(properties, PROPERTY_CLUSTER, self._settings.broker_cluster_name)
        pushed = append_property(properties, PROPERTY_PUSH_REPLY_TIME, str(now_ms))
        problem = await self._push(connection, command, header, queue_id, pushed, now_ms)
        answer = SendMessageResponseHeader(msg_id=NOT_STORED_ID, queue_id=queue_id, queue_offset=0)
        if self._settings.store_reply_message_enable:
            self._keep(connection, command, header, queue_id, properties, answer)
        if problem is not None:
            return Response(ResponseCode.SYSTEM_ERROR, answer, problem)
        return Response(0, answer)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _check(self, header: SendMessageRequestHeader | SendMessageRequestHeaderV1) -> int:
        """The queue for the copy. Raises RemotingError, with the codes of a send."""
        settings, topic = self._settings, header.topic
        if settings.broker_role is BrokerRole.SLAVE:
            raise RemotingError(ResponseCode.SYSTEM_BUSY, "[REJECTREQUEST]system busy: this broker is a slave")
        start = settings.start_accept_send_request_time_stamp
        if self._clock.now_ms() < start:
            raise RemotingError(ResponseCode.SYSTEM_ERROR, f"broker unable to service, until {start}")
        if names.is_closed_to_clients(topic):
            raise RemotingError(ResponseCode.NO_PERMISSION, f"Sending message to topic[{topic}] is forbidden.")
        config = self._topics.get(topic)
        if config is None:
            raise RemotingError(ResponseCode.TOPIC_NOT_EXIST, f"topic[{topic}] not exist, apply first please!")
        if header.queue_id >= config.queue_nums_max:
            raise RemotingError(
                ResponseCode.INVALID_PARAMETER,
                f"request queueId[{header.queue_id}] is illegal, topic[{topic}] has {config.queue_nums_max} queues",
            )
        return header.queue_id if header.queue_id >= 0 else randrange(config.write_queue_nums or 1)

    async def _push(
        self,
        connection: Connection,
        command: Command,
        header: SendMessageRequestHeader | SendMessageRequestHeaderV1,
        queue_id: int,
        properties: str,
        now_ms: int,
    ) -> str | None:
        """Why the requester did not take the reply; ``None`` when it did."""
        client_id = find_property(properties, PROPERTY_REPLY_TO_CLIENT)
        if client_id is None:
            return f"{PROPERTY_REPLY_TO_CLIENT} is null, can not reply message"
        member = self._producers.find(client_id)
        if member is None:
            return f"push reply message fail, channel of <{client_id}> not found."
        push = PushReplyMessageRequestHeader(
            producer_group=header.producer_group,
            topic=header.topic,
            default_topic=header.default_topic,
            default_topic_queue_nums=header.default_topic_queue_nums,
            queue_id=queue_id,
            sys_flag=header.sys_flag,
            born_timestamp=header.born_timestamp,
            flag=header.flag,
            born_host=connection.remote,
            store_host=self._identity.address,
            store_timestamp=now_ms,
            properties=properties,
            reconsume_times=header.reconsume_times,
            unit_mode=header.unit_mode,
        )
        try:
            answer = await member.connection.invoke(
                RequestCode.PUSH_REPLY_MESSAGE_TO_CLIENT, push, command.body, timeout_ms=PUSH_TIMEOUT_MS
            )
        except (RemotingConnectError, RemotingTimeout, RemotingOverloaded) as error:
            return f"push reply message to {client_id} fail: {error}"
        if answer.code != ResponseCode.SUCCESS:
            return f"push reply message to {client_id} fail: {answer.remark}"
        return None

    def _keep(
        self,
        connection: Connection,
        command: Command,
        header: SendMessageRequestHeader | SendMessageRequestHeaderV1,
        queue_id: int,
        properties: str,
        answer: SendMessageResponseHeader,
    ) -> None:
        """Store the copy and tell its place; a reply that was pushed is not undone by a store that refuses."""
        result = self._store.append(
            NewMessage(
                header.topic,
                queue_id,
                command.body,
                properties.encode(),
                header.flag,
                header.sys_flag & ~TRANSACTION_MASK,
                header.born_timestamp,
                connection.peer_host,
                header.reconsume_times,
            )
        )
        counters = self._statistics.topic(header.topic)
        if result.status is not PutStatus.PUT_OK:
            counters.put_failed += 1
            logger.warning("a reply is not kept: %s", refusal(result.status, result.reason).remark)
            return
        counters.note_put(len(command.body))
        answer.msg_id = f"{self._identity.message_id_prefix.decode()}{result.physical_offset:016X}"
        answer.queue_offset = result.queue_offset

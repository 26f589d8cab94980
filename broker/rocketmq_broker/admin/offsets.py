"""Moving groups: 222 reset, 314 clone, 308 correction offsets, 43 all offsets, 223 offsets as clients see them."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from rocketmq_broker.admin.progress import Progress
from rocketmq_broker.admin.requests import invalid
from rocketmq_broker.clients.consumers import Consumers
from rocketmq_broker.clients.members import Member
from rocketmq_broker.consumer_offsets import ConsumerOffsets
from rocketmq_broker.groups import GroupTable
from rocketmq_broker.settings import BrokerRole, BrokerSettings
from rocketmq_broker.topics import TopicTable
from rocketmq_common import javajson
from rocketmq_common.topics import TopicConfig
from rocketmq_remoting.bodies import MessageQueue
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Command, Response
from rocketmq_remoting.connection import Connection, Route
from rocketmq_remoting.errors import RemotingConnectError, RemotingError, RemotingOverloaded, RemotingTimeout
from rocketmq_remoting.headers.admin import CloneGroupOffsetRequestHeader, QueryCorrectionOffsetRequestHeader
from rocketmq_remoting.headers.clients import GetConsumerStatusRequestHeader, ResetOffsetRequestHeader
from rocketmq_store.store import MessageStore

logger = logging.getLogger(__name__)

CLIENT_STATUS_TIMEOUT_MS: Final = 5000
# Versions before it do not know the request (V3_0_7_SNAPSHOT).
RESET_VERSION_MIN: Final = 28
JAVA_LONG_MAX: Final = (1 << 63) - 1


class OffsetAdministration:
    """See the module."""

    def __init__(
        self,
        settings: BrokerSettings,
        topics: TopicTable,
        groups: GroupTable,
        offsets: ConsumerOffsets,
        consumers: Consumers,
        store: MessageStore,
        progress: Progress,
    ) -> None:
        self._settings = settings
        self._topics = topics
        self._groups = groups
        self._offsets = offsets
        self._consumers = consumers
        self._store = store
        self._progress = progress

    def routes(self) -> list[Route]:
        """The rows of the table that this part serves."""
        return [
            Route(RequestCode.INVOKE_BROKER_TO_RESET_OFFSET, ResetOffsetRequestHeader, self.reset),
            Route(RequestCode.CLONE_GROUP_OFFSET, CloneGroupOffsetRequestHeader, self.clone),
            Route(RequestCode.QUERY_CORRECTION_OFFSET, QueryCorrectionOffsetRequestHeader, self.corrections),
            Route(RequestCode.GET_ALL_CONSUMER_OFFSET, None, self.all),
            Route(RequestCode.INVOKE_BROKER_TO_GET_CONSUMER_STATUS, GetConsumerStatusRequestHeader, self.client_status),
        ]

    async def reset(self, connection: Connection, _: Command, header: ResetOffsetRequestHeader) -> Response:
        """222: to a time (negative: the end), or one queue to an offset; durable when answered.

        With ``useServerSideResetOffset`` (the default) no consumer needs to be online: the next pull is told. Without, online
        members are told to move, which old clients do only that way.
        """
        if self._settings.broker_role is BrokerRole.SLAVE:
            raise RemotingError(ResponseCode.SYSTEM_ERROR, "Not Allowed to reset offset on a slave")
        config = self._topics.get(header.topic)
        if config is None:
            raise RemotingError(ResponseCode.TOPIC_NOT_EXIST, f"Topic {header.topic} does not exist")
        if self._groups.get(header.group) is None:
            raise RemotingError(ResponseCode.SUBSCRIPTION_GROUP_NOT_EXIST, f"Group {header.group} does not exist")
        targets = self._targets(config, header)
        if self._settings.use_server_side_reset_offset:
            for queue_id, offset in targets.items():
                self._offsets.reset(header.group, header.topic, queue_id, offset)
            try:
                await self._offsets.save_if_dirty()
            except OSError as error:
                raise RemotingError(
                    ResponseCode.SYSTEM_ERROR, f"offsets not written: {error.strerror or error}"
                ) from error
            for tell in self._offsets.on_reset:
                tell(header.group)
        else:
            targets = self._tell_members(header, targets)
        logger.info("%s reset group %s on %s to %s", connection.remote, header.group, header.topic, targets)
        pairs = [(self._queue(header.topic, queue_id), offset) for queue_id, offset in targets.items()]
        return Response(body=b'{"offsetTable":%b}' % javajson.dumps_object_keyed(pairs))

    def clone(self, connection: Connection, _: Command, header: CloneGroupOffsetRequestHeader) -> Response:
        """314: give a group the positions of another one."""
        source = header.src_group
        if header.topic and header.topic.strip():
            topics = [header.topic]
        else:
            topics = list(self._offsets.topics_of(source))
        for topic in topics:
            if self._topics.get(topic) is None:
                continue
            if not header.offline and self._progress.is_left_behind(source, topic):
                continue
            self._offsets.clone(source, header.dest_group, topic)
        logger.info("%s gave %s the offsets of %s on %s", connection.remote, header.dest_group, source, topics)
        return Response()

    def corrections(self, _: Connection, __: Command, header: QueryCorrectionOffsetRequestHeader) -> Response:
        """308: the lowest offset of all groups per queue; "no limit" where the compared group is behind it."""
        filtered = {group for group in (header.filter_groups or "").split(",") if group}
        lowest: dict[int, int] = {}
        for group in list(self._offsets.groups_of(header.topic)):
            if group in filtered:
                continue
            for queue_id, offset in self._offsets.of(group, header.topic).items():
                bounds = self._store.queue_bounds(header.topic, queue_id)
                if offset >= (0 if bounds is None else bounds.min_offset):
                    lowest[queue_id] = min(offset, lowest.get(queue_id, offset))
        for queue_id, offset in self._offsets.of(header.compare_group, header.topic).items():
            if lowest.get(queue_id, -1) > offset:
                lowest[queue_id] = JAVA_LONG_MAX
        return Response(body=javajson.dumps({"correctionOffsets": lowest}))

    def all(self, _: Connection, __: Command, ___: None) -> Response:
        """43, as the file has it."""
        return Response(body=self._offsets.encode())

    async def client_status(self, _: Connection, __: Command, header: GetConsumerStatusRequestHeader) -> Response:
        """223: ask members (one, when a client id is given) for their own idea of their offsets."""
        group = self._consumers.get(header.group)
        members = [] if group is None else list(group.members.values())
        if header.client_addr:
            members = [member for member in members if member.client_id == header.client_addr]
        if not members:
            raise RemotingError(
                ResponseCode.SYSTEM_ERROR, f"No Any Consumer online in the consumer group: [{header.group}]"
            )
        tables = await asyncio.gather(*(self._status_of(member, header) for member in members))
        parts = [
            b"%b:%b" % (javajson.dumps(member.client_id), table)
            for member, table in zip(members, tables, strict=True)
            if table is not None
        ]
        return Response(body=b'{"consumerTable":{%b}}' % b",".join(parts))

    # -- inside ------------------------------------------------------------------------------------------------------

    def _targets(self, config: TopicConfig, header: ResetOffsetRequestHeader) -> dict[int, int]:
        topic = header.topic
        if header.queue_id < 0:
            return {
                queue_id: self._by_time(topic, queue_id, header.timestamp) for queue_id in range(config.read_queue_nums)
            }
        if header.queue_id >= config.read_queue_nums:
            raise invalid(f"queueId={header.queue_id}: topic {topic} has {config.read_queue_nums} readable queues")
        offset = header.offset
        if offset is None or offset == -1:
            return {header.queue_id: self._by_time(topic, header.queue_id, header.timestamp)}
        bounds = self._store.queue_bounds(topic, header.queue_id)
        low, high = (0, 0) if bounds is None else (bounds.min_offset, bounds.max_offset)
        if not low <= offset <= high:
            raise RemotingError(
                ResponseCode.SYSTEM_ERROR, f"Target offset {offset} not in consume queue range [{low}-{high}]"
            )
        return {header.queue_id: offset}

    def _by_time(self, topic: str, queue_id: int, time_ms: int) -> int:
        if time_ms < 0:
            bounds = self._store.queue_bounds(topic, queue_id)
            return 0 if bounds is None else bounds.max_offset
        return self._store.offset_by_time(topic, queue_id, time_ms)

    def _tell_members(self, header: ResetOffsetRequestHeader, targets: dict[int, int]) -> dict[int, int]:
        group = self._consumers.get(header.group)
        members = [] if group is None else [m for m in group.members.values() if m.version >= RESET_VERSION_MIN]
        if not members:
            raise RemotingError(
                ResponseCode.CONSUMER_NOT_ONLINE,
                f"Consumer not online, so can not reset offset, Group: {header.group} Topic: {header.topic}",
            )
        moves = {}
        for queue_id, target in targets.items():
            current = self._offsets.query(header.group, header.topic, queue_id)
            if current < 0:
                raise RemotingError(ResponseCode.SYSTEM_ERROR, f"THe consumer group <{header.group}> not exist")
            moves[queue_id] = target if header.is_force or target < current else current
        by_object = b'{"offsetTable":%b}' % javajson.dumps_object_keyed(
            (self._queue(header.topic, queue_id), offset) for queue_id, offset in moves.items()
        )
        # The C++ client reads a list instead.
        by_list = javajson.dumps(
            {
                "offsetTable": [
                    {
                        "brokerName": self._settings.broker_name,
                        "offset": offset,
                        "queueId": queue_id,
                        "topic": header.topic,
                    }
                    for queue_id, offset in moves.items()
                ]
            }
        )
        for member in members:
            body = by_list if member.language == "CPP" else by_object
            member.connection.notify(RequestCode.RESET_CONSUMER_CLIENT_OFFSET, header, body)
        return moves

    async def _status_of(self, member: Member, header: GetConsumerStatusRequestHeader) -> bytes | None:
        try:
            answer = await member.connection.invoke(
                RequestCode.GET_CONSUMER_STATUS_FROM_CLIENT, header, timeout_ms=CLIENT_STATUS_TIMEOUT_MS
            )
            table: Any = javajson.loads(answer.body).get("messageQueueTable", {}) if answer.code == 0 else None
        except (
            RemotingTimeout,
            RemotingConnectError,
            RemotingOverloaded,
            javajson.JavaJsonError,
            AttributeError,
        ) as error:
            logger.warning("client %s did not tell its offsets: %s", member.client_id, error)
            return None
        if not isinstance(table, dict):
            return None
        return javajson.dumps_object_keyed(
            (key.as_dict() if isinstance(key, javajson.ObjectKey) else key, offset) for key, offset in table.items()
        )

    def _queue(self, topic: str, queue_id: int) -> MessageQueue:
        return MessageQueue(topic, self._settings.broker_name, queue_id)

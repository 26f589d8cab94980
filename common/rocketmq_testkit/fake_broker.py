"""The broker of `rocketmq_testkit.fake_cluster`: queues, groups and locks in memory."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from rocketmq_common import names, permissions, sysflags
from rocketmq_common import properties as props
from rocketmq_common.batches import decode_batch
from rocketmq_common.groups import SubscriptionGroupConfig
from rocketmq_common.light_queues import LIGHT_QUEUE_ID, SEPARATOR, is_dispatched
from rocketmq_common.records import StoredMessage, encode_message
from rocketmq_common.topics import TopicConfig
from rocketmq_remoting.bodies import (
    EXPRESSION_TAG,
    ConsumerData,
    HeartbeatData,
    LockBatchRequestBody,
    LockBatchResponseBody,
    MessageQueue,
    SubscriptionData,
)
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Command, Response
from rocketmq_remoting.connection import Connection, Route
from rocketmq_remoting.errors import RemotingError
from rocketmq_remoting.headers.clients import ConsumerGroupHeader, UnregisterClientRequestHeader
from rocketmq_remoting.headers.offsets import (
    OffsetResponseHeader,
    QueryConsumerOffsetRequestHeader,
    QueueHeader,
    SearchOffsetRequestHeader,
    UpdateConsumerOffsetRequestHeader,
)
from rocketmq_remoting.headers.pull import PullMessageRequestHeader, PullMessageResponseHeader
from rocketmq_remoting.headers.send import (
    ConsumerSendMsgBackRequestHeader,
    SendMessageRequestHeader,
    SendMessageResponseHeader,
)
from rocketmq_remoting.server import RemotingServer
from rocketmq_testkit.fake_pops import FakePops
from rocketmq_testkit.fake_timers import FakeTimers
from rocketmq_testkit.fake_transactions import FakeTransactions

LOCK_LIFE_SECONDS = 60.0
RECONSUME_TIMES_MAX = 16


@dataclass
class FakeMember:
    """One connected consumer of a group."""

    client_id: str
    connection: Connection
    data: ConsumerData


@dataclass
class Fault:
    """An answer to be given instead of the real one; ``times`` counts down."""

    code: int
    remark: str
    times: int = 1


@dataclass
class FakeBroker:
    """One master. Tests may look into every field, and change ``faults`` and ``is_up``."""

    name: str
    queues: int = 4
    retry_delay_ms: int = 20
    cluster_name: str = "FakeCluster"
    topics: dict[str, TopicConfig] = field(default_factory=dict)
    groups: dict[str, SubscriptionGroupConfig] = field(default_factory=dict)
    log: dict[tuple[str, int], list[StoredMessage]] = field(default_factory=dict)
    offsets: dict[tuple[str, str, int], int] = field(default_factory=dict)
    members: dict[str, dict[str, FakeMember]] = field(default_factory=lambda: defaultdict(dict))
    producers: dict[str, dict[str, Connection]] = field(default_factory=lambda: defaultdict(dict))
    locks: dict[tuple[str, MessageQueue], tuple[str, float]] = field(default_factory=dict)
    faults: dict[int, Fault] = field(default_factory=dict)
    requests: list[int] = field(default_factory=list)  # codes in the order received
    config: dict[str, str] = field(default_factory=dict)
    resets: dict[tuple[str, str, int], int] = field(default_factory=dict)
    is_up: bool = False

    def __post_init__(self) -> None:
        self.create_topic(names.DEFAULT_TOPIC, self.queues, 7)
        self.config = {"brokerName": self.name, "flushDiskType": "ASYNC_FLUSH", "useServerSideResetOffset": "true"}
        self._physical = itertools.count(0, 1000)
        self._waiting: dict[tuple[str, int], list[tuple[Connection, Command, PullMessageRequestHeader]]] = defaultdict(
            list
        )
        self.transactions = FakeTransactions(self)
        self.pops = FakePops(self)
        self.timers = FakeTimers(self)
        self.server: RemotingServer | None = None
        self.port = 0

    # -- life --------------------------------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """``ip:port``."""
        return f"127.0.0.1:{self.port}"

    async def start(self, host: str) -> None:
        """Listen; on the same port as before when started again."""
        from rocketmq_testkit.fake_admin import admin_routes

        rows = [
            *self._routes(),
            *self.transactions.routes(),
            *self.pops.routes(),
            *self.timers.routes(),
            *admin_routes(self),
        ]
        self.server = RemotingServer(rows, check=self._check)
        self.server.on_disconnect.append(self._disconnected)
        await self.server.start(host, self.port)
        self.port = self.server.port
        self.is_up = True

    async def stop(self) -> None:
        """Close every connection and listen no more; messages and offsets stay for another `start`."""
        self.is_up = False
        if self.server is not None:
            for waiting in self._waiting.values():
                waiting.clear()
            await self.server.stop(grace_ms=0)
            self.server = None

    def fail(self, code: RequestCode, response_code: int, remark: str = "made to fail", *, times: int = 1) -> None:
        """Answer the next ``times`` requests of ``code`` with an error."""
        self.faults[code] = Fault(response_code, remark, times)

    def _check(self, connection: Connection, command: Command) -> None:
        del connection
        self.requests.append(command.code)
        fault = self.faults.get(command.code)
        if fault is not None and fault.times > 0:
            fault.times -= 1
            raise RemotingError(fault.code, fault.remark)

    # -- topics and messages -----------------------------------------------------------------------------------------

    def create_topic(self, topic: str, queues: int, perm: int = permissions.READ_WRITE) -> TopicConfig:
        """Create or replace a topic's configuration."""
        self.topics[topic] = TopicConfig(topic_name=topic, read_queue_nums=queues, write_queue_nums=queues, perm=perm)
        return self.topics[topic]

    def messages(self, topic: str) -> list[StoredMessage]:
        """All messages of a topic by queue and offset."""
        return [m for (name, _), queue in sorted(self.log.items()) if name == topic for m in queue]

    def put(self, message: StoredMessage) -> StoredMessage:
        """Store ``message`` at the end of its queue and answer the pulls that wait for it."""
        queue = self.log.setdefault((message.topic, message.queue_id), [])
        message.queue_offset = len(queue)
        message.physical_offset = next(self._physical)
        message.store_timestamp = time.time_ns() // 1_000_000
        message.store_host = bytes((127, 0, 0, 1)) + self.port.to_bytes(4, "big")
        queue.append(message)
        self._wake(message.topic, message.queue_id)
        self._put_light(message)
        return message

    def _put_light(self, message: StoredMessage) -> None:
        """Let the message stand in the light queues that it names, too."""
        named = props.find_property(message.properties, props.PROPERTY_INNER_MULTI_DISPATCH)
        if not named or not is_dispatched(message.topic):
            return
        lights = [(light, self.log.setdefault((light, LIGHT_QUEUE_ID), [])) for light in named.split(SEPARATOR)]
        offsets = SEPARATOR.join(str(len(queue)) for _, queue in lights)
        message.properties = props.append_property(message.properties, props.PROPERTY_INNER_MULTI_QUEUE_OFFSET, offsets)
        for light, queue in lights:
            queue.append(message)
            self._wake(light, LIGHT_QUEUE_ID)

    def _wake(self, topic: str, queue_id: int) -> None:
        for connection, command, header in self._waiting.pop((topic, queue_id), []):
            try:
                answer = self._pull_answer(header, may_wait=False)
            except RemotingError as error:
                answer = Response(error.code, remark=error.remark)
            assert answer is not None, "a pull that may not wait is answered"
            connection.respond(command, answer)

    def put_later(self, message: StoredMessage) -> None:
        """Store ``message`` after ``retry_delay_ms``, the stand-in for every delay level."""
        assert self.server is not None, "the broker is stopped"

        async def later() -> None:
            await asyncio.sleep(self.retry_delay_ms / 1000)
            self.put(message)

        self.server.tasks.start(later(), "delayed message")

    def _send(self, connection: Connection, command: Command, header: SendMessageRequestHeader) -> Response:
        if names.is_closed_to_clients(header.topic) or names.is_light_queue(header.topic):
            raise RemotingError(ResponseCode.NO_PERMISSION, f"Sending message to topic[{header.topic}] is forbidden.")
        config = self.topics.get(header.topic)
        if config is None:
            template = self.topics.get(header.default_topic)
            if names.is_retry_topic(header.topic):
                config = self.create_topic(header.topic, 1)
            elif template is None or not permissions.is_inherited(template.perm):
                raise RemotingError(ResponseCode.TOPIC_NOT_EXIST, f"topic[{header.topic}] not exist")
            else:
                config = self.create_topic(header.topic, min(header.default_topic_queue_nums, self.queues))
        if not permissions.is_writeable(config.perm):
            raise RemotingError(ResponseCode.NO_PERMISSION, f"the topic[{header.topic}] is not writeable")
        if header.queue_id >= max(config.read_queue_nums, config.write_queue_nums):
            raise RemotingError(ResponseCode.INVALID_PARAMETER, f"request queueId[{header.queue_id}] is illegal")
        topic, queue_id = header.topic, max(header.queue_id, 0)
        if names.is_retry_topic(topic):
            limit = RECONSUME_TIMES_MAX if header.max_reconsume_times is None else header.max_reconsume_times
            if header.reconsume_times > limit:
                topic, queue_id = names.dlq_topic(topic.removeprefix(names.RETRY_TOPIC_PREFIX)), 0
                self.topics.get(topic) or self.create_topic(topic, 1)
        if command.code == RequestCode.SEND_BATCH_MESSAGE:
            entries = [(e.body, e.properties.decode(), e.flag) for e in decode_batch(command.body)]
        else:
            entries = [(command.body, header.properties, header.flag)]
        stored: list[StoredMessage] = []
        recall_handle: str | None = None
        for body, properties, flag in entries:
            message = StoredMessage(
                topic=topic, body=body, properties=properties, queue_id=queue_id, flag=flag,
                sys_flag=header.sys_flag, born_timestamp=header.born_timestamp, born_host=connection.peer_host,
                reconsume_times=header.reconsume_times,
            )  # fmt: skip
            if props.find_property(properties, props.PROPERTY_CORRELATION_ID):
                # Repliers find the reply topic by it; real brokers have that topic from the start.
                self.create_topic(f"{self.cluster_name}_{names.REPLY_TOPIC_POSTFIX}", 1)
                message.properties = props.append_property(properties, props.PROPERTY_CLUSTER, self.cluster_name)
            if props.find_property(properties, props.PROPERTY_TRANSACTION_PREPARED) == "true":
                self.transactions.put_half(message)
            elif props.find_property(properties, props.PROPERTY_DELAY_LEVEL) and not names.is_dlq_topic(topic):
                self.put_later(message)
            else:
                recall_handle = self.timers.put(message)
                if recall_handle is None:
                    self.put(message)
            stored.append(message)
        return Response(
            ext=SendMessageResponseHeader(
                msg_id=",".join(m.message_id for m in stored),
                queue_id=queue_id,
                queue_offset=stored[0].queue_offset,
                transaction_id=props.find_property(stored[0].properties, props.PROPERTY_UNIQUE_KEY),
                recall_handle=recall_handle,
            )
        )

    def _send_back(
        self, connection: Connection, command: Command, header: ConsumerSendMsgBackRequestHeader
    ) -> Response:
        del connection, command
        found = self.at_physical(header.offset)
        if found is None:
            raise RemotingError(ResponseCode.SYSTEM_ERROR, f"look message by offset failed, {header.offset}")
        limit = RECONSUME_TIMES_MAX if header.max_reconsume_times is None else header.max_reconsume_times
        is_dead = found.reconsume_times >= limit or header.delay_level < 0
        topic = names.dlq_topic(header.group) if is_dead else names.retry_topic(header.group)
        if topic not in self.topics:
            self.create_topic(topic, 1)
        properties = found.properties
        if props.find_property(properties, props.PROPERTY_RETRY_TOPIC) is None:
            properties = props.append_property(properties, props.PROPERTY_RETRY_TOPIC, found.topic)
        copy = msgspec.structs.replace(
            found, topic=topic, queue_id=0, properties=properties, reconsume_times=found.reconsume_times + 1
        )
        if is_dead:
            self.put(copy)
        else:
            self.put_later(copy)
        return Response()

    def at_physical(self, offset: int) -> StoredMessage | None:
        """The message at a physical offset."""
        return next((m for queue in self.log.values() for m in queue if m.physical_offset == offset), None)

    def all_messages(self) -> list[StoredMessage]:
        """Every message, in the order stored."""
        return sorted((m for queue in self.log.values() for m in queue), key=lambda m: m.physical_offset)

    # -- pulling -----------------------------------------------------------------------------------------------------

    def _pull(self, connection: Connection, command: Command, header: PullMessageRequestHeader) -> Response | None:
        is_light = names.is_light_queue(header.topic)
        if header.topic not in self.topics and not is_light:
            raise RemotingError(ResponseCode.TOPIC_NOT_EXIST, f"topic[{header.topic}] not exist")
        if not 0 <= header.queue_id < (1 if is_light else self.topics[header.topic].read_queue_nums):
            raise RemotingError(ResponseCode.INVALID_PARAMETER, f"queueId[{header.queue_id}] is illegal")
        if header.sys_flag & sysflags.PULL_COMMIT_OFFSET:
            self.offsets[header.consumer_group, header.topic, header.queue_id] = header.commit_offset
        answer = self._pull_answer(header, may_wait=header.sys_flag & sysflags.PULL_SUSPEND != 0)
        if answer is None:
            self._waiting[header.topic, header.queue_id].append((connection, command, header))
        return answer

    def _pull_answer(self, header: PullMessageRequestHeader, *, may_wait: bool) -> Response | None:
        queue = self.log.get((header.topic, header.queue_id), [])
        wanted = self._tags(header)
        offset = header.queue_offset
        reset = self.resets.pop((header.consumer_group, header.topic, header.queue_id), None)
        if reset is not None:
            return self._pulled(ResponseCode.PULL_OFFSET_MOVED, reset, len(queue))
        if offset > len(queue):
            return self._pulled(ResponseCode.PULL_OFFSET_MOVED, len(queue), len(queue))
        if offset == len(queue):
            return None if may_wait else self._pulled(ResponseCode.PULL_NOT_FOUND, offset, len(queue))
        batch = queue[offset : offset + header.max_msg_nums]
        found = [m for m in batch if wanted is None or props.find_property(m.properties, props.PROPERTY_TAGS) in wanted]
        code = ResponseCode.SUCCESS if found else ResponseCode.PULL_RETRY_IMMEDIATELY
        body = b"".join(encode_message(m) for m in found)
        return self._pulled(code, offset + len(batch), len(queue), body)

    def _tags(self, header: PullMessageRequestHeader) -> set[str] | None:
        if header.sys_flag & sysflags.PULL_SUBSCRIPTION:
            expression, expression_type = header.subscription or "*", header.expression_type
        else:
            data = self._subscription(header.consumer_group, header.topic)
            if data is None:
                raise RemotingError(ResponseCode.SUBSCRIPTION_NOT_EXIST, "the consumer's subscription not exist")
            expression, expression_type = data.sub_string, data.expression_type
        if expression_type not in (None, "", EXPRESSION_TAG):
            # As a broker with enablePropertyFilter=false, the default: better than to deliver what a real one would filter.
            raise RemotingError(
                ResponseCode.SYSTEM_ERROR,
                f"The broker does not support consumer to filter message by {expression_type}",
            )
        if expression in ("", "*"):
            return None
        return {tag.strip() for tag in expression.split("||")}

    def _subscription(self, group: str, topic: str) -> SubscriptionData | None:
        for member in self.members[group].values():
            for data in member.data.subscription_data_set:
                if data.topic == topic:
                    return data
        return None

    def _pulled(self, code: ResponseCode, next_offset: int, max_offset: int, body: bytes = b"") -> Response:
        header = PullMessageResponseHeader(
            suggest_which_broker_id=0, next_begin_offset=next_offset, min_offset=0, max_offset=max_offset
        )
        return Response(code, header, body=body)

    # -- groups ------------------------------------------------------------------------------------------------------

    def _heartbeat(self, connection: Connection, command: Command, header: None) -> Response:
        del header
        beat = msgspec.json.decode(command.body, type=HeartbeatData)
        for producer in beat.producer_data_set:
            self.producers[producer.group_name][beat.client_id] = connection
        for consumer in beat.consumer_data_set:
            group = consumer.group_name
            self.groups.setdefault(group, SubscriptionGroupConfig(group_name=group))
            retry = names.retry_topic(group)
            if retry not in self.topics:
                self.create_topic(retry, 1)
            is_new = beat.client_id not in self.members[group]
            self.members[group][beat.client_id] = FakeMember(beat.client_id, connection, consumer)
            if is_new:
                self.notify(group)
        return Response()

    def notify(self, group: str) -> None:
        """Tell all members that the group has changed."""
        for member in self.members[group].values():
            member.connection.notify(RequestCode.NOTIFY_CONSUMER_IDS_CHANGED, ConsumerGroupHeader(consumer_group=group))

    def _unregister(self, connection: Connection, command: Command, header: UnregisterClientRequestHeader) -> Response:
        del connection, command
        if header.producer_group:
            self.producers[header.producer_group].pop(header.client_id, None)
        if header.consumer_group and self.members[header.consumer_group].pop(header.client_id, None):
            self.notify(header.consumer_group)
        return Response()

    def _disconnected(self, connection: Connection) -> None:
        for group, members in list(self.members.items()):
            gone = [client_id for client_id, member in members.items() if member.connection is connection]
            for client_id in gone:
                del members[client_id]
            if gone:
                self.notify(group)

    def _member_list(self, connection: Connection, command: Command, header: ConsumerGroupHeader) -> Response:
        del connection, command
        members = self.members[header.consumer_group]
        if not members:
            raise RemotingError(ResponseCode.SYSTEM_ERROR, f"no consumer for this group, {header.consumer_group}")
        return Response(body=msgspec.json.encode({"consumerIdList": list(members)}))

    def _check_client(self, connection: Connection, command: Command, header: None) -> Response:
        del connection, header
        expression = msgspec.json.decode(command.body)["subscriptionData"]["subString"]
        if "(" in expression and ")" not in expression:
            raise RemotingError(ResponseCode.SUBSCRIPTION_PARSE_FAILED, f"cannot parse {expression!r}")
        return Response()

    def _lock(self, connection: Connection, command: Command, header: None) -> Response:
        del connection, header
        body = msgspec.json.decode(command.body, type=LockBatchRequestBody)
        now = time.monotonic()
        granted: list[MessageQueue] = []
        for queue in body.mq_set:
            key = (body.consumer_group, queue)
            owner, until = self.locks.get(key, ("", 0.0))
            if owner == body.client_id or until < now:
                self.locks[key] = (body.client_id, now + LOCK_LIFE_SECONDS)
                granted.append(queue)
        return Response(body=msgspec.json.encode(LockBatchResponseBody(lock_ok_mq_set=granted)))

    def _unlock(self, connection: Connection, command: Command, header: None) -> Response:
        del connection, header
        body = msgspec.json.decode(command.body, type=LockBatchRequestBody)
        for queue in body.mq_set:
            if self.locks.get((body.consumer_group, queue), ("", 0.0))[0] == body.client_id:
                del self.locks[body.consumer_group, queue]
        return Response()

    # -- offsets -----------------------------------------------------------------------------------------------------

    def _query_offset(
        self, connection: Connection, command: Command, header: QueryConsumerOffsetRequestHeader
    ) -> Response:
        del connection, command
        offset = self.offsets.get((header.consumer_group, header.topic, header.queue_id))
        if offset is None:
            raise RemotingError(ResponseCode.QUERY_NOT_FOUND, "Not found, maybe this group consumer boot first")
        return Response(ext=OffsetResponseHeader(offset=offset))

    def _update_offset(
        self, connection: Connection, command: Command, header: UpdateConsumerOffsetRequestHeader
    ) -> Response:
        del connection, command
        self.offsets[header.consumer_group, header.topic, header.queue_id] = header.commit_offset
        return Response()

    def _max_offset(self, connection: Connection, command: Command, header: QueueHeader) -> Response:
        del connection, command
        return Response(ext=OffsetResponseHeader(offset=len(self.log.get((header.topic, header.queue_id), []))))

    def _min_offset(self, connection: Connection, command: Command, header: QueueHeader) -> Response:
        del connection, command, header
        return Response(ext=OffsetResponseHeader(offset=0))

    def _search_offset(self, connection: Connection, command: Command, header: SearchOffsetRequestHeader) -> Response:
        del connection, command
        return Response(
            ext=OffsetResponseHeader(offset=self.offset_at(header.topic, header.queue_id, header.timestamp))
        )

    def offset_at(self, topic: str, queue_id: int, timestamp_ms: int) -> int:
        """The offset of the first message stored at or after a time."""
        queue = self.log.get((topic, queue_id), [])
        return next((m.queue_offset for m in queue if m.store_timestamp >= timestamp_ms), len(queue))

    def _routes(self) -> list[Route]:
        rows: list[tuple[RequestCode, Any, Callable[..., Any]]] = [
            (RequestCode.SEND_MESSAGE_V2, SendMessageRequestHeader, self._send),
            (RequestCode.SEND_BATCH_MESSAGE, SendMessageRequestHeader, self._send),
            (RequestCode.CONSUMER_SEND_MSG_BACK, ConsumerSendMsgBackRequestHeader, self._send_back),
            (RequestCode.PULL_MESSAGE, PullMessageRequestHeader, self._pull),
            (RequestCode.LITE_PULL_MESSAGE, PullMessageRequestHeader, self._pull),
            (RequestCode.HEART_BEAT, None, self._heartbeat),
            (RequestCode.UNREGISTER_CLIENT, UnregisterClientRequestHeader, self._unregister),
            (RequestCode.GET_CONSUMER_LIST_BY_GROUP, ConsumerGroupHeader, self._member_list),
            (RequestCode.CHECK_CLIENT_CONFIG, None, self._check_client),
            (RequestCode.LOCK_BATCH_MQ, None, self._lock),
            (RequestCode.UNLOCK_BATCH_MQ, None, self._unlock),
            (RequestCode.QUERY_CONSUMER_OFFSET, QueryConsumerOffsetRequestHeader, self._query_offset),
            (RequestCode.UPDATE_CONSUMER_OFFSET, UpdateConsumerOffsetRequestHeader, self._update_offset),
            (RequestCode.GET_MAX_OFFSET, QueueHeader, self._max_offset),
            (RequestCode.GET_MIN_OFFSET, QueueHeader, self._min_offset),
            (RequestCode.SEARCH_OFFSET_BY_TIMESTAMP, SearchOffsetRequestHeader, self._search_offset),
        ]
        return [Route(code, header, handle) for code, header, handle in rows]

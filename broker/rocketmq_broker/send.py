"""Sending: codes 310, 10 (long names) and 320 (batch).

`SendProcessor.send` is the hot path: one look-up of the topic's `Target`, a few comparisons, one concatenation, the append, one
ready JSON answer. Whatever is not plain (delay, retry topic, transaction, missing topic) leaves it through `_send_special`, which
rewrites the message and comes back. The order of checks and their codes are Apache's (SendMessageProcessor).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from random import randrange
from typing import Final

import msgspec

from rocketmq_broker.admission import Admission
from rocketmq_broker.batch_sending import BatchSender
from rocketmq_broker.clients.locks import QueueLocks
from rocketmq_broker.delay_levels import TIMER_PROPERTIES, Placement, delay_level, schedule
from rocketmq_broker.groups import GroupTable
from rocketmq_broker.ha.promises import SendPromise
from rocketmq_broker.identity import Identity
from rocketmq_broker.put_answers import answer_kept, refusal
from rocketmq_broker.settings import BrokerRole, BrokerSettings
from rocketmq_broker.statistics import SMALL_SIZE_MAX, BrokerStatistics, TopicCounters
from rocketmq_broker.timer.sending import TimerSender
from rocketmq_broker.topic_creation import SendHeader, TopicCreation, settled
from rocketmq_broker.topics import TopicLimitReached, TopicTable
from rocketmq_broker.transactions.sending import HalfSender
from rocketmq_broker.transactions.service import Transactions
from rocketmq_common import names, permissions
from rocketmq_common.clock import Clock
from rocketmq_common.message_ids import UniqueIds
from rocketmq_common.properties import (
    PROPERTY_CLUSTER,
    PROPERTY_DELAY_LEVEL,
    PROPERTY_KEYS,
    PROPERTY_MSG_REGION,
    PROPERTY_POP_CK,
    PROPERTY_PRIORITY,
    PROPERTY_SHARDING_KEY,
    PROPERTY_TRACE_SWITCH,
    PROPERTY_TRANSACTION_PREPARED,
    PROPERTY_TRANSIENT_PREFIX,
    PROPERTY_UNIQUE_KEY,
    append_property,
    find_property,
    remove_property,
)
from rocketmq_common.sysflags import MULTI_TAGS, TRANSACTION_MASK
from rocketmq_common.topics import ATTRIBUTE_CLEANUP_POLICY, FILTER_MULTI_TAG, TopicConfig
from rocketmq_common.versions import V3_4_9
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Command, Response
from rocketmq_remoting.connection import Connection, Outcome, Route
from rocketmq_remoting.errors import RemotingError
from rocketmq_remoting.headers.send import SendMessageRequestHeader, SendMessageRequestHeaderV1
from rocketmq_store.appending import NewMessage
from rocketmq_store.statuses import PutStatus
from rocketmq_store.store import MessageStore

logger = logging.getLogger(__name__)

DLQ_QUEUE_NUMS: Final = 1
_ONEWAY_DONE: Final = b"{}"
_UNIQUE_KEY: Final = PROPERTY_UNIQUE_KEY + "\x01"


class Target:
    """What a send needs of its topic, gathered once; thrown away when the topic changes."""

    __slots__ = ("counters", "is_plain", "name", "queue_max", "sys_flag", "write_queue_nums")

    def __init__(self, config: TopicConfig, counters: TopicCounters, *, is_plain: bool) -> None:
        self.name = config.topic_name
        self.counters = counters
        self.write_queue_nums = config.write_queue_nums
        self.queue_max = config.queue_nums_max
        self.sys_flag = MULTI_TAGS if config.topic_filter_type == FILTER_MULTI_TAG else 0
        # False: each send needs the checks of retry topics or compaction.
        self.is_plain = is_plain


class SendProcessor:
    """See the module."""

    def __init__(
        self,
        settings: BrokerSettings,
        admission: Admission,
        identity: Identity,
        store: MessageStore,
        topics: TopicTable,
        groups: GroupTable,
        locks: QueueLocks,
        statistics: BrokerStatistics,
        clock: Clock,
        promise: SendPromise,
        transactions: Transactions,
        timers: TimerSender,
        *,
        delay_level_max: int,
        call_soon: Callable[[Callable[[], None]], object],
    ) -> None:
        self._settings = settings
        self._admission = admission
        self._identity = identity
        self._store = store
        self._append_plain = store.append_plain
        self._promise = promise
        self._topics = topics
        self._groups = groups
        self._locks = locks
        self._statistics = statistics
        self._clock = clock
        self._delay_level_max = delay_level_max
        self._timers = timers
        self._targets: dict[str, Target] = {}
        self._creation = TopicCreation(topics, statistics)
        self._unique_ids = UniqueIds()
        trace = "true" if settings.trace_on else "false"
        self._suffix = "".join(
            f"{name}\x01{value}\x02"
            for name, value in (
                (PROPERTY_MSG_REGION, settings.region_id),
                (PROPERTY_TRACE_SWITCH, trace),
                (PROPERTY_CLUSTER, settings.broker_cluster_name),
            )
        )
        self._ext_tail = b',"MSG_REGION":%b,"TRACE_ON":"%b"}' % (
            msgspec.json.encode(settings.region_id),
            trace.encode(),
        )
        self._batches = BatchSender(store, identity, promise, self._ext_tail, call_soon)
        self._halves = HalfSender(transactions, identity, statistics, promise, self._suffix, self._ext_tail)
        topics.on_change.append(self._forget)

    def routes(self) -> list[Route]:
        """The rows of the table that this processor serves."""
        return [
            Route(RequestCode.SEND_MESSAGE_V2, SendMessageRequestHeader, self.send),
            Route(RequestCode.SEND_MESSAGE, SendMessageRequestHeaderV1, self.send),
            Route(RequestCode.SEND_BATCH_MESSAGE, SendMessageRequestHeader, self.send_batch),
        ]

    def send(self, connection: Connection, command: Command, header: SendHeader) -> Outcome:
        """Store one message and answer with its place."""
        if header.batch:
            # Apache's C++ client sends batches by code 10. Apache's broker stores such a one as a single message, unreadable.
            return self.send_batch(connection, command, header)
        if self._admission.is_late:
            raise self._admission.refusal()
        topic = header.topic
        target = self._targets.get(topic)
        if target is None:
            target = self._resolve(header)
            if target is None:
                return self._creation.create_then(self.send, connection, command, header)
        elif self._settings.start_accept_send_request_time_stamp:
            self._check_started()
        queue_id = wanted_queue_id = header.queue_id
        if queue_id < 0:
            queue_id = wanted_queue_id = randrange(target.write_queue_nums or 1)
        elif queue_id >= target.queue_max:
            raise _queue_illegal(target, queue_id, connection)
        text = header.properties
        sys_flag = header.sys_flag | target.sys_flag
        tail = self._ext_tail
        if (
            not target.is_plain
            or "DEL" in text  # DELAY, TIMER_DELAY_*, TIMER_DELIVER_MS
            or "TRAN" in text  # TRAN_MSG, __RMQ.TRANSIENT.*
            or "POP_CK" in text
            or "MSG_" in text  # MSG_REGION, _SYS_MSG_PRIORITY_
            or sys_flag & TRANSACTION_MASK
        ):
            placement = self._send_special(command, header, queue_id)
            if not isinstance(placement, Placement):
                return self._ensure_then_send(placement, connection, command, header)
            topic, queue_id, text = placement
            if topic == header.topic:
                wanted_queue_id = queue_id
            if topic == names.TRANS_HALF_TOPIC:
                return self._halves.send(connection, command, header, wanted_queue_id, text, sys_flag)
            if topic == names.TIMER_TOPIC:
                if not find_property(text, PROPERTY_UNIQUE_KEY):
                    text = append_property(text, PROPERTY_UNIQUE_KEY, self._unique_ids.create())
                tail = self._timers.handle_field(text) + tail
        start = text.find(_UNIQUE_KEY)
        if start >= 0 and (start == 0 or text[start - 1] == "\x02"):
            start += 9
            end = text.find("\x02", start)
            unique_key = text[start:end] if end >= 0 else text[start:]
        else:
            unique_key = find_property(text, PROPERTY_UNIQUE_KEY) or ""
        if not unique_key:
            unique_key = self._unique_ids.create()
            text = append_property(text, PROPERTY_UNIQUE_KEY, unique_key)
        if text[-1] != "\x02":
            # Clients before 5.0 leave out the last separator; without it their last value would swallow our first name.
            text += "\x02"
        body = command.body
        properties = (text + self._suffix).encode()
        counters = target.counters
        place = self._append_plain(
            topic,
            queue_id,
            body,
            properties,
            header.flag,
            sys_flag,
            header.born_timestamp,
            connection.peer_host,
            header.reconsume_times,
        )
        if place is None:
            result = self._store.append(
                NewMessage(
                    topic,
                    queue_id,
                    body,
                    properties,
                    header.flag,
                    sys_flag,
                    header.born_timestamp,
                    connection.peer_host,
                    header.reconsume_times,
                )
            )
            if result.status is not PutStatus.PUT_OK:
                counters.put_failed += 1
                raise refusal(result.status, result.reason)
            physical_offset, queue_offset = result.physical_offset, result.queue_offset
        else:
            physical_offset, queue_offset = place
        size = len(body)
        counters.put_nums += 1
        counters.put_size += size
        if size > SMALL_SIZE_MAX:
            counters.note_larger(size)
        if command.flag & 2:
            return _ONEWAY_DONE
        key = unique_key.encode()
        ext = b'{"msgId":"%b%016X","queueId":"%d","queueOffset":"%d","transactionId":"%b"%b' % (
            self._identity.message_id_prefix,
            physical_offset,
            wanted_queue_id,
            queue_offset,
            # Asked of bytes: str.isalnum looks every character up in the Unicode tables.
            key if key.isalnum() else _json_inside(unique_key),
            tail,
        )
        if self._promise.is_deferred and "WAIT\x01f" not in text:
            # Many may wait, and the log has the body.
            command.body = b""
            self._promise.when_kept(self._store.positions.written, partial(answer_kept, connection, command, ext))
            return None
        return ext

    def send_batch(self, connection: Connection, command: Command, header: SendHeader) -> Outcome:
        """Store the messages of a batch, which share topic and queue, one after another and all or none."""
        if self._admission.is_late:
            raise self._admission.refusal()
        if len(header.topic) > names.TOPIC_LENGTH_MAX:
            raise RemotingError(
                ResponseCode.MESSAGE_ILLEGAL,
                f"message topic length over 127: {len(header.topic)}",
            )
        if names.is_retry_topic(header.topic):
            raise RemotingError(
                ResponseCode.MESSAGE_ILLEGAL, f"batch request does not support retry group {header.topic}"
            )
        target = self._targets.get(header.topic)
        if target is None:
            target = self._resolve(header)
            if target is None:
                return self._creation.create_then(self.send_batch, connection, command, header)
        elif self._settings.start_accept_send_request_time_stamp:
            self._check_started()
        queue_id = header.queue_id
        if queue_id < 0:
            queue_id = randrange(target.write_queue_nums or 1)
        elif queue_id >= target.queue_max:
            raise _queue_illegal(target, queue_id, connection)
        text = header.properties
        if header.sys_flag & TRANSACTION_MASK or find_property(text, PROPERTY_TRANSACTION_PREPARED):
            raise RemotingError(ResponseCode.MESSAGE_ILLEGAL, "a batch cannot be part of a transaction")
        if find_property(text, PROPERTY_DELAY_LEVEL) or any(find_property(text, name) for name in TIMER_PROPERTIES):
            raise RemotingError(ResponseCode.MESSAGE_ILLEGAL, "a batch cannot be delayed")
        # 5.x clients give the batch a unique key of its own beside those of its messages, which must stay findable by theirs.
        text = remove_property(text, PROPERTY_UNIQUE_KEY)
        if text and text[-1] != "\x02":
            text += "\x02"
        message = NewMessage(
            header.topic,
            queue_id,
            command.body,
            (text + self._suffix).encode(),
            header.flag,
            header.sys_flag | target.sys_flag,
            header.born_timestamp,
            connection.peer_host,
            header.reconsume_times,
        )
        self._batches.add(connection, command, message, target.counters, waits="WAIT\x01f" not in text)
        return None

    # -- what is not plain -------------------------------------------------------------------------------------------

    def _forget(self, topic: str) -> None:
        self._targets.pop(topic, None)

    def _check_started(self) -> None:
        start = self._settings.start_accept_send_request_time_stamp
        if self._clock.now_ms() < start:
            raise RemotingError(
                ResponseCode.SYSTEM_ERROR, f"broker unable to service, until {start} (startAcceptSendRequestTimeStamp)"
            )

    def _resolve(self, header: SendHeader) -> Target | None:
        """Checks that depend on the topic only; ``None`` when it must be created first. Raises RemotingError."""
        settings = self._settings
        if settings.broker_role is BrokerRole.SLAVE:
            raise RemotingError(
                ResponseCode.SYSTEM_BUSY,
                "[REJECTREQUEST]system busy, start flow control for a while: this broker is a slave",
            )
        self._check_started()
        topic = header.topic
        config = self._topics.get(topic)
        if not permissions.is_writeable(settings.broker_permission) and config is not None and config.order:
            raise RemotingError(
                ResponseCode.NO_PERMISSION, f"the broker[{self._identity.host}] sending message is forbidden"
            )
        problem = names.topic_name_problem(topic)
        if problem is not None:
            raise RemotingError(ResponseCode.INVALID_PARAMETER, problem)
        if names.is_closed_to_clients(topic) or self._topics.is_light(topic):
            raise RemotingError(ResponseCode.NO_PERMISSION, f"Sending message to topic[{topic}] is forbidden.")
        if config is None or self._creation.is_pending(topic):
            return None
        is_compacted = config.attributes.get(ATTRIBUTE_CLEANUP_POLICY) == "COMPACTION"
        # An ordered topic asks the permission each time, because it may change at run time.
        is_plain = not (names.is_retry_topic(topic) or is_compacted)
        target = Target(config, self._statistics.topic(topic), is_plain=is_plain)
        if not config.order:
            self._targets[topic] = target
        return target

    def _send_special(self, command: Command, header: SendHeader, queue_id: int) -> Placement | str:
        """Rewrite what is not a plain send; the name of a topic instead when that must exist first. Raises RemotingError."""
        topic = header.topic
        text = header.properties
        if "MSG_REGION" in text:
            # A message that was consumed and is sent again carries the broker's own properties already.
            for name in (PROPERTY_MSG_REGION, PROPERTY_TRACE_SWITCH, PROPERTY_CLUSTER):
                text = remove_property(text, name)
        if PROPERTY_POP_CK in text:
            text = remove_property(text, PROPERTY_POP_CK)
        if PROPERTY_TRANSIENT_PREFIX in text:
            kept = [pair for pair in text.split("\x02") if pair and not pair.startswith(PROPERTY_TRANSIENT_PREFIX)]
            text = "\x02".join(kept)
        if PROPERTY_PRIORITY in text:
            queue_id, text = self._by_priority(topic, queue_id, text)
        is_dead = False
        if names.is_retry_topic(topic):
            group = topic[len(names.RETRY_TOPIC_PREFIX) :]
            config = self._groups.find(group)
            if config is None:
                raise RemotingError(ResponseCode.SUBSCRIPTION_GROUP_NOT_EXIST, f"subscription group not exist, {group}")
            retry_times_max = config.retry_max_times
            if command.version >= V3_4_9 and header.max_reconsume_times is not None:
                retry_times_max = header.max_reconsume_times
            if header.reconsume_times > retry_times_max or self._locks.is_group_locking(group):
                is_dead = True
                topic, queue_id = names.dlq_topic(group), randrange(DLQ_QUEUE_NUMS)
                if self._topics.get(topic) is None:
                    return topic
                text = append_property(remove_property(text, PROPERTY_DELAY_LEVEL), PROPERTY_DELAY_LEVEL, "-1")
        topic_config = self._topics.get(topic)
        if (
            topic_config is not None
            and topic_config.attributes.get(ATTRIBUTE_CLEANUP_POLICY) == "COMPACTION"
            and not find_property(text, PROPERTY_KEYS)
        ):
            raise RemotingError(ResponseCode.MESSAGE_ILLEGAL, f"topic {topic} is compacted: its messages need KEYS")
        try:
            level = 0 if is_dead or PROPERTY_DELAY_LEVEL not in text else delay_level(text)
        except ValueError as error:
            raise RemotingError(ResponseCode.MESSAGE_ILLEGAL, str(error)) from error
        if (find_property(text, PROPERTY_TRANSACTION_PREPARED) or "").lower() == "true":
            # A consumed message that its consumer sends again for a retry is no transaction any more.
            if not is_dead and not (header.reconsume_times > 0 and level > 0):
                return self._place_half(topic, queue_id, text)
        elif header.sys_flag & TRANSACTION_MASK:
            raise RemotingError(
                ResponseCode.MESSAGE_ILLEGAL, "sysFlag says transaction, but the property TRAN_MSG is not true"
            )
        if level > 0:
            return schedule(topic, queue_id, text, level, self._delay_level_max)
        return Placement(topic, queue_id, text) if is_dead else self._timers.place(topic, queue_id, text)

    def _by_priority(self, topic: str, queue_id: int, text: str) -> tuple[int, str]:
        """The queue of a message's priority: the higher, the more urgent. One that waits, or has an order, has none (5.4)."""
        try:
            priority = int(find_property(text, PROPERTY_PRIORITY) or "-1")
        except ValueError:
            priority = -1
        config = self._topics.get(topic)
        if priority < 0 or config is None:
            return queue_id, text
        others = (PROPERTY_TRANSACTION_PREPARED, PROPERTY_DELAY_LEVEL, *TIMER_PROPERTIES, PROPERTY_SHARDING_KEY)
        if any(find_property(text, name) for name in others):
            return queue_id, remove_property(text, PROPERTY_PRIORITY)
        return min(priority, max(config.write_queue_nums - 1, 0)), text

    def _place_half(self, topic: str, queue_id: int, text: str) -> Placement:
        if self._settings.reject_transaction_message:
            raise RemotingError(
                ResponseCode.NO_PERMISSION,
                f"the broker[{self._identity.host}] sending transaction message is forbidden",
            )
        for name in TIMER_PROPERTIES:
            if name in text and find_property(text, name):
                raise RemotingError(
                    ResponseCode.MESSAGE_ILLEGAL, f"property {name}: a transaction cannot wait for a timer"
                )
        return Placement(names.TRANS_HALF_TOPIC, queue_id, text)

    async def _ensure_then_send(
        self, topic: str, connection: Connection, command: Command, header: SendHeader
    ) -> Response | None:
        try:
            await self._topics.ensure(topic, DLQ_QUEUE_NUMS)
        except (OSError, TopicLimitReached) as error:
            raise RemotingError(ResponseCode.SYSTEM_ERROR, f"topic {topic} cannot be created: {error}") from error
        return await settled(self.send(connection, command, header))


def _queue_illegal(target: Target, queue_id: int, connection: Connection) -> RemotingError:
    return RemotingError(
        ResponseCode.INVALID_PARAMETER,
        f"request queueId[{queue_id}] is illegal, topic[{target.name}] has {target.queue_max} queues, "
        f"producer: {connection.remote}",
    )


def _json_inside(text: str) -> bytes:
    """The inside of a JSON string; unique keys come from clients."""
    return msgspec.json.encode(text)[1:-1]

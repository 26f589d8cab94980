"""Pulling: codes 11 and 361, with long polling.

The body of an answer is a few slices of the mapped log, never copied here; the header is ready JSON. The order of checks and
the codes are Apache's (PullMessageProcessor); the offset that an answer names is always one the client can go on with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from rocketmq_broker.clients.consumers import Consumers
from rocketmq_broker.cold_reads import reading
from rocketmq_broker.consumer_offsets import ConsumerOffsets
from rocketmq_broker.filters.errors import ExpressionError
from rocketmq_broker.filters.subscriptions import MessageFilter, RetryFilter, message_filter
from rocketmq_broker.filters.tags import is_tag_expression
from rocketmq_broker.groups import GroupTable
from rocketmq_broker.held_pulls import HeldPull, HeldPulls
from rocketmq_broker.settings import BrokerSettings
from rocketmq_broker.statistics import BrokerStatistics
from rocketmq_broker.topics import TopicTable
from rocketmq_common import names, permissions
from rocketmq_common.groups import SubscriptionGroupConfig
from rocketmq_common.sysflags import PULL_COMMIT_OFFSET, PULL_SUBSCRIPTION, PULL_SUSPEND
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Command, Response
from rocketmq_remoting.connection import Connection, Route
from rocketmq_remoting.errors import RemotingError
from rocketmq_remoting.headers.pull import PullMessageRequestHeader, PullMessageResponseHeader
from rocketmq_store.statuses import GetResult, GetStatus
from rocketmq_store.store import MessageStore

# Java's decoder refuses frames above 16 MiB; one record may exceed this bound, for the first one is always sent.
BODY_SIZE_MAX: Final = 8 << 20
MESSAGE_COUNT_MAX: Final = 1024
MASTER_ID: Final = 0

_SUCCESS: Final = int(ResponseCode.SUCCESS)
_NOT_FOUND: Final = int(ResponseCode.PULL_NOT_FOUND)
_RETRY: Final = int(ResponseCode.PULL_RETRY_IMMEDIATELY)
_MOVED: Final = int(ResponseCode.PULL_OFFSET_MOVED)
_CODES: Final = {
    GetStatus.FOUND: _SUCCESS,
    GetStatus.NO_MATCHED_MESSAGE: _RETRY,
    GetStatus.MESSAGE_WAS_REMOVING: _RETRY,
    GetStatus.NO_MATCHED_LOGIC_QUEUE: _MOVED,
    GetStatus.NO_MESSAGE_IN_QUEUE: _MOVED,
    GetStatus.OFFSET_FOUND_NULL: _NOT_FOUND,
    GetStatus.OFFSET_OVERFLOW_ONE: _NOT_FOUND,
    GetStatus.OFFSET_OVERFLOW_BADLY: _MOVED,
    GetStatus.OFFSET_TOO_SMALL: _MOVED,
    GetStatus.OFFSET_RESET: _MOVED,
}
_NAMES: Final = {status: status.name for status in GetStatus}
_EMPTY: Final = frozenset({GetStatus.NO_MATCHED_LOGIC_QUEUE, GetStatus.NO_MESSAGE_IN_QUEUE})

# What was forbidden, for the client's log (ForbiddenType).
FORBIDDEN_BROKER: Final = 1
FORBIDDEN_GROUP: Final = 2
FORBIDDEN_TOPIC: Final = 3
FORBIDDEN_BROADCAST: Final = 4
FORBIDDEN_SUBSCRIPTION: Final = 5


class PullProcessor:
    """See the module."""

    def __init__(
        self,
        settings: BrokerSettings,
        store: MessageStore,
        topics: TopicTable,
        groups: GroupTable,
        consumers: Consumers,
        offsets: ConsumerOffsets,
        statistics: BrokerStatistics,
    ) -> None:
        self._settings = settings
        self._store = store
        self._topics = topics
        self._groups = groups
        self._consumers = consumers
        self._offsets = offsets
        self._statistics = statistics
        self._is_stopping = False
        # At a slave: whether its master serves, so that consumers belong there.
        self.is_master_reachable: Callable[[], bool] = lambda: False
        self.held = HeldPulls(store, self._answer_held, self._give_up)
        self.drop = self.held.drop

    def routes(self) -> list[Route]:
        """The rows of the table that this processor serves."""
        pull = reading(self._store, self.pull)
        return [
            Route(RequestCode.PULL_MESSAGE, PullMessageRequestHeader, pull),
            Route(RequestCode.LITE_PULL_MESSAGE, PullMessageRequestHeader, pull),
        ]

    def pull(self, connection: Connection, command: Command, header: PullMessageRequestHeader) -> Response | None:
        """Answer with messages, or keep the request until there are some."""
        group_config = self._check(command, header)
        if isinstance(group_config, Response):
            return group_config
        wanted = self._wanted(header, group_config)
        if isinstance(wanted, Response):
            return wanted
        result = self._read(header, header.queue_offset, wanted)
        sys_flag = header.sys_flag
        offsets = self._offsets
        offsets.note_pull(header.consumer_group, header.topic, header.queue_id, result.next_offset)
        if sys_flag & PULL_COMMIT_OFFSET:
            offsets.commit(header.consumer_group, header.topic, header.queue_id, header.commit_offset)
        if result.status is GetStatus.FOUND:
            return self._found(header, result, group_config)
        if self._settings.broker_id != MASTER_ID and not result.is_cold and self.is_master_reachable():
            return _to_master(result)
        if (
            sys_flag & PULL_SUSPEND
            and result.status is not GetStatus.OFFSET_FOUND_NULL
            and _code(result, header.queue_offset) == _NOT_FOUND
            and not self._is_stopping
            and not command.flag & 2
        ):
            settings = self._settings
            timeout_ms = (
                header.suspend_timeout_millis if settings.long_polling_enable else settings.short_polling_time_mills
            )
            if self.held.hold(HeldPull(connection, command, header, header.queue_offset, wanted), timeout_ms):
                return None
            return Response(
                ResponseCode.SYSTEM_BUSY,
                remark=f"[OVERLOAD]system busy: {self.held.count} pulls are waiting for messages",
            )
        return self._not_found(result, header.queue_offset, header.queue_offset)

    def release_all(self) -> None:
        """Answer whatever waits and hold nothing any more: the broker stops."""
        self._is_stopping = True
        self.held.release_all()

    # -- checks ------------------------------------------------------------------------------------------------------

    def _check(self, command: Command, header: PullMessageRequestHeader) -> SubscriptionGroupConfig | Response:
        settings = self._settings
        if not permissions.is_readable(settings.broker_permission):
            return _forbidden(FORBIDDEN_BROKER, f"the broker[{settings.broker_name}] pulling message is forbidden")
        if settings.broker_id != MASTER_ID and not settings.slave_read_enable and self.is_master_reachable():
            raise RemotingError(
                ResponseCode.SYSTEM_BUSY,
                "[REJECTREQUEST]system busy, start flow control for a while: this slave serves reads only while its master "
                "cannot be reached (slaveReadEnable=false)",
            )
        if command.code == RequestCode.LITE_PULL_MESSAGE and not settings.lite_pull_message_enable:
            raise RemotingError(
                ResponseCode.NO_PERMISSION, f"the broker[{settings.broker_name}] for lite pull consumer is forbidden"
            )
        group = self._groups.find(header.consumer_group)
        if group is None:
            raise RemotingError(
                ResponseCode.SUBSCRIPTION_GROUP_NOT_EXIST,
                f"subscription group [{header.consumer_group}] does not exist, create it or allow autoCreateSubscriptionGroup",
            )
        if not group.consume_enable:
            return _forbidden(FORBIDDEN_GROUP, f"subscription group no permission, {header.consumer_group}")
        topic = self._topics.get(header.topic)
        if topic is None:
            raise RemotingError(ResponseCode.TOPIC_NOT_EXIST, f"topic[{header.topic}] not exist, apply first please!")
        if not permissions.is_readable(topic.perm):
            return _forbidden(FORBIDDEN_TOPIC, f"the topic[{header.topic}] pulling message is forbidden")
        if not 0 <= header.queue_id < topic.read_queue_nums:
            raise RemotingError(
                ResponseCode.INVALID_PARAMETER,
                f"queueId[{header.queue_id}] is illegal, topic:[{header.topic}] "
                f"topicConfig.readQueueNums:[{topic.read_queue_nums}]",
            )
        return group

    def _wanted(
        self, header: PullMessageRequestHeader, group_config: SubscriptionGroupConfig
    ) -> MessageFilter | Response:
        group = subscription = None
        if header.sys_flag & PULL_SUBSCRIPTION:
            expression, expression_type = header.subscription, header.expression_type
        else:
            name, topic = header.consumer_group, header.topic
            group = self._consumers.get(name)
            if group is None:
                raise RemotingError(ResponseCode.SUBSCRIPTION_NOT_EXIST, "the consumer's group info not exist")
            if group.is_broadcasting and not group_config.consume_broadcast_enable:
                return _forbidden(FORBIDDEN_BROADCAST, f"the consumer group[{name}] can not consume by broadcast way")
            if self._groups.is_forbidden(name, topic):
                return _forbidden(FORBIDDEN_SUBSCRIPTION, f"the consumer group[{name}] is forbidden for topic[{topic}]")
            subscription = group.subscriptions.get(topic)
            if subscription is None:
                raise RemotingError(ResponseCode.SUBSCRIPTION_NOT_EXIST, "the consumer's subscription not exist")
            if subscription.sub_version < header.sub_version:
                raise RemotingError(ResponseCode.SUBSCRIPTION_NOT_LATEST, "the consumer's subscription not latest")
            expression, expression_type = subscription.sub_string, subscription.expression_type
        if not is_tag_expression(expression_type) and not self._settings.enable_property_filter:
            raise RemotingError(
                ResponseCode.SYSTEM_ERROR,
                f"The broker does not support consumer to filter message by {expression_type}",
            )
        try:
            if group is None or subscription is None:
                return message_filter(expression, expression_type)
            if self._settings.filter_support_retry and names.is_retry_topic(subscription.topic):
                return RetryFilter(group.filter_of_topic)
            return group.filter_for(subscription)
        except ExpressionError as error:
            raise RemotingError(
                ResponseCode.SUBSCRIPTION_PARSE_FAILED, f"parse the consumer's subscription failed: {error}"
            ) from error

    # -- reading -----------------------------------------------------------------------------------------------------

    def _read(self, header: PullMessageRequestHeader, offset: int, wanted: MessageFilter) -> GetResult:
        if self._offsets.has_resets:
            reset = self._offsets.take_reset(header.consumer_group, header.topic, header.queue_id)
            if reset is not None:
                queue = self._store.queue(header.topic, header.queue_id)
                return GetResult(GetStatus.OFFSET_RESET, reset, queue.min_offset, queue.end)
        bytes_max = header.max_msg_bytes
        return self._store.get_messages(
            header.topic,
            header.queue_id,
            offset,
            min(max(header.max_msg_nums, 1), MESSAGE_COUNT_MAX),
            BODY_SIZE_MAX if bytes_max is None or bytes_max > BODY_SIZE_MAX else bytes_max,
            wanted.tags_codes,
            wanted.accept,
        )

    def _found(self, header: PullMessageRequestHeader, result: GetResult, group: SubscriptionGroupConfig) -> Response:
        counters = self._statistics.group(header.consumer_group, header.topic)
        counters.get_nums += result.message_count
        counters.get_size += result.size_bytes
        counters.get_requests += 1
        broker_id = MASTER_ID
        if self._settings.slave_read_enable:
            broker_id = group.which_broker_when_consume_slowly if result.is_cold else group.broker_id
        if self._settings.broker_id != MASTER_ID and not result.is_cold and self.is_master_reachable():
            broker_id = MASTER_ID
        buffers = result.buffers
        return Response(
            0,
            b'{"suggestWhichBrokerId":"%d","nextBeginOffset":"%d","minOffset":"%d","maxOffset":"%d"}'
            % (broker_id, result.next_offset, result.min_offset, result.max_offset),
            "FOUND",
            buffers[0] if len(buffers) == 1 else buffers,  # type: ignore[arg-type]
        )

    @staticmethod
    def _not_found(result: GetResult, offset: int, requested_offset: int) -> Response:
        code = _code(result, offset)
        next_offset = result.next_offset
        if code == _NOT_FOUND and offset > requested_offset:
            # Filtered messages were skipped while waiting: the consumer's position moves on, or it would scan them for ever.
            code = _RETRY
        return Response(
            code,
            b'{"suggestWhichBrokerId":"0","nextBeginOffset":"%d","minOffset":"%d","maxOffset":"%d"}'
            % (next_offset, result.min_offset, result.max_offset),
            _NAMES[result.status],
        )

    def _answer_held(self, pull: HeldPull) -> bool:
        header = pull.header
        result = self._read(header, pull.offset, pull.wanted)
        if result.status is GetStatus.FOUND:
            group = self._groups.find(header.consumer_group)
            if group is None:
                pull.connection.respond(pull.command, _forbidden(FORBIDDEN_GROUP, "the group was deleted"))
            else:
                self._offsets.note_pull(header.consumer_group, header.topic, header.queue_id, result.next_offset)
                pull.connection.respond(pull.command, self._found(header, result, group))
            return True
        if result.status is GetStatus.NO_MATCHED_MESSAGE:
            pull.offset = result.next_offset
            if result.next_offset < result.max_offset:
                # The scan ended at its bound: the client goes on from there at once, nothing would wake the pull for the rest.
                pull.connection.respond(pull.command, self._not_found(result, pull.offset, header.queue_offset))
                return True
            return False
        if _code(result, pull.offset) == _NOT_FOUND:
            return False
        pull.connection.respond(pull.command, self._not_found(result, pull.offset, header.queue_offset))
        return True

    def _give_up(self, pull: HeldPull) -> None:
        """The time is over: one more look, then "nothing" with the offset to go on from."""
        header = pull.header
        result = self._read(header, pull.offset, pull.wanted)
        group = self._groups.find(header.consumer_group)
        if result.status is GetStatus.FOUND and group is not None:
            response = self._found(header, result, group)
        else:
            response = self._not_found(result, pull.offset, header.queue_offset)
        pull.connection.respond(pull.command, response)


def _code(result: GetResult, offset: int) -> int:
    if offset == 0 and result.status in _EMPTY:
        return _NOT_FOUND
    return _CODES[result.status]


def _to_master(result: GetResult) -> Response:
    """A slave that has kept up has nothing: ask the master, which may have more."""
    return Response(
        _RETRY,
        b'{"suggestWhichBrokerId":"0","nextBeginOffset":"%d","minOffset":"%d","maxOffset":"%d"}'
        % (result.next_offset, result.min_offset, result.max_offset),
        _NAMES[result.status],
    )


def _forbidden(kind: int, remark: str) -> Response:
    return Response(
        ResponseCode.NO_PERMISSION,
        PullMessageResponseHeader(
            suggest_which_broker_id=MASTER_ID, next_begin_offset=0, min_offset=0, max_offset=0, forbidden_type=kind
        ),
        remark,
    )

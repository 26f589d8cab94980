"""Requests for messages: 200050 pop, 200052 peek, 200054 notification, 200055 polling info, with long polling."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final

from rocketmq_broker.cold_reads import ATTEMPTS_MAX, fetch, reading
from rocketmq_broker.filters.errors import ExpressionError
from rocketmq_broker.filters.subscriptions import MessageFilter, message_filter, tag_filter
from rocketmq_broker.filters.tags import is_tag_expression
from rocketmq_broker.groups import GroupTable
from rocketmq_broker.pop.held_pops import HeldPop, HeldPops, Line
from rocketmq_broker.pop.journal import Journal
from rocketmq_broker.pop.ordering import OrderedQueues
from rocketmq_broker.pop.taking import BODY_SIZE_MAX, Answer, Source, Taking
from rocketmq_broker.settings import BrokerSettings
from rocketmq_broker.topics import TopicTable
from rocketmq_common import permissions
from rocketmq_common.clock import Clock
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Command, Response
from rocketmq_remoting.connection import Connection, Route
from rocketmq_remoting.errors import RemotingError
from rocketmq_remoting.headers.pop import (
    NotificationRequestHeader,
    PeekMessageRequestHeader,
    PollingInfoRequestHeader,
    PopMessageRequestHeader,
)
from rocketmq_store.consume_queues import ConsumeQueue
from rocketmq_store.residency import Absent
from rocketmq_store.statuses import GetStatus
from rocketmq_store.store import MessageStore

MESSAGE_COUNT_MAX: Final = 32
# A request that waited longer than it wanted to, somewhere between client and here, has nobody who waits for its answer.
LATE_MS_MAX: Final = 500
# The answer "nothing" leaves this much before the client gives up by itself.
EARLY_MS: Final = 50
_POP: Final = "pop"
_NOTIFICATION: Final = "notification"


class PopProcessor:
    """See the module."""

    def __init__(
        self,
        settings: BrokerSettings,
        store: MessageStore,
        topics: TopicTable,
        groups: GroupTable,
        taking: Taking,
        ordered: OrderedQueues,
        journal: Journal,
        held: HeldPops,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._store = store
        self._topics = topics
        self._groups = groups
        self._taking = taking
        self._ordered = ordered
        self._journal = journal
        self._held = held
        self._clock = clock
        self.is_stopping = False
        # Only a broker that takes messages hands them out: what is in flight is written to its log.
        self.is_serving = False

    def routes(self) -> list[Route]:
        """The rows of the table that this processor serves."""
        return [
            Route(RequestCode.POP_MESSAGE, PopMessageRequestHeader, self.pop),
            Route(RequestCode.PEEK_MESSAGE, PeekMessageRequestHeader, reading(self._store, self.peek)),
            Route(RequestCode.NOTIFICATION, NotificationRequestHeader, self.notification),
            Route(RequestCode.POLLING_INFO, PollingInfoRequestHeader, self.polling_info),
        ]

    def pop(
        self, connection: Connection, command: Command, header: PopMessageRequestHeader
    ) -> Response | Awaitable[Response | None] | None:
        """Answer with messages, or keep the request until there are some."""
        outcome = self._pop(connection, command, header)
        return self._pop_later(outcome, connection, command, header) if isinstance(outcome, Absent) else outcome

    async def _pop_later(
        self, absent: Absent, connection: Connection, command: Command, header: PopMessageRequestHeader
    ) -> Response | None:
        for _ in range(ATTEMPTS_MAX):
            await fetch(self._store, absent)
            if connection.is_closed:
                return None
            outcome = self._pop(connection, command, header)
            if not isinstance(outcome, Absent):
                return outcome
            absent = outcome
        return _nothing()

    def _pop(
        self, connection: Connection, command: Command, header: PopMessageRequestHeader
    ) -> Response | Absent | None:
        now_ms = self._clock.now_ms()
        born_ms = header.born_time or now_ms
        if now_ms - born_ms - header.poll_time > LATE_MS_MAX:
            return Response(ResponseCode.POLLING_TIMEOUT, remark="the request is older than the time it may wait")
        self._check(header.consumer_group, header.topic, header.queue_id)
        if not 0 < header.max_msg_nums <= MESSAGE_COUNT_MAX:
            raise RemotingError(
                ResponseCode.INVALID_PARAMETER,
                f"maxMsgNums {header.max_msg_nums}: 1 to {MESSAGE_COUNT_MAX} are allowed",
            )
        if header.invisible_time <= 0:
            raise RemotingError(
                ResponseCode.INVALID_PARAMETER, f"invisibleTime {header.invisible_time} is not positive"
            )
        if self._journal.is_full:
            raise RemotingError(ResponseCode.SYSTEM_BUSY, "[OVERLOAD]system busy: the store takes no pop journal")
        wanted = self._wanted(header.exp, header.exp_type)
        response = self._taking.take(header, wanted)
        if response is not None:
            return response
        if self._taking.absent is not None:
            return self._taking.absent

        def answer() -> bool:
            found = self._taking.take(header, wanted)
            if found is None:
                self._wake_later(header)
                return False
            connection.respond(command, found)
            return True

        def give_up() -> None:
            found = self._taking.take(header, wanted)
            connection.respond(command, _nothing() if found is None else found)

        if header.poll_time <= 0 or self.is_stopping or command.is_oneway:
            return _nothing()
        line = (_POP, header.consumer_group, header.queue_id, header.exp_type, header.exp, header.order)
        held = HeldPop(connection, command, line, answer, give_up)
        if self._hold(held, header, born_ms + header.poll_time - now_ms):
            self._wake_later(header)
            return None
        return Response(ResponseCode.POLLING_FULL, remark=f"{self._held.count} requests are waiting")

    def peek(self, connection: Connection, command: Command, header: PeekMessageRequestHeader) -> Response:
        """The messages that a pop would find, left where they are."""
        self._check(header.consumer_group, header.topic, header.queue_id)
        if not 0 < header.max_msg_nums <= MESSAGE_COUNT_MAX:
            raise RemotingError(
                ResponseCode.INVALID_PARAMETER,
                f"maxMsgNums {header.max_msg_nums}: 1 to {MESSAGE_COUNT_MAX} are allowed",
            )
        answer = Answer()
        for source in self._taking.sources(header.consumer_group, header.topic, header.queue_id, is_ordered=False):
            self._look(answer, header, source)
        ext = (
            b'{"popTime":"%d","invisibleTime":"0","reviveQid":"0","restNum":"%d"}'
            % (self._clock.now_ms(), answer.rest_count)
        )  # fmt: skip
        if not answer.count:
            return Response(ResponseCode.PULL_NOT_FOUND, ext, "no message")
        return Response(0, ext, "FOUND", answer.buffers)

    def notification(
        self, connection: Connection, command: Command, header: NotificationRequestHeader
    ) -> Response | None:
        """Say whether there is something to pop, as soon as there is."""
        self._check(header.consumer_group, header.topic, header.queue_id)
        if self._has_messages(header):
            return _notified(has_messages=True)
        if header.poll_time <= 0 or self.is_stopping or command.is_oneway:
            return _notified(has_messages=False)

        def answer() -> bool:
            if not self._has_messages(header):
                return False
            connection.respond(command, _notified(has_messages=True))
            return True

        def give_up() -> None:
            connection.respond(command, _notified(has_messages=self._has_messages(header)))

        now_ms = self._clock.now_ms()
        line: Line = (_NOTIFICATION, header.consumer_group, header.queue_id, None, None, header.order)
        held = HeldPop(connection, command, line, answer, give_up)
        if self._hold(held, header, (header.born_time or now_ms) + header.poll_time - now_ms):
            return None
        return _notified(has_messages=False, is_full=True)

    def polling_info(self, connection: Connection, command: Command, header: PollingInfoRequestHeader) -> Response:
        """How many requests of the group wait for the queue."""
        self._check(header.consumer_group, header.topic, header.queue_id)
        count = self._held.waiting_count(header.consumer_group, header.topic, header.queue_id)
        return Response(0, b'{"pollingNum":"%d"}' % count)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _check(self, group: str, topic: str, queue_id: int) -> None:
        settings = self._settings
        if not permissions.is_readable(settings.broker_permission):
            raise RemotingError(
                ResponseCode.NO_PERMISSION, f"the broker[{settings.broker_name}] pop message is forbidden"
            )
        if not self.is_serving:
            raise RemotingError(
                ResponseCode.SYSTEM_ERROR,
                f"the broker[{settings.broker_name}] is a slave: messages are popped from masters",
            )
        config = self._topics.configs.get(topic)
        if config is None:
            raise RemotingError(ResponseCode.TOPIC_NOT_EXIST, f"topic[{topic}] not exist, apply first please!")
        if not permissions.is_readable(config.perm):
            raise RemotingError(ResponseCode.NO_PERMISSION, f"the topic[{topic}] pop message is forbidden")
        if not -1 <= queue_id < config.read_queue_nums:
            raise RemotingError(
                ResponseCode.INVALID_PARAMETER,
                f"queueId[{queue_id}] is illegal, topic:[{topic}] topicConfig.readQueueNums:[{config.read_queue_nums}]",
            )
        group_config = self._groups.find(group)
        if group_config is None:
            raise RemotingError(
                ResponseCode.SUBSCRIPTION_GROUP_NOT_EXIST,
                f"subscription group [{group}] does not exist, create it or allow autoCreateSubscriptionGroup",
            )
        if not group_config.consume_enable or self._groups.is_forbidden(group, topic):
            raise RemotingError(ResponseCode.NO_PERMISSION, f"subscription group no permission, {group}")

    def _wanted(self, expression: str | None, expression_type: str | None) -> MessageFilter:
        try:
            if not expression:
                return tag_filter("*")
            if not is_tag_expression(expression_type) and not self._settings.enable_property_filter:
                raise RemotingError(
                    ResponseCode.SYSTEM_ERROR,
                    f"The broker does not support consumer to filter message by {expression_type}",
                )
            return message_filter(expression, expression_type)
        except ExpressionError as error:
            raise RemotingError(
                ResponseCode.SUBSCRIPTION_PARSE_FAILED, f"parse the consumer's subscription failed: {error}"
            ) from error

    def _hold(self, held: HeldPop, header: PopMessageRequestHeader | NotificationRequestHeader, wait_ms: float) -> bool:
        return self._held.hold(held, header.topic, self._watched(header), wait_ms - EARLY_MS)

    def _watched(self, header: PopMessageRequestHeader | NotificationRequestHeader) -> list[ConsumeQueue]:
        group, topic, store = header.consumer_group, header.topic, self._store
        if header.queue_id >= 0:
            queues = [store.queue(topic, header.queue_id)]
        else:
            queues = [store.queue(topic, number) for number in range(self._topics.configs[topic].read_queue_nums)]
        if not header.order:
            queues += [store.queue(retry_topic, 0) for _, retry_topic in self._taking.retry_topics(group, topic)]
        return queues

    def _wake_later(self, header: PopMessageRequestHeader) -> None:
        """Nothing was found, but nothing will be appended either to tell that there is something."""
        absent = self._taking.absent
        if absent is not None and self._store.cold_reader.read(absent, lambda _: self._held.wake(header.topic)):
            return
        if self._taking.is_unfinished:
            self._held.wake(header.topic)
        elif self._taking.blocked_until_ms:
            self._held.wake_at(header.topic, self._taking.blocked_until_ms - self._clock.now_ms())

    def _has_messages(self, header: NotificationRequestHeader) -> bool:
        group, topic = header.consumer_group, header.topic
        blocked_until_ms = 0
        for source in self._taking.sources(group, topic, header.queue_id, is_ordered=header.order):
            bounds = self._store.queue_bounds(source.topic, source.queue_id)
            if bounds is None or self._taking.position(group, source.topic, source.queue_id) >= bounds.max_offset:
                continue
            if header.order:
                until_ms = self._ordered.blocked_until_ms(group, topic, source.queue_id, header.attempt_id)
                if until_ms:
                    blocked_until_ms = min(blocked_until_ms or until_ms, until_ms)
                    continue
            return True
        if blocked_until_ms:
            self._held.wake_at(topic, blocked_until_ms - self._clock.now_ms())
        return False

    def _look(self, answer: Answer, header: PeekMessageRequestHeader, source: Source) -> None:
        bounds = self._store.queue_bounds(source.topic, source.queue_id)
        if bounds is None:
            return
        position = max(
            self._taking.position(header.consumer_group, source.topic, source.queue_id), bounds.min_offset
        )  # fmt: skip
        answer.rest_count += max(bounds.max_offset - position, 0)
        count_max = header.max_msg_nums - answer.count
        if count_max <= 0 or answer.size >= BODY_SIZE_MAX:
            return
        result = self._store.get_messages(
            source.topic, source.queue_id, position, count_max, BODY_SIZE_MAX - answer.size
        )
        if result.status is GetStatus.FOUND:
            answer.buffers += result.buffers
            answer.count += result.message_count
            answer.size += result.size_bytes
            answer.rest_count -= result.next_offset - position


def _nothing() -> Response:
    return Response(ResponseCode.POLLING_TIMEOUT, remark="no message")


def _notified(*, has_messages: bool, is_full: bool = False) -> Response:
    return Response(0, {"hasMsg": str(has_messages).lower(), "pollingFull": str(is_full).lower()})

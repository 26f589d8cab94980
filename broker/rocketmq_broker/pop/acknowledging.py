"""Requests about popped messages: 200051 acknowledge, 200151 acknowledge many, 200053 change the invisible time.

A handle is believed only as far as the broker's own state agrees: broker, queue, offset and pop time must be those of a message in
flight. A handle that came too late is answered with success on an acknowledgement, as in Apache, for the consumer can do nothing
about it; but it does not take back what was given again.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from rocketmq_broker.admin.requests import list_in, object_body
from rocketmq_broker.consumer_offsets import ConsumerOffsets
from rocketmq_broker.pop.held_pops import HeldPops
from rocketmq_broker.pop.ordering import OrderedQueues
from rocketmq_broker.pop.queues import PopQueues
from rocketmq_broker.pop.taking import REVIVE_QUEUE_ID
from rocketmq_broker.settings import BrokerSettings
from rocketmq_broker.topics import TopicTable
from rocketmq_common.clock import Clock
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Command, Response
from rocketmq_remoting.connection import Connection, Route
from rocketmq_remoting.errors import RemotingError
from rocketmq_remoting.headers.pop import (
    AckMessageRequestHeader,
    BatchAck,
    ChangeInvisibleTimeRequestHeader,
    ChangeInvisibleTimeResponseHeader,
)
from rocketmq_remoting.pop_handles import (
    ORDER_REVIVE_QUEUE,
    Handle,
    HandleError,
    decode_bits,
    parse_handle,
    real_topic,
)
from rocketmq_store.store import MessageStore

ACKS_MAX: Final = 4096
INVISIBLE_MS_MAX: Final = 30 * 86_400_000
_LONG_NAMES: Final = {
    "consumerGroup": "c", "topic": "t", "startOffset": "so", "queueId": "q", "popTime": "pt", "bitSet": "b",
    "retry": "r", "reviveQueueId": "rq", "invisibleTime": "it",
}  # fmt: skip


class AcknowledgementProcessor:
    """See the module."""

    def __init__(
        self,
        settings: BrokerSettings,
        store: MessageStore,
        topics: TopicTable,
        offsets: ConsumerOffsets,
        queues: PopQueues,
        ordered: OrderedQueues,
        held: HeldPops,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._store = store
        self._topics = topics
        self._offsets = offsets
        self._queues = queues
        self._ordered = ordered
        self._held = held
        self._clock = clock

    def routes(self) -> list[Route]:
        """The rows of the table that this processor serves."""
        return [
            Route(RequestCode.ACK_MESSAGE, AckMessageRequestHeader, self.acknowledge),
            Route(RequestCode.BATCH_ACK_MESSAGE, None, self.acknowledge_batch),
            Route(RequestCode.CHANGE_MESSAGE_INVISIBLETIME, ChangeInvisibleTimeRequestHeader, self.change),
        ]

    def acknowledge(self, connection: Connection, command: Command, header: AckMessageRequestHeader) -> bytes:
        """The consumer is done with one message."""
        handle = self._handle(header.extra_info, header.queue_id, header.offset)
        group = header.consumer_group
        topic = real_topic(group, header.topic, handle.retry)
        self._check_offset(topic, header.queue_id, header.offset)
        self._settle(
            group, topic, header.queue_id, header.offset, handle.pop_time_ms, is_ordered=handle.is_ordered
        )  # fmt: skip
        return b"{}"

    def acknowledge_batch(self, connection: Connection, command: Command, header: Any) -> Response:
        """The consumer is done with several messages of one or more pops."""
        acks = list_in({"acks": [], **object_body(command)}, "acks")
        if not acks:
            raise RemotingError(ResponseCode.NO_MESSAGE, "the request acknowledges nothing")
        if len(acks) > ACKS_MAX:
            raise RemotingError(ResponseCode.INVALID_PARAMETER, f"{len(acks)} acks: {ACKS_MAX} at most")
        for raw in acks:
            try:
                ack = msgspec.convert(
                    {_LONG_NAMES.get(name, name): value for name, value in raw.items()}, BatchAck, strict=False
                )
                bits = decode_bits(ack.bit_set)
            except (msgspec.ValidationError, HandleError) as error:
                raise RemotingError(ResponseCode.INVALID_PARAMETER, f"acks: {error}") from error
            topic = real_topic(ack.consumer_group, ack.topic, ack.retry)
            self._check_queue(topic, ack.queue_id)
            is_ordered = ack.revive_queue_id == ORDER_REVIVE_QUEUE
            for bit in bits:
                self._settle(
                    ack.consumer_group, topic, ack.queue_id, ack.start_offset + bit, ack.pop_time, is_ordered=is_ordered
                )
        return Response()

    def change(self, connection: Connection, command: Command, header: ChangeInvisibleTimeRequestHeader) -> Response:
        """Have the message come again later, or sooner; the answer makes the new handle."""
        handle = self._handle(header.extra_info, header.queue_id, header.offset)
        group, queue_id, offset = header.consumer_group, header.queue_id, header.offset
        topic = real_topic(group, header.topic, handle.retry)
        self._check_offset(topic, queue_id, offset, is_end_allowed=False)
        if not 0 <= header.invisible_time <= INVISIBLE_MS_MAX:
            raise RemotingError(
                ResponseCode.INVALID_PARAMETER, f"invisibleTime {header.invisible_time}: 0 to {INVISIBLE_MS_MAX} ms"
            )
        if handle.is_ordered:
            visible_ms = self._clock.now_ms() + header.invisible_time
            if not self._ordered.prolong(group, topic, queue_id, offset, handle.pop_time_ms, visible_ms):
                raise _expired(handle)
            self._held.wake(topic)
            answer = ChangeInvisibleTimeResponseHeader(
                pop_time=handle.pop_time_ms,
                invisible_time=visible_ms - handle.pop_time_ms,
                revive_qid=ORDER_REVIVE_QUEUE,
            )
            return Response(0, answer)
        queue = self._queues.find(group, topic, queue_id)
        pop_time_ms = self._queues.prolong(queue, offset, handle.pop_time_ms, header.invisible_time)
        if pop_time_ms is None:
            raise _expired(handle)
        return Response(
            0,
            ChangeInvisibleTimeResponseHeader(
                pop_time=pop_time_ms, invisible_time=header.invisible_time, revive_qid=REVIVE_QUEUE_ID
            ),
        )

    # -- inside ------------------------------------------------------------------------------------------------------

    def _settle(
        self, group: str, topic: str, queue_id: int, offset: int, pop_time_ms: int, *, is_ordered: bool
    ) -> None:
        if is_ordered:
            committed = self._ordered.acknowledge(group, topic, queue_id, offset, pop_time_ms)
            if committed is None:
                self._queues.counters.handle_expired_nums += 1
                return
            self._queues.counters.acked_nums += 1
            self._offsets.commit(group, topic, queue_id, committed)
            if not self._ordered.blocked_until_ms(group, topic, queue_id, None):
                self._held.wake(topic)
            return
        queue = self._queues.find(group, topic, queue_id)
        is_full = queue is not None and len(queue.flying) >= self._settings.pop_inflight_message_threshold
        if self._queues.acknowledge(queue, offset, pop_time_ms) and is_full:
            self._held.wake(topic)

    def _handle(self, text: str, queue_id: int, offset: int) -> Handle:
        try:
            handle = parse_handle(text)
        except HandleError as error:
            raise RemotingError(ResponseCode.INVALID_PARAMETER, str(error)) from error
        if handle.broker_name != self._settings.broker_name or handle.queue_id != queue_id or handle.offset != offset:
            raise RemotingError(
                ResponseCode.INVALID_PARAMETER,
                f"receipt handle {text!r} is not of message {offset} in queue {queue_id} of {self._settings.broker_name}",
            )
        return handle

    def _check_queue(self, topic: str, queue_id: int) -> None:
        config = self._topics.configs.get(topic)
        if config is None:
            raise RemotingError(ResponseCode.TOPIC_NOT_EXIST, f"topic[{topic}] not exist, apply first please!")
        if not 0 <= queue_id < config.read_queue_nums:
            raise RemotingError(
                ResponseCode.MESSAGE_ILLEGAL,
                f"queueId[{queue_id}] is illegal, topic:[{topic}] topicConfig.readQueueNums:[{config.read_queue_nums}]",
            )

    def _check_offset(self, topic: str, queue_id: int, offset: int, *, is_end_allowed: bool = True) -> None:
        self._check_queue(topic, queue_id)
        bounds = self._store.queue_bounds(topic, queue_id)
        low, high = (0, 0) if bounds is None else (bounds.min_offset, bounds.max_offset)
        if offset < low or offset > high or (offset == high and not is_end_allowed):
            raise RemotingError(
                ResponseCode.NO_MESSAGE, f"offset {offset} of topic[{topic}] queue {queue_id} is not in [{low}, {high}]"
            )


def _expired(handle: Handle) -> RemotingError:
    return RemotingError(
        ResponseCode.NO_MESSAGE, f"receipt handle {str(handle)!r} is not valid any more: acknowledged, or given again"
    )

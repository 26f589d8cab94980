"""The requests of a POP consumer and what their answers mean (MQClientAPIImpl.processPopResponse)."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final

import msgspec

from rocketmq_client.errors import ClientError, InvalidArgument, refusal
from rocketmq_client.instance import ClientInstance
from rocketmq_client.messages import MessageView
from rocketmq_common.properties import PROPERTY_POP_CK
from rocketmq_common.records import RecordError, StoredMessage, decode_messages
from rocketmq_remoting.bodies import MessageQueue, SubscriptionData
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Command
from rocketmq_remoting.headers.pop import (
    AckMessageRequestHeader,
    BatchAck,
    BatchAckMessageRequestBody,
    ChangeInvisibleTimeRequestHeader,
    ChangeInvisibleTimeResponseHeader,
    NotificationRequestHeader,
    NotificationResponseHeader,
    PopMessageRequestHeader,
    PopMessageResponseHeader,
)
from rocketmq_remoting.pop_handles import (
    RETRY_NONE,
    Handle,
    HandleError,
    encode_bits,
    parse_handle,
    parse_message_offsets,
    parse_order_counts,
    parse_start_offsets,
    real_topic,
)

ANY_QUEUE: Final = -1
# What an answer may take longer than the time for which the broker holds the request.
ANSWER_MARGIN_MS: Final = 10_000
_NOTHING: Final = frozenset({ResponseCode.POLLING_TIMEOUT, ResponseCode.POLLING_FULL, ResponseCode.PULL_NOT_FOUND})


class PoppedMessage(MessageView):
    """A message that is this consumer's until `invisible_until_ms`. `handle` names the delivery and changes with the time."""

    __slots__ = ("attempts", "handle")

    def __init__(self, stored: StoredMessage, broker_name: str, handle: Handle, attempts: int) -> None:
        super().__init__(stored, MessageQueue(stored.topic, broker_name, handle.queue_id))
        self.handle = handle
        # How often it was delivered before; ordered pops count apart from the message.
        self.attempts = attempts

    @property
    def reconsume_times(self) -> int:
        """How often it was delivered before."""
        return self.attempts

    @property
    def invisible_until_ms(self) -> int:
        """When it is given to somebody again unless it is acknowledged before; ms since the epoch, by the broker's clock."""
        return self.handle.due_ms


class PopRequests:
    """Requests of one group."""

    def __init__(self, instance: ClientInstance, group: str, *, is_ordered: bool, init_mode: int) -> None:
        self._instance = instance
        self._group = group
        self._is_ordered = is_ordered
        self._init_mode = init_mode

    async def pop(
        self,
        subscription: SubscriptionData,
        broker_name: str,
        *,
        count: int,
        invisible_ms: int,
        wait_ms: int,
        attempt_id: str | None = None,
    ) -> list[PoppedMessage]:
        """Messages from any queue of the broker, which holds the request for ``wait_ms`` when there are none.

        Raises BrokerUnavailable, RequestTimeout, RequestRefused.
        """
        header = PopMessageRequestHeader(
            consumer_group=self._group,
            topic=subscription.topic,
            queue_id=ANY_QUEUE,
            max_msg_nums=count,
            invisible_time=invisible_ms,
            poll_time=wait_ms,
            born_time=_now_ms(),
            init_mode=self._init_mode,
            exp_type=subscription.expression_type,
            exp=subscription.sub_string,
            order=self._is_ordered,
            attempt_id=attempt_id,
        )
        answer = await self._call(RequestCode.POP_MESSAGE, header, broker_name, wait_ms + ANSWER_MARGIN_MS)
        if answer.code in _NOTHING:
            return []
        if answer.code != ResponseCode.SUCCESS:
            raise refusal(answer.code, answer.remark, f"pop of {subscription.topic} at {broker_name}")
        try:
            return popped_messages(answer, broker_name)
        except (RecordError, HandleError) as error:
            raise ClientError(f"popped messages of {subscription.topic} at {broker_name}: {error}") from error

    async def notified(self, topic: str, broker_name: str, wait_ms: int) -> bool:
        """Whether there is something to pop, as soon as there is or ``wait_ms`` are over. Raises as `pop`."""
        header = NotificationRequestHeader(
            consumer_group=self._group,
            topic=topic,
            queue_id=ANY_QUEUE,
            poll_time=wait_ms,
            born_time=_now_ms(),
            order=self._is_ordered,
        )
        answer = await self._call(RequestCode.NOTIFICATION, header, broker_name, wait_ms + ANSWER_MARGIN_MS)
        if answer.code != ResponseCode.SUCCESS:
            raise refusal(answer.code, answer.remark, f"notification for {topic} at {broker_name}")
        return answer.header(NotificationResponseHeader).has_msg

    async def acknowledge(self, message: PoppedMessage) -> None:
        """The message is done with. Raises as `pop`."""
        handle = message.handle
        header = AckMessageRequestHeader(
            consumer_group=self._group,
            topic=real_topic(self._group, message.topic, handle.retry),
            queue_id=handle.queue_id,
            extra_info=str(handle),
            offset=handle.offset,
        )
        await self._request(RequestCode.ACK_MESSAGE, header, message.queue.broker_name, b"")

    async def acknowledge_all(self, messages: Iterable[PoppedMessage]) -> None:
        """The messages are done with, at the price of one request a broker. Raises as `pop`."""
        by_broker: dict[str, dict[tuple[str, Handle], list[int]]] = {}
        for message in messages:
            handle = message.handle
            key = (message.topic, handle._replace(offset=0))
            by_broker.setdefault(message.queue.broker_name, {}).setdefault(key, []).append(handle.offset)
        for broker_name, pops in by_broker.items():
            acks = [
                BatchAck(
                    consumer_group=self._group,
                    topic=topic,
                    retry=handle.retry,
                    start_offset=handle.start_offset,
                    queue_id=handle.queue_id,
                    revive_queue_id=handle.revive_queue_id,
                    pop_time=handle.pop_time_ms,
                    invisible_time=handle.invisible_ms,
                    bit_set=encode_bits(offset - handle.start_offset for offset in offsets),
                )
                for (topic, handle), offsets in pops.items()
            ]
            body = msgspec.json.encode(BatchAckMessageRequestBody(broker_name=broker_name, acks=acks))
            await self._request(RequestCode.BATCH_ACK_MESSAGE, None, broker_name, body)

    async def change_invisible_time(self, message: PoppedMessage, invisible_ms: int) -> None:
        """The message comes again ``invisible_ms`` from now; its handle is the new one. Raises as `pop`."""
        if invisible_ms < 0:
            raise InvalidArgument(f"an invisible time of {invisible_ms} ms is negative", hint="0 gives it back at once")
        handle = message.handle
        header = ChangeInvisibleTimeRequestHeader(
            consumer_group=self._group,
            topic=real_topic(self._group, message.topic, handle.retry),
            queue_id=handle.queue_id,
            extra_info=str(handle),
            offset=handle.offset,
            invisible_time=invisible_ms,
        )
        answer = await self._request(
            RequestCode.CHANGE_MESSAGE_INVISIBLETIME, header, message.queue.broker_name, b""
        )  # fmt: skip
        result = answer.header(ChangeInvisibleTimeResponseHeader)
        message.handle = handle._replace(
            start_offset=handle.start_offset if handle.is_ordered else handle.offset,
            pop_time_ms=result.pop_time,
            invisible_ms=result.invisible_time,
            revive_queue_id=result.revive_qid,
        )

    async def _call(
        self, code: int, header: PopMessageRequestHeader | NotificationRequestHeader, broker_name: str, timeout_ms: int
    ) -> Command:
        address = self._instance.routes.master(broker_name)
        return await self._instance.call(address, code, header, broker_name=broker_name, timeout_ms=timeout_ms)

    async def _request(
        self,
        code: int,
        header: AckMessageRequestHeader | ChangeInvisibleTimeRequestHeader | None,
        broker_name: str,
        body: bytes,
    ) -> Command:
        address = self._instance.routes.master(broker_name)
        return await self._instance.request(address, code, header, body, broker_name=broker_name)


def popped_messages(answer: Command, broker_name: str) -> list[PoppedMessage]:
    """The messages of a pop answer with their handles, which the answer's texts give. Raises RecordError, HandleError."""
    header = answer.header(PopMessageResponseHeader)
    starts = parse_start_offsets(header.start_offset_info) if header.start_offset_info else {}
    offsets = parse_message_offsets(header.msg_offset_info) if header.msg_offset_info else {}
    counts = parse_order_counts(header.order_count_info) if header.order_count_info else {}
    positions = dict.fromkeys(offsets, 0)
    found: list[PoppedMessage] = []
    for stored in decode_messages(answer.body):
        properties = stored.property_map()
        given = properties.get(PROPERTY_POP_CK)
        if given is not None:
            # A retried message: the broker names the topic that was asked for, and gives the handle itself.
            handle = parse_handle(given)
        else:
            key = (RETRY_NONE, stored.queue_id)
            offset = stored.queue_offset
            listed = offsets.get(key)
            if listed is not None:
                if positions[key] >= len(listed):
                    raise HandleError(f"queue {stored.queue_id} lists fewer messages than the answer carries")
                offset = listed[positions[key]]
                positions[key] += 1
            handle = Handle(
                starts.get(key, offset), header.pop_time, header.invisible_time, header.revive_qid, RETRY_NONE,
                broker_name, stored.queue_id, offset,
            )  # fmt: skip
        attempts = counts.get((handle.queue_id, handle.offset), stored.reconsume_times)
        found.append(PoppedMessage(stored, broker_name, handle, attempts))
    return found


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

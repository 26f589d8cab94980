"""Finding messages."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from rocketmq_client.admin.access import Access, parse
from rocketmq_client.errors import ClientError, InvalidArgument, MessageNotFound, NotFound, RequestRefused
from rocketmq_client.messages import MessageView, view_messages
from rocketmq_client.offsets import QueueBounds
from rocketmq_client.pulling import PULL_COUNT, Puller, PullResult, PullStatus
from rocketmq_client.routes import Route
from rocketmq_client.subscriptions import subscription
from rocketmq_client.trace_records import TraceEvent, parse_records
from rocketmq_common import names
from rocketmq_common.message_ids import parse_offset_message_id
from rocketmq_common.records import RecordError
from rocketmq_remoting.bodies import MessageQueue
from rocketmq_remoting.codes import RequestCode, ResponseCode

RESULTS_MAX = 64
TIME_MAX_MS = 0x7FFFFFFFFFFFFFFF
DELIVER_TIMEOUT_MS = 15_000  # the broker gives the consumer 10 s


class Messages:
    """``admin.messages``."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def by_offset_id(self, message_id: str, *, topic: str = "") -> MessageView:
        """The message stored at the place that an offset message id names.

        Raises InvalidArgument for a malformed id, MessageNotFound, BrokerUnavailable when the address in the id does not answer.
        """
        try:
            place = parse_offset_message_id(message_id)
        except ValueError as error:
            raise InvalidArgument(str(error)) from error
        host = f"[{place.host}]" if ":" in place.host else place.host
        address = f"{host}:{place.port}"
        header = {"offset": str(place.physical_offset)} | ({"topic": topic} if topic else {})
        try:
            answer = await self._access.ask(address, RequestCode.VIEW_MESSAGE_BY_ID, header)
        except RequestRefused as error:
            raise MessageNotFound(error.code, error.remark, context=f"message {message_id} at {address}") from error
        found = _views([(self._broker_name(address), answer.body)])
        if not found:
            raise MessageNotFound(ResponseCode.QUERY_NOT_FOUND, f"{address} has no message at {place.physical_offset}")
        return found[0]

    async def by_key(
        self, topic: str, key: str, *, count_max: int = RESULTS_MAX, begin_ms: int = 0, end_ms: int = TIME_MAX_MS
    ) -> list[MessageView]:
        """Messages of ``topic`` with this key, oldest first; times are store times in ms. Raises TopicNotFound."""
        found = await self._query(topic, key, count_max, begin_ms, end_ms, unique=False)
        # The index knows hashes only.
        return [view for view in found if key in view.keys][:count_max]

    async def by_unique_id(self, topic: str, message_id: str) -> MessageView:
        """The message whose producer called it ``message_id``; raises TopicNotFound, MessageNotFound."""
        found = await self._query(topic, message_id, RESULTS_MAX, 0, TIME_MAX_MS, unique=True)
        for view in found:
            if view.message_id == message_id:
                return view
        raise MessageNotFound(ResponseCode.QUERY_NOT_FOUND, f"topic {topic} has no message with id {message_id}")

    async def at(self, queue: MessageQueue, offset: int) -> MessageView:
        """The message at a queue offset; raises TopicNotFound, MessageNotFound."""
        result = await self._pull(queue, offset, 1)
        if result.status is PullStatus.FOUND and result.messages and result.messages[0].queue_offset == offset:
            return result.messages[0]
        raise MessageNotFound(
            ResponseCode.QUERY_NOT_FOUND,
            f"{queue.topic} {queue.broker_name}:{queue.queue_id} has no message at {offset}",
            hint=f"it holds {result.min_offset} to {result.max_offset - 1}"
            if result.max_offset > result.min_offset
            else "",
        )

    async def read(
        self, queue: MessageQueue, offset: int, *, count_max: int = PULL_COUNT
    ) -> tuple[list[MessageView], int]:
        """Messages from a queue offset on, without a group, and the offset to go on from; raises TopicNotFound.

        No messages together with a higher offset means that older ones are gone, or that there is nothing in between.
        """
        result = await self._pull(queue, offset, count_max)
        return result.messages, result.next_offset

    async def deliver(self, group: str, client_id: str, message: MessageView) -> dict[str, Any]:
        """Hand a stored message to one connected consumer now; what its listener made of it, in Java's words.

        Raises RequestRefused when the broker of the message does not know the client, RequestTimeout.
        """
        header = {
            "consumerGroup": group,
            "clientId": client_id,
            "msgId": message.offset_message_id,
            "topic": message.topic,
            "brokerName": message.queue.broker_name,
        }
        answer = await self._access.ask(
            message.store_host, RequestCode.CONSUME_MESSAGE_DIRECTLY, header, timeout_ms=DELIVER_TIMEOUT_MS,
            context=f"delivery to {client_id}",
        )  # fmt: skip
        result: dict[str, Any] = parse(answer.body)
        return result

    async def trace(
        self, message_id: str, *, topic: str = names.TRACE_TOPIC, count_max: int = RESULTS_MAX
    ) -> list[TraceEvent]:
        """What producers and consumers wrote into the trace topic about a message, oldest first; raises TopicNotFound."""
        found = await self.by_key(topic, message_id, count_max=count_max)
        events = [event for view in found for event in parse_records(view.body.decode("utf-8", "replace"))]
        return sorted((e for e in events if e.message_id == message_id), key=lambda e: e.time_ms)

    async def bounds(self, queue: MessageQueue) -> tuple[int, int]:
        """(first offset that exists, offset of the next message to come); raises TopicNotFound."""
        await self._access.instance.routes.get(queue.topic)
        bounds = QueueBounds(self._access.instance)
        return await bounds.min_offset(queue), await bounds.max_offset(queue)

    async def offset_at(self, queue: MessageQueue, timestamp_ms: int, *, upper: bool = False) -> int:
        """The offset of the first message stored at or after a time in ms (``upper``: of the last at or before it).

        Raises TopicNotFound.
        """
        await self._access.instance.routes.get(queue.topic)
        return await QueueBounds(self._access.instance).offset_at(queue, timestamp_ms, upper=upper)

    async def _pull(self, queue: MessageQueue, offset: int, count: int) -> PullResult:
        await self._access.instance.routes.get(queue.topic)
        puller = Puller(self._access.instance, names.TOOLS_CONSUMER_GROUP)
        return await puller.pull(
            queue, offset, subscription(queue.topic), count=count, suspend_ms=0, send_subscription=True,
            timeout_ms=self._access.timeout_ms,
        )  # fmt: skip

    async def _query(
        self, topic: str, key: str, count_max: int, begin_ms: int, end_ms: int, *, unique: bool
    ) -> list[MessageView]:
        route = await self._access.instance.routes.fetch(topic)
        header = {
            "topic": topic,
            "key": key,
            "maxNum": str(count_max),
            "beginTimestamp": str(begin_ms),
            "endTimestamp": str(end_ms),
            "_UNIQUE_KEY_QUERY": "true" if unique else "false",
        }

        async def ask(name: str, address: str) -> tuple[str, bytes]:
            try:
                return name, (await self._access.ask(address, RequestCode.QUERY_MESSAGE, header)).body
            except NotFound:
                return name, b""

        answers = await asyncio.gather(*(ask(b.name, b.address) for b in await self._access.masters_of(route)))
        return sorted(_views(answers), key=lambda v: (v.store_timestamp_ms, v.queue, v.queue_offset))

    def _broker_name(self, address: str) -> str:
        routes: Iterable[Route] = self._access.instance.routes
        for route in routes:
            for name, data in route.brokers.items():
                if address in data.broker_addrs.values():
                    return name
        return address


def _views(answers: Iterable[tuple[str, bytes]]) -> list[MessageView]:
    try:
        return [view for name, body in answers for view in view_messages(body, name)]
    except (RecordError, ValueError) as error:
        raise ClientError(f"a message in the answer cannot be read: {error}") from error

"""321: raw entries of a consume queue, with what a group's filter says of each."""

from __future__ import annotations

from typing import Any, Final

from rocketmq_broker.clients.consumers import Consumers
from rocketmq_broker.filters.errors import ExpressionError
from rocketmq_broker.filters.tags import is_tag_expression, tag_codes
from rocketmq_common import javajson
from rocketmq_common.records import RecordError, decode_message
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Command, Response
from rocketmq_remoting.connection import Connection, Route
from rocketmq_remoting.errors import RemotingError
from rocketmq_remoting.headers.admin import QueryConsumeQueueRequestHeader
from rocketmq_store.store import MessageStore

ENTRIES_MAX: Final = 512


class QueueReports:
    """See the module."""

    def __init__(self, consumers: Consumers, store: MessageStore) -> None:
        self._consumers = consumers
        self._store = store

    def routes(self) -> list[Route]:
        """The rows of the table that this part serves."""
        return [Route(RequestCode.QUERY_CONSUME_QUEUE, QueryConsumeQueueRequestHeader, self.entries)]

    def entries(self, _: Connection, __: Command, header: QueryConsumeQueueRequestHeader) -> Response:
        """At most `ENTRIES_MAX` entries from ``index`` on; those whose record is gone say so."""
        bounds = self._store.queue_bounds(header.topic, header.queue_id)
        if bounds is None:
            raise RemotingError(ResponseCode.SYSTEM_ERROR, f"{header.queue_id}@{header.topic} is not exist!")
        subscription = (
            self._consumers.subscription(header.consumer_group, header.topic) if header.consumer_group else None
        )
        codes: frozenset[int] | None = None
        if subscription is not None and is_tag_expression(subscription.expression_type):
            try:
                codes = tag_codes(subscription.sub_string)
            except ExpressionError:
                codes = frozenset()
        queue = self._store.queue(header.topic, header.queue_id)
        start = max(header.index, bounds.min_offset)
        end = min(start + max(0, min(header.count, ENTRIES_MAX)), bounds.max_offset)
        data = []
        for offset in range(start, end):
            try:
                physical_offset, size, tags_code = queue.unit(offset)
            except FileNotFoundError:
                break
            record = self._store.message_at(physical_offset)
            data.append(
                {
                    "eval": codes is None or tags_code in codes,
                    "msg": _description(record),
                    "physicOffset": physical_offset,
                    "physicSize": size,
                    "tagsCode": tags_code,
                }
            )
        body: dict[str, Any] = {
            "maxQueueIndex": bounds.max_offset,
            "minQueueIndex": bounds.min_offset,
            "queueData": data,
        }
        if subscription is not None:
            body["subscriptionData"] = subscription
        return Response(body=javajson.dumps(body))


def _description(record: memoryview | None) -> str:
    if record is None:
        return "message is gone"
    try:
        message = decode_message(record)
    except RecordError as error:
        return f"message cannot be read: {error}"
    return (
        f"topic={message.topic} queueId={message.queue_id} queueOffset={message.queue_offset} "
        f"storeTimestamp={message.store_timestamp} body={len(message.body)} bytes properties={message.properties!r}"
    )

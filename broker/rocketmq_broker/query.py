"""Finding messages: code 12 by key or unique key, code 33 by place in the log."""

from __future__ import annotations

from rocketmq_broker.cold_reads import reading
from rocketmq_broker.settings import BrokerSettings
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Command, Response
from rocketmq_remoting.connection import Connection, Route
from rocketmq_remoting.errors import RemotingError
from rocketmq_remoting.headers.queries import (
    QueryMessageRequestHeader,
    QueryMessageResponseHeader,
    ViewMessageRequestHeader,
)
from rocketmq_store.store import MessageStore

UNIQUE_KEY_QUERY_FIELD = "_UNIQUE_KEY_QUERY"
# Of one answer, well below the 16 MiB that clients take in a frame.
BODY_SIZE_MAX = 8 << 20


class QueryProcessor:
    """See the module."""

    def __init__(self, settings: BrokerSettings, store: MessageStore) -> None:
        self._settings = settings
        self._store = store

    def routes(self) -> list[Route]:
        """The rows of the table that this processor serves."""
        return [
            Route(RequestCode.QUERY_MESSAGE, QueryMessageRequestHeader, reading(self._store, self.query)),
            Route(RequestCode.VIEW_MESSAGE_BY_ID, ViewMessageRequestHeader, reading(self._store, self.view)),
        ]

    def query(self, connection: Connection, command: Command, header: QueryMessageRequestHeader) -> Response:
        """Messages of a topic that carry a key. For a unique key the count is the broker's own, as clients rely on."""
        count_max = max(header.max_num, 1)
        if command.ext_fields().get(UNIQUE_KEY_QUERY_FIELD, "").lower() == "true":
            count_max = self._settings.default_query_max_num
        result = self._store.query(header.topic, header.key, count_max, header.begin_timestamp, header.end_timestamp)
        answer = QueryMessageResponseHeader(
            index_last_update_timestamp=result.index_last_update_timestamp_ms,
            index_last_update_phyoffset=result.index_last_update_physical_offset,
        )
        body: list[bytes | bytearray | memoryview] = []
        size = 0
        for record in result.records:
            size += len(record)
            if body and size > BODY_SIZE_MAX:
                break
            body.append(record)
        if not body:
            return Response(ResponseCode.QUERY_NOT_FOUND, answer, "can not find message, maybe time range not correct")
        return Response(0, answer, body=body)

    def view(self, connection: Connection, command: Command, header: ViewMessageRequestHeader) -> Response:
        """The message at a commit log offset, which an offset message id names."""
        record = self._store.message_at(header.offset)
        if record is None:
            raise RemotingError(ResponseCode.SYSTEM_ERROR, f"can not find message by the offset, {header.offset}")
        return Response(body=record)

"""Timer messages of the fake broker: they wait in memory and come when they are due, unless they are recalled."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from rocketmq_common import properties as props
from rocketmq_common.recall_handles import RecallHandle, decode_recall_handle
from rocketmq_common.records import StoredMessage
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Command, Response
from rocketmq_remoting.connection import Connection, Route
from rocketmq_remoting.errors import RemotingError
from rocketmq_remoting.headers.recall import RecallMessageRequestHeader, RecallMessageResponseHeader

if TYPE_CHECKING:
    from rocketmq_testkit.fake_broker import FakeBroker


class FakeTimers:
    """``waiting``: unique key → message."""

    def __init__(self, broker: FakeBroker) -> None:
        self._broker = broker
        self.waiting: dict[str, StoredMessage] = {}

    def routes(self) -> list[Route]:
        """The rows of the fake broker's table."""
        return [Route(RequestCode.RECALL_MESSAGE, RecallMessageRequestHeader, self._recall)]

    def put(self, message: StoredMessage) -> str | None:
        """Keep ``message`` until it is due and return its recall handle; ``None``, with nothing done, for one without a timer."""
        find, text = props.find_property, message.properties
        delay, deliver = find(text, props.PROPERTY_TIMER_DELAY_MS), find(text, props.PROPERTY_TIMER_DELIVER_MS)
        if delay is None and deliver is None:
            return None
        now_ms = time.time_ns() // 1_000_000
        due_ms = int(deliver) if deliver is not None else now_ms + int(delay or 0)
        key = find(text, props.PROPERTY_UNIQUE_KEY) or ""
        self.waiting[key] = message
        assert self._broker.server is not None, "the broker is stopped"

        async def later() -> None:
            await asyncio.sleep(max(due_ms - now_ms, 0) / 1000)
            if self.waiting.pop(key, None) is message:
                self._broker.put(message)

        self._broker.server.tasks.start(later(), "timer message")
        return RecallHandle(message.topic, self._broker.name, due_ms, key).encode()

    def _recall(self, connection: Connection, command: Command, header: RecallMessageRequestHeader) -> Response:
        try:
            key = decode_recall_handle(header.recall_handle).unique_key
        except ValueError as error:
            raise RemotingError(ResponseCode.ILLEGAL_OPERATION, str(error)) from error
        if self.waiting.pop(key, None) is None:
            raise RemotingError(ResponseCode.ILLEGAL_OPERATION, "recall failed, timestamp invalid")
        return Response(ResponseCode.SUCCESS, RecallMessageResponseHeader(msg_id=key))

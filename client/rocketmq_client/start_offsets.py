"""Where a group begins on a queue that it never consumed."""

from __future__ import annotations

import time
from enum import Enum
from typing import Final

from rocketmq_client.offsets import QueueBounds
from rocketmq_common import names
from rocketmq_remoting import bodies
from rocketmq_remoting.bodies import MessageQueue

LOOKBACK_MS: Final = 30 * 60 * 1000  # of ConsumeFrom.TIMESTAMP without a time


class ConsumeFrom(Enum):
    """Which message is the first; retry topics are always consumed whole, except from a time on."""

    LAST = bodies.CONSUME_FROM_LAST_OFFSET
    FIRST = bodies.CONSUME_FROM_FIRST_OFFSET
    TIMESTAMP = bodies.CONSUME_FROM_TIMESTAMP


class StartOffsets:
    """Decides for one consumer. Without ``timestamp_ms``, a time means half an hour before the consumer was made."""

    def __init__(self, consume_from: ConsumeFrom, timestamp_ms: int | None) -> None:
        self.consume_from = consume_from
        self._timestamp_ms = time.time_ns() // 1_000_000 - LOOKBACK_MS if timestamp_ms is None else timestamp_ms

    async def offset(self, bounds: QueueBounds, queue: MessageQueue) -> int:
        """The first offset to pull (RebalancePushImpl.computePullFromWhere); raises ClientError."""
        is_retry = names.is_retry_topic(queue.topic)
        if self.consume_from is ConsumeFrom.FIRST or (is_retry and self.consume_from is ConsumeFrom.LAST):
            return 0  # the broker corrects it when older messages are gone
        if self.consume_from is ConsumeFrom.LAST or is_retry:
            return await bounds.max_offset(queue)
        return await bounds.offset_at(queue, self._timestamp_ms)

"""Finding messages by place, key and time."""

from __future__ import annotations

import struct
from enum import Enum

from rocketmq_common.properties import PROPERTY_KEYS, PROPERTY_UNIQUE_KEY, find_property, split_keys
from rocketmq_common.records import RecordError, decode_message
from rocketmq_store.commit_log import CommitLog
from rocketmq_store.consume_queues import ConsumeQueue
from rocketmq_store.dispatch import Dispatcher
from rocketmq_store.positions import Positions
from rocketmq_store.residency import Residency
from rocketmq_store.statuses import QueryResult

_LONG = struct.Struct(">q")
_INT = struct.Struct(">i")
# Index entries looked at for one query: hash collisions and expired messages must not make it endless.
QUERY_SCAN_COUNT_MAX = 16_384


class Boundary(Enum):
    """Which of several messages around a time is meant (BoundaryType; names as on the wire)."""

    LOWER = "lower"
    UPPER = "upper"


def store_timestamp_of(record: memoryview) -> int:
    """Store time of a record in ms."""
    (sys_flag,) = _INT.unpack_from(record, 36)
    return int(_LONG.unpack_from(record, 68 if sys_flag & 0x10 else 56)[0])


class Searcher:
    """Used by the writer thread only."""

    def __init__(self, log: CommitLog, positions: Positions, residency: Residency, dispatcher: Dispatcher) -> None:
        self._log = log
        self._residency = residency
        self._positions = positions
        self._dispatcher = dispatcher

    def message_at(self, physical_offset: int) -> memoryview | None:
        """See `MessageStore.message_at`."""
        record = self._log.record_at(physical_offset)
        if record is None or physical_offset + len(record) > self._positions.readable:
            return None
        return record

    def query(self, topic: str, key: str, count_max: int, begin_ms: int, end_ms: int) -> QueryResult:
        """See `MessageStore.query`."""
        index = self._dispatcher.index
        while index.pending:
            before = len(index.pending)
            if self._dispatcher.build_index() >= before:
                break
        found: dict[int, memoryview] = {}
        for number, physical_offset in enumerate(index.offsets(topic, key, begin_ms, end_ms, self._residency)):
            if len(found) >= count_max or number >= QUERY_SCAN_COUNT_MAX:
                break
            record = self.message_at(physical_offset)
            if record is not None and self._carries(record, topic, key, begin_ms, end_ms):
                found[physical_offset] = record
        last = index.files[-1] if index.files else None
        return QueryResult(
            [found[offset] for offset in sorted(found)],
            last.end_ms if last is not None else 0,
            last.end_offset if last is not None else 0,
        )

    def offset_by_time(self, queue: ConsumeQueue, time_ms: int, boundary: Boundary) -> int:
        """See `MessageStore.offset_by_time`."""
        low, high = queue.min_offset, queue.end
        is_lower = boundary is Boundary.LOWER
        while low < high:
            middle = (low + high) // 2
            stored = self.store_time(queue, middle)
            # A message that is gone counts as older than any time.
            if stored < time_ms or (stored == time_ms and not is_lower):
                low = middle + 1
            else:
                high = middle
        if is_lower:
            return low
        return max(low - 1, queue.min_offset)

    def store_time(self, queue: ConsumeQueue, offset: int) -> int:
        """Store time of a message in ms; -1 when it is not there."""
        if not queue.min_offset <= offset < queue.end:
            return -1
        try:
            physical_offset = queue.unit(offset)[0]
        except FileNotFoundError:
            return -1
        record = self._log.record_at(physical_offset)
        return -1 if record is None else store_timestamp_of(record)

    @staticmethod
    def _carries(record: memoryview, topic: str, key: str, begin_ms: int, end_ms: int) -> bool:
        try:
            message = decode_message(record)
        except RecordError:
            return False
        if message.topic != topic or not begin_ms <= message.store_timestamp <= end_ms:
            return False
        if find_property(message.properties, PROPERTY_UNIQUE_KEY) == key:
            return True
        keys = find_property(message.properties, PROPERTY_KEYS)
        return keys is not None and key in split_keys(keys)

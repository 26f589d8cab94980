"""What was in flight, read back from the journal at a start.

The journal is complete for every queue with unsettled messages from `journal_first` on, so it says by itself what is settled. The
stored offset of the group is older than that after a kill, and newer where a consumer that pulls committed meanwhile.
"""

from __future__ import annotations

import logging
from typing import Any, Final

import msgspec

from rocketmq_broker.pop.flights import Flight, PopQueue
from rocketmq_broker.pop.journal import JOURNAL_QUEUE_ID, JOURNAL_TAG, POPPED, SETTLED, SNAPSHOT
from rocketmq_common.properties import PROPERTY_TAGS, find_property
from rocketmq_common.records import RecordError, decode_messages
from rocketmq_store.store import MessageStore

logger = logging.getLogger(__name__)

READ_BATCH: Final = 256
Key = tuple[str, str, int]

_decode = msgspec.json.Decoder().decode


def replay(store: MessageStore, topic: str, start: int) -> dict[Key, PopQueue]:
    """The queues that the journal tells of, from its record ``start`` on, by (group, topic, queue id)."""
    queues: dict[Key, PopQueue] = {}
    queue = store.queue(topic, JOURNAL_QUEUE_ID)
    offset, end = min(max(start, queue.min_offset), queue.end), queue.end
    while offset < end:
        got = store.get_messages(topic, JOURNAL_QUEUE_ID, offset, READ_BATCH)
        for buffer in got.buffers:
            try:
                for message in decode_messages(buffer):
                    if find_property(message.properties, PROPERTY_TAGS) == JOURNAL_TAG:
                        _apply_record(queues, message.body, message.queue_offset)
            except RecordError as error:
                logger.error("pop journal from record %d on cannot be read: %s", offset, error)
        offset = max(got.next_offset, offset + 1)
    for state in queues.values():
        state.advance()
    return queues


def _apply_record(queues: dict[Key, PopQueue], body: bytes, number: int) -> None:
    for line in body.split(b"\n"):
        try:
            _apply(queues, _decode(line), number)
        except (msgspec.DecodeError, ValueError, TypeError, IndexError, AttributeError) as error:
            logger.error("record %d of the pop journal holds a line that cannot be read: %s", number, error)


def _apply(queues: dict[Key, PopQueue], line: list[Any], number: int) -> None:
    kind, group, topic, queue_id = line[:4]
    key = (group, topic, queue_id)
    queue = queues.get(key)
    if kind == POPPED:
        start, next_offset, pop_time_ms, invisible_ms, offsets = line[4:]
        if queue is None:
            queue = queues[key] = _new(key, start, number)
        if start > queue.next_offset:
            logger.warning("record %d of the pop journal does not join on: its messages will be popped again", number)
            return
        _depart(queue, pop_time_ms, invisible_ms, offsets, next_offset)
    elif kind == SETTLED:
        if queue is not None:
            for offset in line[4]:
                flight = queue.flying.pop(offset, None)
                if flight is not None:
                    flight.count -= 1
    elif kind == SNAPSHOT:
        committed, next_offset, flights = line[4:]
        queue = queues[key] = _new(key, committed, number)
        queue.next_offset = next_offset
        for pop_time_ms, invisible_ms, offsets in flights:
            _depart(queue, pop_time_ms, invisible_ms, offsets, next_offset)
    if queue is not None:
        if queue.is_idle:
            queue.journal_first = -1
        elif queue.journal_first < 0:
            queue.journal_first = number


def _new(key: Key, offset: int, number: int) -> PopQueue:
    queue = PopQueue(*key, offset)
    queue.journal_first = number
    return queue


def _depart(queue: PopQueue, pop_time_ms: int, invisible_ms: int, offsets: list[int], next_offset: int) -> None:
    # A message whose invisible time was changed leaves the flight that it was in.
    for offset in offsets:
        older = queue.flying.get(offset)
        if older is not None:
            older.count -= 1
    queue.depart(Flight(queue, pop_time_ms, invisible_ms, offsets), next_offset)
    queue.journaled_next = queue.next_offset
